"""Soft actor-critic, in which the critic's head is an option like any other.

SAC (Haarnoja et al., 2018, 2018b), REDQ (Chen et al., 2021; more critics and updates, a random few of them in
each target), SAC-N and EDAC (An et al., 2021; the lowest of many, and those made unlike) and TQC (Kuznetsov
et al., 2020; pooled quantiles without the highest) are settings of `SACConfig`.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field, model_validator

from agents.parts import Algorithm, HeadConfig, OptimizerConfig, ReplayConfig, update_metrics
from valuelearn import backups, ensembles, heads, networks, replay
from valuelearn.config import Misfit, Section
from valuelearn.policies import epsilon_greedy, tanh_gaussian
from valuelearn.types import Agent, EnvSpec, LearnerState, Metrics, Params, Sample, Transition


class ControlNetworkConfig(Section):
    """The actor's network and each critic's."""

    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (256, 256)
    """Units of each hidden layer."""
    init: networks.InitName = "fan_in_uniform"
    """Initial weights; fan_in_uniform is PyTorch's."""
    layer_norm: bool = False
    """LayerNorm before each hidden activation of the critics."""
    last_scale: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the critics' last initial weights; 0 starts every value at the support's middle."""

    def check(self, obs_shape: tuple[int, ...]) -> None:
        """Refuse observations that are not vectors.

        Raises:
            Misfit: with the shape that was found.
        """
        if len(obs_shape) != 1:
            reason = f"these networks read vectors, but an observation has the shape {obs_shape}"
            raise Misfit("agent.network.hidden", list(self.hidden), reason, "env.id")


class SACConfig(Section):
    """A soft actor-critic with any head."""

    name: Literal["sac"] = "sac"
    """The algorithm."""
    head: heads.Name = "mse"
    """The critics' head and so their loss: the one word to change."""
    head_options: HeadConfig = HeadConfig()
    """Support, smoothing and the like; what does not concern the head is ignored."""
    network: ControlNetworkConfig = ControlNetworkConfig()
    """The networks."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4, epsilon=1e-8)
    """The optimiser of actor, critics and temperature."""
    replay: ReplayConfig = ReplayConfig(warmup_steps=10_000, batch_size=256)
    """The replay; actions are uniform until it is warmed up."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Discount per agent step."""
    num_critics: Annotated[int, Field(gt=0)] = 2
    """Critics; 2 in SAC, 10 in REDQ, up to 500 in SAC-N."""
    target_critics: Annotated[int, Field(gt=0)] | None = None
    """Critics drawn anew for the targets of each update (2 in REDQ); none for all."""
    target_rule: ensembles.Rule = "lowest"
    """What targets take of those critics: the output whose mean is lowest, or the mean of all."""
    dropped_quantiles: Annotated[int, Field(ge=0)] | None = None
    """Highest quantiles for each critic that pooled targets leave out (head qr; TQC drops 2 of 25 in most
    tasks); none for `target_rule`."""
    actor_rule: ensembles.Rule = "lowest"
    """What the actor ascends: the lowest value of all critics, or their mean (REDQ, TQC)."""
    diversity: Annotated[float, Field(ge=0)] = 0.0
    """Weight in the critics' loss of how alike their action gradients are (EDAC's eta)."""
    updates_per_step: Annotated[int, Field(gt=0)] = 1
    """Updates for each agent step; 20 in REDQ."""
    target_tau: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Polyak weight of the new parameters after each update."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Return units for a unit of entropy at the beginning; it is learnt."""
    target_entropy: float = -1.0
    """Entropy per number of an action that the temperature is adjusted for."""

    @property
    def learns_returns(self) -> bool:
        """No: the entropy is part of the values."""
        return False

    def check(self, num_envs: int, collect_steps: int) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            Misfit: naming those that do not.
        """
        self.replay.check(num_envs)

    @model_validator(mode="after")
    def _possible(self) -> "SACConfig":
        if self.head == "iqn":
            raise Misfit("head", self.head, "its fractions do not enter these critics; use qr")
        if self.target_critics is not None and self.target_critics > self.num_critics:
            reason = f"at most num_critics = {self.num_critics} is wanted"
            raise Misfit("target_critics", self.target_critics, reason, "num_critics")
        if self.dropped_quantiles is not None:
            if self.head != "qr":
                reason = f"{self.head} has no quantiles to drop; use qr"
                raise Misfit("dropped_quantiles", self.dropped_quantiles, reason, "head")
            if self.dropped_quantiles >= (held := self.head_options.num_quantiles):
                reason = f"fewer than head_options.num_quantiles = {held} is wanted"
                raise Misfit(
                    "dropped_quantiles", self.dropped_quantiles, reason, "head_options.num_quantiles"
                )
        if self.diversity and self.num_critics == 1:
            raise Misfit("diversity", self.diversity, "one critic is like itself", "num_critics")
        return self


def soft_target(
    head: heads.Head,
    together: Callable[[jax.Array], jax.Array],
    next_out: jax.Array,
    next_log_prob: jax.Array,
    temperature: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
) -> tuple[jax.Array, heads.SupportFit]:
    """What the critics are fitted to after one transition, and how the support suits it.

    `next_out` [K, N] are target critics' outputs for an action drawn after it, of which `together` makes one;
    `next_log_prob` [] is the logarithm of its density. The entropy is part of the return: it is there
    before the support cuts anything off, and a terminated episode has none to come.
    """
    chosen = together(next_out)
    backup = backups.summed(reward - discount * temperature * next_log_prob, discount)
    return head.target(chosen, backup), heads.support_fit(head, *heads.backed_up(head, chosen, backup))


def make(config: SACConfig, spec: EnvSpec, total_steps: int, collect_steps: int) -> Algorithm:
    """The algorithm for environments of that shape."""
    head = config.head_options.make(config.head)
    net = config.network
    actor = networks.actor(spec.action_size, hidden=net.hidden, init=net.init, layer_norm=False)
    one_critic = networks.critic(head, **net.model_dump())
    critics = ensembles.ensemble(one_critic, config.num_critics)
    optimizer = config.optimizer.make()
    drawn = config.target_critics or config.num_critics
    if config.dropped_quantiles is None:
        in_targets = partial(ensembles.together, head, rule=config.target_rule)
    else:
        in_targets = partial(ensembles.truncated, dropped=config.dropped_quantiles)
    wanted_entropy = config.target_entropy * spec.action_size

    def init(key: jax.Array, obs: jax.Array) -> LearnerState:
        key, actor_key, critic_key = jax.random.split(key, 3)
        action = jnp.zeros((len(obs), spec.action_size))
        params = {
            "actor": actor.init(actor_key, obs),
            "critics": critics.init(critic_key, obs, action),
            "log_temperature": jnp.log(jnp.float32(config.temperature)),
        }
        target_params = jax.tree.map(jnp.copy, params["critics"])
        opt_state = {name: optimizer.init(part) for name, part in params.items()}
        return LearnerState(params, target_params, opt_state, key, jnp.int32(0))

    def sampled(params: Params, obs: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = actor.apply(params, obs)
        return tanh_gaussian(out[:, 0], out[:, 1], key)

    def act(state: LearnerState, obs: jax.Array, key: jax.Array, env_steps: jax.Array) -> jax.Array:
        policy_key, uniform_key = jax.random.split(key)
        action, _ = sampled(state.params["actor"], obs, policy_key)
        share = jnp.where(env_steps < config.replay.warmup_steps, 1.0, 0.0)
        return epsilon_greedy(action, share, spec, uniform_key)

    def greedy(state: LearnerState, obs: jax.Array) -> jax.Array:
        return jnp.tanh(actor.apply(state.params["actor"], obs)[:, 0])

    def targets(state: LearnerState, sample: Sample, key: jax.Array) -> tuple[jax.Array, heads.SupportFit]:
        _, _, reward, discount, next_obs = sample.transition
        action_key, subset_key = jax.random.split(key)
        next_action, log_prob = sampled(state.params["actor"], next_obs, action_key)
        next_out = critics.apply(state.target_params, next_obs, next_action)  # [K, B, N]
        next_out = ensembles.subset(next_out, drawn, subset_key)
        temperature = jnp.exp(state.params["log_temperature"])
        target = partial(soft_target, head, in_targets)
        return jax.vmap(target, (1, 0, None, 0, 0))(next_out, log_prob, temperature, reward, discount)

    def slopes(params: Params, transition: Transition) -> jax.Array:
        """Derivatives [K, B, D] of each critic's values by the action."""

        def total(one: Params, action: jax.Array) -> jax.Array:
            return head.value(one_critic.apply(one, transition.obs, action)).sum()

        return jax.vmap(jax.grad(total, argnums=1), (0, None))(params, transition.action)

    def critic_loss(
        params: Params, sample: Sample, fitted: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        out = critics.apply(params, sample.transition.obs, sample.transition.action)
        losses = head.loss(out, fitted)  # [K, B]
        # A sum over critics: how far one is moved does not depend on how many there are.
        loss = (sample.weight * losses).mean(-1).sum()
        if config.diversity:
            loss += config.diversity * ensembles.alignment(slopes(params, sample.transition)).mean()
        return loss, (losses.mean(0), head.value(out).mean())

    def actor_loss(params: Params, state: LearnerState, obs: jax.Array, key: jax.Array) -> tuple:
        action, log_prob = sampled(params, obs, key)
        out = critics.apply(state.params["critics"], obs, action)
        rule = jax.vmap(lambda out: head.value(ensembles.together(head, out, config.actor_rule)), 1)
        temperature = jnp.exp(state.params["log_temperature"])
        return (temperature * log_prob - rule(out)).mean(), -log_prob.mean()

    def stepped(state: LearnerState, name: str, grads: Params) -> LearnerState:
        changes, opt_state = optimizer.update(grads, state.opt_state[name], state.params[name])
        params = optax.apply_updates(state.params[name], changes)
        return state._replace(
            params=state.params | {name: params}, opt_state=state.opt_state | {name: opt_state}
        )

    def update(state: LearnerState, sample: Sample) -> tuple[LearnerState, Metrics, jax.Array]:
        target_key, actor_key = jax.random.split(jax.random.fold_in(state.key, state.updates))
        fitted, fit = targets(state, sample, target_key)
        (loss, (losses, value)), grads = jax.value_and_grad(critic_loss, has_aux=True)(
            state.params["critics"], sample, fitted
        )
        metrics = update_metrics(loss, value, jax.tree.map(jnp.mean, fit), grads)
        state = stepped(state, "critics", grads)
        (_, entropy), actor_grads = jax.value_and_grad(actor_loss, has_aux=True)(
            state.params["actor"], state, sample.transition.obs, actor_key
        )
        state = stepped(state, "actor", actor_grads)
        # The gradient of log temperature * (entropy - wanted): Haarnoja et al. (2018b), section 5.
        state = stepped(state, "log_temperature", entropy - wanted_entropy)
        target_params = optax.incremental_update(
            state.params["critics"], state.target_params, config.target_tau
        )
        state = state._replace(target_params=target_params, updates=state.updates + 1)
        metrics |= {"entropy": entropy, "temperature": jnp.exp(state.params["log_temperature"])}
        return state, metrics, losses

    return Algorithm(
        agent=Agent(init, act, update, greedy),
        memory=config.replay.make(spec, config.gamma, total_steps),
        warmup_steps=config.replay.warmup_steps,
        updates_per_iteration=collect_steps * spec.num_envs * config.updates_per_step,
        memory_bytes=replay.bytes_needed(spec, config.replay.capacity),
        metrics=("entropy", "temperature"),
    )
