"""What both loops are made of: the state of a run, its schedule, a chunk of it, and the updates."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn import guard
from valuelearn.types import (
    Agent,
    Array,
    EnvSpec,
    LearnerState,
    Memory,
    Metrics,
    Stocked,
    Timestep,
    Trajectory,
)


class Schedule(NamedTuple):
    """How much happens when; steps are agent steps summed over the environments of one seed."""

    total_steps: int
    warmup_steps: int  # Collected before the first update.
    steps_per_iteration: int  # Vector steps.
    updates_per_iteration: int
    chunk_steps: int  # Between two chunks' metrics.
    checkpoint_steps: int | None = None  # Between two checkpoints.


class RunState(NamedTuple):
    """Everything a run consists of; host environments keep their own state."""

    learner: LearnerState
    memory: Any
    env: Any  # A functional environment's state, or None.
    obs: Array  # [E, ...]
    key: jax.Array
    env_steps: Array  # i32[], agent steps taken by all environments.


class Chunk(NamedTuple):
    """What a chunk of iterations brought; arrays carry a leading axis of seeds.

    The next chunk takes the state's buffers.
    """

    state: RunState
    metrics: dict[str, np.ndarray]  # f64[seeds] each.
    compile_seconds: float  # Spent compiling within this chunk.
    checkpoint: bool  # A checkpoint is due: a run can go on from this state,
    exact: bool  # as the run that it would have been without the interruption.
    cut: np.ndarray | None = None  # bool[E] whose episodes were cut here, of what this host steps itself.
    refused: Any = None  # [seeds, ...] what an update that was not made was to learn from; the run ends.


class Experience(NamedTuple):
    """What environments brought, over some steps."""

    ended: Array  # Episodes.
    total_return: Array  # Of those.
    reward_min: Array
    reward_max: Array


class Halt(NamedTuple):
    """Whether an update was not made, for what it came to was not finite."""

    halted: jax.Array  # bool[]
    key: jax.Array  # What it would have learnt from was drawn by.


NO_EXPERIENCE = Experience(0, 0.0, np.inf, -np.inf)


def merged(first: Experience, second: Experience, xp: Any) -> Experience:
    """Both together; `xp` is numpy or jax.numpy."""
    return Experience(
        first.ended + second.ended,
        first.total_return + second.total_return,
        xp.minimum(first.reward_min, second.reward_min),
        xp.maximum(first.reward_max, second.reward_max),
    )


def experience_of(step: Timestep, xp: Any) -> Experience:
    """What timesteps of any leading axes brought; `xp` is numpy or jax.numpy."""
    counts = step.valid.reshape(step.valid.shape + (1,) * (step.reward.ndim - step.valid.ndim))
    return Experience(
        step.last.sum(),
        xp.where(step.last, step.episode_return, 0.0).sum(),
        xp.where(counts, step.reward, xp.inf).min(),
        xp.where(counts, step.reward, -xp.inf).max(),
    )


def initial_timestep(spec: EnvSpec) -> Timestep:
    """A timestep of zeros with the shapes and types of an environment's."""
    obs: Array = jnp.zeros((spec.num_envs, *spec.obs_shape), spec.obs_dtype)
    if spec.stock_size:
        obs = Stocked(obs, jnp.zeros((spec.num_envs, spec.stock_size)))
    number, flag = jnp.zeros(spec.num_envs), jnp.zeros(spec.num_envs, bool)
    reward = jnp.zeros((spec.num_envs, spec.reward_size)) if spec.reward_size else number
    return Timestep(obs, obs, reward, number, flag, flag, number)


def empty_trajectory(spec: EnvSpec, steps: int) -> Trajectory:
    """A trajectory of zeros, [steps, E, ...]."""
    step = initial_timestep(spec)
    action = jnp.zeros((spec.num_envs, *spec.action_shape), spec.action_dtype)
    one = Trajectory(step.obs, action, step)
    return jax.tree.map(lambda x: jnp.zeros((steps, *x.shape), x.dtype), one)


def updates_of(agent: Agent, memory: Memory, agree: guard.Agree = guard.alone) -> Callable:
    """Updates as a function of (learner, memory state, key, count), with their mean metrics, and a `Halt`.

    The count is no constant, so a phase without updates needs no program of its own; its metrics
    are NaN. Nor is a single update inlined, for which XLA on CPUs copies columns of the memory.
    """

    @partial(jax.jit, inline=True)  # Traced once, for its shapes and for the loop.
    def update(learner: LearnerState, memory_state: Any, key: jax.Array) -> tuple:
        sample = memory.sample(memory_state, key)
        learnt, metrics, priority = agent.update(learner, sample, agree)
        made = agree(learnt.updates > learner.updates)
        # A priority that is not known leaves the memory as it was: the same key draws the same once more.
        priority = jnp.where(made, priority, jnp.nan)
        return learnt, memory.reprioritise(memory_state, sample, priority), metrics, made

    def run(learner: LearnerState, memory_state: Any, key: jax.Array, count: Array) -> tuple:
        def goes_on(carry: tuple) -> jax.Array:
            index, halt, *_ = carry
            return (index < count) & ~halt.halted

        def body(carry: tuple) -> tuple:
            index, _, learner, memory_state, total = carry
            update_key = jax.random.fold_in(key, index)
            learner, memory_state, metrics, made = update(learner, memory_state, update_key)
            total = jax.tree.map(jnp.add, total, metrics)
            return index + 1, Halt(~made, update_key), learner, memory_state, total

        _, _, like, _ = jax.eval_shape(update, learner, memory_state, key)
        start = (jnp.int32(0), Halt(jnp.bool_(False), key), learner, memory_state, zeros_of(like))
        _, halt, learner, memory_state, total = jax.lax.while_loop(goes_on, body, start)
        return learner, memory_state, jax.tree.map(lambda x: x / count, total), halt

    return run


def zeros_of(like: Metrics) -> Metrics:
    """What metrics of these shapes are summed up from."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)


def metrics_of(state: RunState, experience: Experience, metrics: Metrics) -> dict[str, np.ndarray]:
    """The metrics of a chunk, on the host."""
    count = np.asarray(experience.ended, np.float64)
    with np.errstate(invalid="ignore"):
        mean_return = np.asarray(experience.total_return, np.float64) / np.where(count > 0, count, np.nan)
    found = {
        "env_steps": state.env_steps,
        "updates": state.learner.updates,
        "episodes": count,
        "episode_return": mean_return,
        "reward_min": experience.reward_min,
        "reward_max": experience.reward_max,
        **metrics,
    }
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def compiled(
    function: Callable, *arguments: Any, donate: tuple[int, ...], out: Any = None
) -> tuple[Callable, float]:
    """The function compiled for these arguments alone, and the seconds that took; `out` says where its
    results are to lie.

    Compiling ahead of time keeps the promise of one compilation per phase: arguments of another
    shape are an error, not a second compilation.
    """
    start = time.perf_counter()
    jitted = jax.jit(function, donate_argnums=donate, out_shardings=out)
    return jitted.lower(*arguments).compile(), time.perf_counter() - start


def checkpoint_due(schedule: Schedule, before: int, now: int) -> bool:
    """Whether a multiple of the checkpoint's steps lies after `before` and up to `now`."""
    every = schedule.checkpoint_steps
    return every is not None and before // every < now // every and now < schedule.total_steps
