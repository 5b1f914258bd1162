"""What actor-critics share: an update is a few losses one after another, each with a part of the parameters.

An algorithm is its `Step`s, and how it acts.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from pydantic import Field

from agents.critics import ActorNetworkConfig, ControlNetworkConfig, CriticsConfig
from agents.parts import Algorithm, OptimizerConfig, ReplayConfig, squared_norm
from valuelearn import guard, moments, replay, return_scale, support_doctor
from valuelearn.config import Misfit, Section
from valuelearn.policies import epsilon_greedy
from valuelearn.types import Agent, Array, EnvSpec, LearnerState, Metrics, Params, Sample, Transition


class LearnerConfig(Section):
    """What every agent of continuous actions takes; behaviour cloning has no values, and ignores what
    concerns them."""

    network: ActorNetworkConfig = ActorNetworkConfig()
    """The networks."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4, epsilon=1e-8)
    """The optimiser of everything that is learnt."""
    replay: ReplayConfig = ReplayConfig(warmup_steps=10_000, batch_size=256)
    """The replay; actions are uniform until it is warmed up. Of a run on a dataset the batch size alone."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Discount per agent step."""
    updates_per_step: Annotated[float, Field(gt=0)] = 1.0
    """Updates for each agent step; 20 in REDQ and DroQ, a fraction where several steps make an update."""
    target_tau: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Polyak weight of the new parameters in the target networks'."""
    reward_scale: Annotated[float, Field(gt=0)] = 1.0
    """Factor on every reward that is learnt from: values, supports and temperatures are in its units."""
    return_size: Annotated[float, Field(gt=0)] | None = None
    """Rewards are divided by the standard deviation of the discounted returns so far, or by more where one
    went beyond so many of it (SimbaV2 takes 5, which then are the support's ends); none for not."""
    reset_updates: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Updates after which networks and optimisers start anew, while the replay is kept (BRO: those of
    15,000, 50,000, 250,000, ... agent steps, ten times as many at its ten updates a step)."""

    @property
    def needs_dataset(self) -> bool:
        """Whether the agent learns from recorded actions alone."""
        return False

    def support(self) -> support_doctor.Support | None:
        """What the support doctor looks at."""
        return None

    def check(self, num_envs: int, collect_steps: int) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            Misfit: naming those that do not.
        """
        updates = num_envs * collect_steps * self.updates_per_step
        if updates < 0.5 or not math.isclose(updates, round(updates)):  # Of 0.29 x 100 rounding leaves no 29.
            steps = f"env.num_envs x train.collect_steps = {num_envs} x {collect_steps}"
            reason = f"{steps} of them make {updates:g}; a whole number is wanted"
            keys = ("env.num_envs", "train.collect_steps")
            raise Misfit("agent.updates_per_step", self.updates_per_step, reason, *keys)
        self.replay.check(num_envs)


class ActorCriticConfig(LearnerConfig, CriticsConfig):
    """What every actor-critic takes."""

    network: ControlNetworkConfig = ControlNetworkConfig()
    """The networks."""
    actor_optimizer: OptimizerConfig | None = None
    """The actor's optimiser; none for the same."""

    @property
    def learns_returns(self) -> bool:
        """Whether values are sums of rewards alone, which bounds on rewards then bound."""
        return self.reward_scale == 1.0 and self.return_size is None

    def support(self) -> support_doctor.Support:
        """What the support doctor looks at."""
        return self.head_options.support(self.head, self.gamma, self.learns_returns)

    def optimizers(self) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
        """The critics' optimiser, and the actor's."""
        return self.optimizer.make(), (self.actor_optimizer or self.optimizer).make()


Loss = Callable[[Params, LearnerState, Sample, jax.Array, Metrics], tuple[jax.Array, Metrics]]


class Step(NamedTuple):
    """One part of the parameters descends one loss.

    `loss(part, state, sample, key, metrics)` sees the state as earlier steps of the update have left it,
    and their metrics; what it returns beside the loss is added to them. Of a step that is not taken in
    every update there are none.
    """

    part: str
    loss: Loss
    optimizer: optax.GradientTransformation
    every: int = 1  # Updates between two steps.


class Rule(NamedTuple):
    """What sets one actor-critic apart from another."""

    init: Callable[[jax.Array, jax.Array], dict[str, Params]]  # key, obs -> the parts.
    steps: Sequence[Step]  # The first gives each item's `priority`, and its gradient is the one logged.
    act: Callable[[Params, jax.Array, jax.Array], jax.Array]  # params, obs, key -> action while training.
    greedy: Callable[[Params, jax.Array], jax.Array]  # params, obs -> action.
    value: Callable[[Params, jax.Array, jax.Array], jax.Array]  # params, obs, action -> what it is worth.
    values: Callable[[Params, jax.Array, jax.Array], jax.Array] | None = None  # The same by each critic.
    targets: Sequence[str] = ("critics",)  # Parts with a target network.
    target_every: int = 1  # Updates between two steps of those.
    metrics: Sequence[str] = ()  # Names of what the steps report beside what all agents do.


def _descended(
    step: Step, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
) -> tuple[tuple[Params, Any, jax.Array], Metrics]:
    """The part and its optimiser's state after one step, and whether its gradient was finite."""
    part, opt_state = state.params[step.part], state.opt_state[step.part]
    grads, more = jax.grad(step.loss, has_aux=True)(part, state, sample, key, metrics)
    changes, opt_state = step.optimizer.update(grads, opt_state, part)
    norm = jnp.sqrt(squared_norm(grads))
    return (optax.apply_updates(part, changes), opt_state, jnp.isfinite(norm)), {"grad_norm": norm, **more}


def _taken(
    step: Step, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics, agree: guard.Agree
) -> tuple[LearnerState, Metrics, jax.Array]:
    if step.every == 1:
        (part, opt_state, good), more = _descended(step, state, sample, key, metrics)
        metrics = more | metrics
    else:
        part, opt_state, good = jax.lax.cond(
            agree(state.updates % step.every == 0),  # All seeds count alike: a branch, of which one is taken.
            lambda: _descended(step, state, sample, key, metrics)[0],
            lambda: (state.params[step.part], state.opt_state[step.part], jnp.bool_(True)),
        )
    params, opt_states = state.params | {step.part: part}, state.opt_state | {step.part: opt_state}
    return state._replace(params=params, opt_state=opt_states), metrics, good


def make(config: LearnerConfig, spec: EnvSpec, total_steps: int, collect_steps: int, rule: Rule) -> Algorithm:
    """The algorithm with that rule, for environments of that shape."""
    normalizes = config.network.normalize_obs
    memory = config.replay.make(spec, config.gamma, total_steps)
    if config.return_size is not None:
        memory = return_scale.scaled(memory, spec.num_envs, config.gamma, config.return_size)

    def seen(params: Params, obs: Array) -> Array:
        """What the networks read of an observation."""
        return moments.standardized(params["observations"], obs) if normalizes else obs

    def init(key: jax.Array, obs: jax.Array) -> LearnerState:
        key, init_key = jax.random.split(key)
        params = rule.init(init_key, obs)
        opt_state = {step.part: step.optimizer.init(params[step.part]) for step in rule.steps}
        target_params = {name: jax.tree.map(jnp.copy, params[name]) for name in rule.targets}
        if normalizes:
            params["observations"] = moments.none(obs.shape[-1])
        return LearnerState(params, target_params, opt_state, key, jnp.int32(0))

    def act(state: LearnerState, obs: jax.Array, key: jax.Array, env_steps: jax.Array) -> jax.Array:
        policy_key, uniform_key = jax.random.split(key)
        action = rule.act(state.params, seen(state.params, obs), policy_key)
        share = jnp.where(env_steps < config.replay.warmup_steps, 1.0, 0.0)
        return epsilon_greedy(action, share, spec, uniform_key)

    def greedy(state: LearnerState, obs: jax.Array) -> jax.Array:
        return rule.greedy(state.params, seen(state.params, obs))

    def value(state: LearnerState, obs: jax.Array) -> jax.Array:
        obs = seen(state.params, obs)
        return rule.value(state.params, obs, rule.greedy(state.params, obs)) / config.reward_scale

    def values(state: LearnerState, obs: jax.Array) -> jax.Array:
        assert rule.values is not None
        obs = seen(state.params, obs)
        return rule.values(state.params, obs, rule.greedy(state.params, obs)) / config.reward_scale

    def followed(state: LearnerState) -> dict[str, Params]:
        """The target networks, a step nearer to those they follow."""
        tau: float | jax.Array = config.target_tau
        if rule.target_every > 1:
            tau = jnp.where(state.updates % rule.target_every == 0, tau, 0.0)
        new = {name: state.params[name] for name in rule.targets}
        return optax.incremental_update(new, state.target_params, tau)

    def anew(state: LearnerState, obs: jax.Array, key: jax.Array) -> LearnerState:
        """A learner that has learnt nothing yet, but of what size observations are."""
        fresh = init(key, obs)
        if normalizes:
            fresh.params["observations"] = state.params["observations"]
        return fresh._replace(key=state.key, updates=state.updates)

    def read(params: Params, transition: Transition) -> Transition:
        """A batch as the losses take it."""
        to_go, imagined = transition.return_to_go, transition.imagined
        return transition._replace(
            obs=seen(params, transition.obs),
            next_obs=seen(params, transition.next_obs),
            reward=config.reward_scale * transition.reward,
            return_to_go=None if to_go is None else config.reward_scale * to_go,
            imagined=None if imagined is None else seen(params, imagined),
        )

    def update(
        before: LearnerState, sample: Sample, agree: guard.Agree = guard.alone
    ) -> tuple[LearnerState, Metrics, jax.Array]:
        state, good = before, guard.finite(guard.experienced(sample.transition))
        if normalizes:
            statistics = moments.merged(state.params["observations"], sample.transition.obs)
            state = state._replace(params=state.params | {"observations": statistics})
        sample = sample._replace(transition=read(state.params, sample.transition))
        keys = jax.random.split(jax.random.fold_in(state.key, state.updates), len(rule.steps) + 1)
        metrics: Metrics = {}
        for step, key in zip(rule.steps, keys[:-1], strict=True):
            state, metrics, finite = _taken(step, state, sample, key, metrics, agree)
            good &= finite
        state = state._replace(target_params=followed(state), updates=state.updates + 1)
        if config.reset_updates:
            due = agree(jnp.isin(state.updates, jnp.asarray(config.reset_updates)))
            state = jax.lax.cond(due, anew, lambda state, *_: state, state, sample.transition.obs, keys[-1])
        priority = metrics.pop("priority")
        good &= guard.finite(metrics["loss"])
        return guard.made(agree, good, lambda: state, before), metrics, priority

    return Algorithm(
        agent=Agent(init, act, update, greedy, value, values if rule.values else None),
        memory=memory,
        warmup_steps=config.replay.warmup_steps,
        updates_per_iteration=round(collect_steps * spec.num_envs * config.updates_per_step),
        memory_bytes=replay.bytes_needed(spec, config.replay.capacity),
        metrics=tuple(rule.metrics),
    )
