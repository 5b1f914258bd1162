"""Rewards divided by the size that returns have had so far, so that a support can be named beforehand."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelearn import checks, moments
from valuelearn.moments import Moments
from valuelearn.types import Memory, Sample, Timestep, Trajectory


class Returns(NamedTuple):
    """Discounted sums of rewards since the beginning of episodes, and what they have been."""

    running: jax.Array  # f32[E]
    seen: Moments  # Of all steps.
    largest: jax.Array  # f32[], of their absolute values.


class ScaledState(NamedTuple):
    """A memory's state, and the returns of what went into it."""

    memory: Any
    returns: Returns


def scale(returns: Returns, size: float) -> jax.Array:
    """What rewards are divided by: the returns' standard deviation, or more where one went far beyond it.

    Lee et al. (2025), SimbaV2: max(sqrt(variance), largest / size). 1 before the first step.

    Raises:
        ValueError: for a size that is none.
    """
    checks.number("size", size, "a number above 0", lambda size: size > 0)
    deviation = jnp.sqrt(returns.seen.variance[0] + 1e-8)
    return jnp.maximum(deviation, returns.largest / size)


def scaled(memory: Memory, num_envs: int, gamma: float, size: float) -> Memory:
    """A memory whose samples' rewards are divided so that returns have about the size 1, and at most `size`.

    What is stored are the rewards themselves: all samples follow the newest scale.

    Raises:
        ValueError: for numbers out of their ranges, and of `add` for rewards other than [T, E].
    """
    checks.count("num_envs", num_envs)
    checks.number("gamma", gamma, "a number from 0 to 1", lambda gamma: 0 <= gamma <= 1)
    checks.number("size", size, "a number above 0", lambda size: size > 0)

    def init() -> ScaledState:
        return ScaledState(memory.init(), Returns(jnp.zeros(num_envs), moments.none(1), jnp.float32(0)))

    def one_step(returns: Returns, step: Timestep) -> tuple[Returns, None]:
        now = gamma * returns.running + step.reward
        seen = moments.merged(returns.seen, now[:, None], step.valid.astype(jnp.float32))
        largest = jnp.maximum(returns.largest, jnp.where(step.valid, jnp.abs(now), 0.0).max())
        running = jnp.where(step.valid, jnp.where(step.last, 0.0, now), returns.running)
        return Returns(running, seen, largest), None

    def add(state: ScaledState, trajectory: Trajectory) -> ScaledState:
        checks.array("reward", trajectory.step.reward, "T", num_envs)
        returns, _ = jax.lax.scan(one_step, state.returns, trajectory.step)
        return ScaledState(memory.add(state.memory, trajectory), returns)

    def sample(state: ScaledState, key: jax.Array) -> Sample:
        drawn = memory.sample(state.memory, key)
        reward = drawn.transition.reward / scale(state.returns, size)
        return drawn._replace(transition=drawn.transition._replace(reward=reward))

    def reprioritise(state: ScaledState, drawn: Sample, priority: jax.Array) -> ScaledState:
        return state._replace(memory=memory.reprioritise(state.memory, drawn, priority))

    return Memory(init, add, sample, reprioritise)
