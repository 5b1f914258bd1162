"""Agents that learn from recorded actions alone: behaviour cloning and implicit Q-learning.

Others that learn from datasets are settings of `agents/sac.py` (SAC-N, EDAC, CQL, Cal-QL),
`agents/td3.py` (TD3+BC, ReBRAC) and `agents/dqn.py` (discrete CQL).
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field, model_validator

from agents import actor_critic
from agents.actor_critic import ActorCriticConfig, LearnerConfig, Rule, Step
from agents.parts import Algorithm
from valuelearn.config import Misfit
from valuelearn.policies import bounded, gaussian_log_prob
from valuelearn.types import EnvSpec, LearnerState, Metrics, Params, Sample

_LARGEST_WEIGHT = 100.0  # Of an item in the actor's loss, as in Kostrikov et al. (2022).


class BCConfig(LearnerConfig):
    """Behaviour cloning: the squared error between the policy's action and the data's."""

    name: Literal["bc"] = "bc"
    """The algorithm."""

    @property
    def needs_dataset(self) -> bool:
        """Yes."""
        return True


class IQLConfig(ActorCriticConfig):
    """Implicit Q-learning (Kostrikov et al., 2022), with any head in the critics.

    `target_rule` is of what they say of the data's actions.
    """

    name: Literal["iql"] = "iql"
    """The algorithm."""
    expectile: Annotated[float, Field(gt=0.5, lt=1)] = 0.7
    """Of the values of the data's actions, what a state is worth; 1 would be the best of them."""
    sharpness: Annotated[float, Field(ge=0)] = 3.0
    """How much more an action counts for the policy with each unit of return that it is better; 0 clones."""
    deterministic: bool = False
    """Whether the actor is fitted by squared error in place of a Gaussian's likelihood."""
    decay_updates: Annotated[int, Field(gt=0)] | None = 1_000_000
    """Updates over which the actor's step size falls to 0 along a cosine; none keeps it."""

    @property
    def needs_dataset(self) -> bool:
        """Yes."""
        return True

    @model_validator(mode="after")
    def _heeded(self) -> "IQLConfig":
        for name in ("target_critics", "dropped_quantiles"):
            if (found := getattr(self, name)) is not None:
                raise Misfit(name, found, "targets are of state values, not of critics; null is wanted")
        return self


def make_bc(config: BCConfig, spec: EnvSpec, total_steps: int, collect_steps: int) -> Algorithm:
    """Behaviour cloning for environments of that shape."""
    actor, optimizer = config.network.actor(spec.action_size), config.optimizer.make()

    def init(key: jax.Array, obs: jax.Array) -> dict[str, Params]:
        return {"actor": actor.init(key, obs)}

    def greedy(params: Params, obs: jax.Array) -> jax.Array:
        return jnp.tanh(actor.apply(params["actor"], obs))

    def loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        errors = jnp.square(greedy({"actor": part}, sample.transition.obs) - sample.transition.action).mean(
            -1
        )
        return errors.mean(), {"loss": errors.mean(), "priority": errors}

    rule = Rule(
        init,
        [Step("actor", loss, optimizer)],
        act=lambda params, obs, key: greedy(params, obs),
        greedy=greedy,
        value=lambda params, obs, action: jnp.full(len(obs), jnp.nan),  # It judges nothing.
        targets=(),
    )
    return actor_critic.make(config, spec, total_steps, collect_steps, rule)


def make_iql(config: IQLConfig, spec: EnvSpec, total_steps: int, collect_steps: int) -> Algorithm:
    """Implicit Q-learning for environments of that shape."""
    critics, actor, state_value = (
        config.critics(),
        config.network.actor(spec.action_size),
        config.network.critic(1),
    )
    optimizer, _ = config.optimizers()
    of_actor = config.actor_optimizer or config.optimizer
    actor_optimizer = of_actor.make()
    if config.decay_updates is not None:
        # Adam's steps are in proportion to its rate: scaled after it, they decay as the rate would.
        cosine = optax.cosine_decay_schedule(1.0, config.decay_updates)
        actor_optimizer = optax.chain(actor_optimizer, optax.scale_by_schedule(cosine))

    def init(key: jax.Array, obs: jax.Array) -> dict[str, Params]:
        actor_key, critic_key, value_key = jax.random.split(key, 3)
        return {
            "actor": {"mean": actor.init(actor_key, obs), "log_std": jnp.zeros(spec.action_size)},
            "critics": critics.all.init(critic_key, obs, jnp.zeros((len(obs), spec.action_size))),
            "value": state_value.init(value_key, obs),
        }

    def greedy(params: Params, obs: jax.Array) -> jax.Array:
        return jnp.tanh(actor.apply(params["actor"]["mean"], obs))

    def act(params: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        mean = greedy(params, obs)
        if config.deterministic:
            return mean
        std = jnp.exp(bounded(params["actor"]["log_std"]))
        return jnp.clip(mean + std * jax.random.normal(key, mean.shape), -1.0, 1.0)

    def worth(part: Params, obs: jax.Array) -> jax.Array:
        return state_value.apply(part, obs)[:, 0]

    def advantage(part: Params, state: LearnerState, sample: Sample) -> jax.Array:
        """By how much the data's actions are better than a state's value, [B]."""
        obs, action = sample.transition.obs, sample.transition.action
        held = critics.value(state.target_params["critics"], obs, action, config.target_rule)
        return held - worth(part, obs)

    def critic_loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        transition = sample.transition
        following = worth(state.params["value"], transition.next_obs)
        fitted, fit = critics.certain(transition.reward + transition.discount * following)
        loss, found = critics.loss(part, sample, fitted)
        return loss, found | jax.tree.map(jnp.mean, fit)._asdict()

    def actor_loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        weight = jnp.exp(config.sharpness * advantage(state.params["value"], state, sample))
        weight = jnp.minimum(weight, _LARGEST_WEIGHT)
        mean = jnp.tanh(actor.apply(part["mean"], sample.transition.obs))
        action = sample.transition.action
        if config.deterministic:
            return (weight * jnp.square(mean - action).sum(-1)).mean(), {}
        return -(weight * gaussian_log_prob(mean, bounded(part["log_std"]), action)).mean(), {}

    def value_loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        better = advantage(part, state, sample)
        weight = jnp.where(better < 0, 1 - config.expectile, config.expectile)
        return (weight * jnp.square(better)).mean(), {}

    # State values come last: critics and the actor read what they were before the update.
    steps = (
        Step("critics", critic_loss, optimizer),
        Step("actor", actor_loss, actor_optimizer),
        Step("value", value_loss, optimizer),
    )
    rule = Rule(
        init,
        steps,
        act,
        greedy,
        value=lambda params, obs, action: critics.value(params["critics"], obs, action, config.target_rule),
    )
    return actor_critic.make(config, spec, total_steps, collect_steps, rule)
