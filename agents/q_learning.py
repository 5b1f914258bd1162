"""Q-learning from a replay: what DQN and its relatives share, whatever they maximise.

An algorithm is its `Rule`: how actions are ranked, and what the head is fitted to.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from pydantic import Field

from agents.parts import (
    Algorithm,
    ExplorationConfig,
    HeadConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    update_metrics,
)
from valuelearn import guard, heads, replay, support_doctor
from valuelearn.config import Misfit, Section
from valuelearn.policies import epsilon_greedy
from valuelearn.types import Agent, Array, EnvSpec, LearnerState, Metrics, Network, Sample, Transition


class QConfig(Section):
    """What every agent that learns action values from a replay takes."""

    head: heads.Name = "mse"
    """The value head and so the loss: the one word to change."""
    head_options: HeadConfig = HeadConfig()
    """Support, smoothing and the like; what does not concern the head is ignored."""
    network: NetworkConfig = NetworkConfig()
    """The network in front of the head."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimiser."""
    replay: ReplayConfig = ReplayConfig()
    """The replay."""
    exploration: ExplorationConfig = ExplorationConfig()
    """Exploration."""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Discount per agent step."""
    double: bool = False
    """Choose the next action with the online network (van Hasselt et al., 2016)."""
    update_period_steps: Annotated[int, Field(gt=0)] = 4
    """Agent steps per update."""
    target_period_updates: Annotated[int, Field(gt=0)] = 2_000
    """Updates between copies to the target network."""
    target_tau: Annotated[float, Field(gt=0, le=1)] | None = None
    """Polyak weight of the new parameters after each update; none for periodic copies."""
    conservative_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of CQL's term (Kumar et al., 2020), which raises the value of the action taken against the soft
    maximum of all; 0 for none. 1 in d3rlpy, 0.1 in Dopamine, on Atari's recorded games."""
    decay_start: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the updates after which the optimiser's step size falls linearly to 0; none keeps it."""

    @property
    def learns_returns(self) -> bool:
        """Whether values are sums of rewards alone, which bounds on rewards then bound."""
        return True

    def support(self) -> support_doctor.Support:
        """What the support doctor looks at."""
        return self.head_options.support(self.head, self.gamma, self.learns_returns)

    def steps_for(self, updates: int) -> int:
        """Agent steps of the run that makes so many updates."""
        return self.replay.warmup_steps + updates * self.update_period_steps

    def check(self, num_envs: int, collect_steps: int) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            Misfit: naming those that do not.
        """
        steps = num_envs * collect_steps
        if steps % self.update_period_steps:
            raise Misfit(
                "agent.update_period_steps",
                self.update_period_steps,
                f"a divisor of env.num_envs x train.collect_steps = {num_envs} x {collect_steps} is wanted",
                "env.num_envs",
                "train.collect_steps",
            )
        self.replay.check(num_envs)


class Outputs(NamedTuple):
    """What networks say of one transition, [A, N] each."""

    next_target: jax.Array  # The target network, of the next observation.
    next_online: jax.Array  # What chooses the next action: the target network too, unless `double`; of
    # implicit quantiles at fractions of its own.
    current_target: jax.Array  # The target network, of the observation, where a rule needs that.


class Rule(NamedTuple):
    """What sets one algorithm apart from another; each takes one transition's or one observation's."""

    greedy: Callable[[jax.Array, Array], jax.Array]  # out [A, N], obs -> i32[]
    target: Callable[[Outputs, Transition], tuple[jax.Array, heads.SupportFit]]  # And how the support fits.
    needs_current: bool = False  # Whether `target` reads `Outputs.current_target`.
    prepare: Callable[[Transition, jax.Array], Transition] = lambda transition, key: transition  # A batch.


def make(
    config: QConfig,
    spec: EnvSpec,
    gamma: float,
    total_steps: int,
    collect_steps: int,
    head: heads.Head,
    network: Network,
    rule: Rule,
) -> Algorithm:
    """The algorithm with that head and that rule, for environments of that shape."""
    updates = max(total_steps - config.replay.warmup_steps, 0) // config.update_period_steps
    decay = None if config.decay_start is None else range(int(config.decay_start * updates), updates)
    optimizer = config.optimizer.make(decay)
    epsilon = config.exploration.schedule(config.replay.warmup_steps)

    def init(key: jax.Array, obs: Array) -> LearnerState:
        key, init_key = jax.random.split(key)
        params = network.init(init_key, obs)
        target_params = jax.tree.map(jnp.copy, params)
        return LearnerState(params, target_params, optimizer.init(params), key, jnp.int32(0))

    def greedy(state: LearnerState, obs: Array) -> jax.Array:
        return jax.vmap(rule.greedy)(network.apply(state.params, obs), obs)

    def value(state: LearnerState, obs: Array) -> jax.Array:
        out = network.apply(state.params, obs)
        return jax.vmap(lambda out, obs: head.value(out[rule.greedy(out, obs)]))(out, obs)

    def act(state: LearnerState, obs: Array, key: jax.Array, env_steps: jax.Array) -> jax.Array:
        share = jnp.where(env_steps < config.replay.warmup_steps, 1.0, epsilon(env_steps))
        return epsilon_greedy(greedy(state, obs), share, spec, key)

    def loss(params: Any, state: LearnerState, sample: Sample, key: jax.Array) -> tuple[jax.Array, Any]:
        online_key, target_key, select_key, prepare_key = jax.random.split(key, 4)
        transition = rule.prepare(sample.transition, prepare_key)
        obs, next_obs = transition.obs, transition.next_obs
        out = network.apply(params, obs, online_key)
        next_target = network.apply(state.target_params, next_obs, target_key)
        next_online = next_target
        if config.double or isinstance(head, heads.ImplicitQuantile):
            # Where fractions are drawn those that choose are others: the highest of a draw is too high.
            chooser = params if config.double else state.target_params
            next_online = network.apply(chooser, next_obs, select_key)
        current = network.apply(state.target_params, obs, target_key) if rule.needs_current else next_target
        targets, fit = jax.vmap(rule.target)(Outputs(next_target, next_online, current), transition)
        taken = jax.vmap(lambda out, action: out[action])(out, transition.action)
        losses = head.loss(taken, targets)
        mean_loss = (sample.weight * losses).mean()
        if config.conservative_weight:
            gaps = jax.nn.logsumexp(head.value(out), axis=-1) - head.value(taken)
            mean_loss += config.conservative_weight * gaps.mean()
        return mean_loss, (
            losses,
            head.value(taken).mean(),
            jax.tree.map(jnp.mean, fit),
        )

    def update(
        state: LearnerState, sample: Sample, agree: guard.Agree = guard.alone
    ) -> tuple[LearnerState, Metrics, jax.Array]:
        # Folded in, not split off: where no network draws anything the key costs nothing.
        loss_key = jax.random.fold_in(state.key, state.updates)
        (mean_loss, (losses, value, fit)), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params, state, sample, loss_key
        )
        metrics = update_metrics(mean_loss, value, fit, grads)

        def stepped() -> LearnerState:
            changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, changes)
            updates = state.updates + 1
            if config.target_tau is None:
                target_params = optax.periodic_update(
                    params, state.target_params, updates, config.target_period_updates
                )
            else:
                target_params = optax.incremental_update(params, state.target_params, config.target_tau)
            return LearnerState(params, target_params, opt_state, state.key, updates)

        good = guard.finite(guard.experienced(sample.transition), mean_loss, metrics["grad_norm"])
        return guard.made(agree, good, stepped, state), metrics, losses

    return Algorithm(
        agent=Agent(init, act, update, greedy, value),
        memory=config.replay.make(spec, gamma, total_steps),
        warmup_steps=config.replay.warmup_steps,
        updates_per_iteration=collect_steps * spec.num_envs // config.update_period_steps,
        memory_bytes=replay.bytes_needed(spec, config.replay.capacity),
    )
