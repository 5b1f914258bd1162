"""Twin delayed deterministic policy gradients, with any head in the critics.

TD3 (Fujimoto et al., 2018), and on datasets TD3+BC (Fujimoto & Gu, 2021) and ReBRAC (Tarasov et al.,
2023), which hold the policy near the data's actions.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from pydantic import Field

from agents import actor_critic
from agents.actor_critic import ActorCriticConfig, Rule, Step
from agents.parts import Algorithm
from valuelearn import ensembles
from valuelearn.config import Section
from valuelearn.types import EnvSpec, LearnerState, Metrics, Params, Sample


class BehaviorConfig(Section):
    """How the policy is held near the data's actions."""

    actor_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the squared distance from the data's action in the actor's loss, beside values whose mean
    size is brought to `value_scale`."""
    value_scale: Annotated[float, Field(gt=0)] = 2.5
    """Mean size that values are brought to in the actor's loss: 2.5 in TD3+BC, 1 in ReBRAC."""
    distance: Literal["mean", "sum"] = "mean"
    """Squares of an action's numbers: their mean (TD3+BC) or their sum (ReBRAC)."""
    critic_weight: Annotated[float, Field(ge=0)] = 0.0
    """Return units taken off a target for a unit of squared distance between the action that follows and the
    data's (ReBRAC)."""


class TD3Config(ActorCriticConfig):
    """A deterministic actor-critic with any head."""

    name: Literal["td3"] = "td3"
    """The algorithm."""
    actor_rule: ensembles.Rule = "lowest"
    """What the actor ascends: the lowest value of all critics, or their mean."""
    exploration_noise: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the noise on actions while training, where they lie within [-1, 1]."""
    target_noise: Annotated[float, Field(ge=0)] = 0.2
    """Standard deviation of the noise on the action that follows, in targets."""
    noise_clip: Annotated[float, Field(ge=0)] = 0.5
    """Most noise on that action."""
    policy_period: Annotated[int, Field(gt=0)] = 2
    """Updates of the critics for one of the actor and of the target networks."""
    behavior: BehaviorConfig | None = None
    """What holds the policy near a dataset's actions; none for nothing."""

    @property
    def learns_returns(self) -> bool:
        """Whether no distance is taken off the rewards."""
        return (self.behavior is None or not self.behavior.critic_weight) and super().learns_returns

    @property
    def needs_dataset(self) -> bool:
        """Whether recorded actions are kept to."""
        return self.behavior is not None


def make(config: TD3Config, spec: EnvSpec, total_steps: int, collect_steps: int) -> Algorithm:
    """The algorithm for environments of that shape."""
    critics, actor = config.critics(), config.network.actor(spec.action_size)
    optimizer, actor_optimizer = config.optimizers()
    behavior = config.behavior

    def init(key: jax.Array, obs: jax.Array) -> dict[str, Params]:
        actor_key, critic_key = jax.random.split(key)
        return {
            "actor": actor.init(actor_key, obs),
            "critics": critics.all.init(critic_key, obs, jnp.zeros((len(obs), spec.action_size))),
        }

    def action_of(part: Params, obs: jax.Array) -> jax.Array:
        return jnp.tanh(actor.apply(part, obs))

    def act(params: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        action = action_of(params["actor"], obs)
        noise = config.exploration_noise * jax.random.normal(key, action.shape)
        return jnp.clip(action + noise, -1.0, 1.0)

    def greedy(params: Params, obs: jax.Array) -> jax.Array:
        return action_of(params["actor"], obs)

    def value(params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return critics.value(params["critics"], obs, action, config.actor_rule)

    def values(params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return critics.values(params["critics"], obs, action)

    def critic_loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        noise_key, subset_key = jax.random.split(key)
        action = action_of(state.target_params["actor"], sample.transition.next_obs)
        noise = config.target_noise * jax.random.normal(noise_key, action.shape)
        action = jnp.clip(action + jnp.clip(noise, -config.noise_clip, config.noise_clip), -1.0, 1.0)
        cost = jnp.zeros(len(action))
        if behavior is not None and behavior.critic_weight:
            cost = behavior.critic_weight * _distance(behavior, action, sample.transition.next_action)
        fitted, fit = critics.targets(state.target_params["critics"], sample, action, cost, subset_key)
        loss, found = critics.loss(part, sample, fitted)
        return loss, found | jax.tree.map(jnp.mean, fit)._asdict()

    def actor_loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        action = action_of(part, sample.transition.obs)
        values = value(state.params, sample.transition.obs, action)
        if behavior is None:
            return -values.mean(), {}
        scale = behavior.value_scale / jax.lax.stop_gradient(jnp.abs(values).mean())
        distance = _distance(behavior, action, sample.transition.action).mean()
        return behavior.actor_weight * distance - scale * values.mean(), {}

    every = config.policy_period
    steps = (Step("critics", critic_loss, optimizer), Step("actor", actor_loss, actor_optimizer, every))
    parts = ("critics", "actor")
    rule = Rule(init, steps, act, greedy, value, values, targets=parts, target_every=every)
    return actor_critic.make(config, spec, total_steps, collect_steps, rule)


def _distance(config: BehaviorConfig, action: jax.Array, other: jax.Array | None) -> jax.Array:
    """Squared distance [B] between actions [B, D]."""
    assert other is not None
    squares = jnp.square(action - other)
    return squares.mean(-1) if config.distance == "mean" else squares.sum(-1)
