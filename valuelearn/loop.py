"""The training loop: collect, remember, update, in compiled chunks.

One iteration makes `steps_per_iteration` vector steps and then `updates_per_iteration` updates.
A functional environment's iterations run inside one `lax.scan`, several seeds at once under
`vmap`. A host environment is stepped while the device updates on what was collected before: one
iteration of policy lag, always the same, so that runs stay deterministic. Both give `Chunk`s of
the same kind, and everything else (logs, evaluation, saving) happens between chunks.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.types import (
    Agent,
    Array,
    EnvSpec,
    FunctionalEnv,
    HostEnv,
    LearnerState,
    Memory,
    Metrics,
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


class RunState(NamedTuple):
    """Everything a run consists of; host environments keep their own state."""

    learner: LearnerState
    memory: Any
    env: Any  # A functional environment's state, or None.
    obs: Array  # [E, ...]
    key: jax.Array
    env_steps: Array  # i32[], agent steps taken by all environments.


class Chunk(NamedTuple):
    """What a chunk of iterations brought; arrays carry a leading axis of seeds."""

    state: RunState
    metrics: dict[str, np.ndarray]  # f64[seeds] each.
    compile_seconds: float  # Spent compiling within this chunk.


class Episodes(NamedTuple):
    """Sums over the episodes that ended."""

    ended: Array
    total_return: Array


def initial_timestep(spec: EnvSpec) -> Timestep:
    """A timestep of zeros with the shapes and types of an environment's."""
    obs = jnp.zeros((spec.num_envs, *spec.obs_shape), spec.obs_dtype)
    number, flag = jnp.zeros(spec.num_envs), jnp.zeros(spec.num_envs, bool)
    return Timestep(obs, obs, number, number, flag, flag, number)


def empty_trajectory(spec: EnvSpec, steps: int) -> Trajectory:
    """A trajectory of zeros, [steps, E, ...]."""
    step = initial_timestep(spec)
    one = Trajectory(step.obs, jnp.zeros(spec.num_envs, jnp.int32), step)
    return jax.tree.map(lambda x: jnp.zeros((steps, *x.shape), x.dtype), one)


def _updates(agent: Agent, memory: Memory, count: int) -> Callable:
    """`count` updates as a function of (learner, memory state, key), with their mean metrics."""

    def update(carry: tuple[LearnerState, Any], key: jax.Array) -> tuple[tuple, Metrics]:
        learner, memory_state = carry
        sample = memory.sample(memory_state, key)
        learner, metrics, priority = agent.update(learner, sample)
        return (learner, memory.reprioritise(memory_state, sample, priority)), metrics

    def run(learner: LearnerState, memory_state: Any, key: jax.Array) -> tuple[tuple, Metrics]:
        carry, metrics = jax.lax.scan(update, (learner, memory_state), jax.random.split(key, count))
        return carry, jax.tree.map(lambda x: x.mean(0), metrics)

    return run


def _ended(step: Timestep) -> Episodes:
    return Episodes(step.last.sum(), jnp.where(step.last, step.episode_return, 0.0).sum())


def _functional_iteration(
    agent: Agent, env: FunctionalEnv, memory: Memory, schedule: Schedule, updates: int
) -> Callable[[RunState], tuple[RunState, tuple[Episodes, Metrics]]]:
    def one_step(carry: tuple, key: jax.Array) -> tuple[tuple, Trajectory]:
        learner, env_state, obs, env_steps = carry
        act_key, env_key = jax.random.split(key)
        action = agent.act(learner, obs, act_key, env_steps)
        env_state, step = env.step(env_state, action, env_key)
        env_steps = env_steps + step.valid.sum()
        return (learner, env_state, step.obs, env_steps), Trajectory(obs, action, step)

    def iteration(state: RunState) -> tuple[RunState, tuple[Episodes, Metrics]]:
        key, collect_key, update_key = jax.random.split(state.key, 3)
        carry = (state.learner, state.env, state.obs, state.env_steps)
        keys = jax.random.split(collect_key, schedule.steps_per_iteration)
        (learner, env_state, obs, env_steps), trajectory = jax.lax.scan(one_step, carry, keys)
        memory_state = memory.add(state.memory, trajectory)
        metrics: Metrics = {}
        if updates:
            (learner, memory_state), metrics = _updates(agent, memory, updates)(
                learner, memory_state, update_key
            )
        episodes = _ended(trajectory.step)
        return RunState(learner, memory_state, env_state, obs, key, env_steps), (episodes, metrics)

    return iteration


def _functional_chunk(
    agent: Agent, env: FunctionalEnv, memory: Memory, schedule: Schedule, updates: int
) -> Callable[[RunState, jax.Array], tuple[RunState, Episodes, Metrics]]:
    iteration = _functional_iteration(agent, env, memory, schedule, updates)

    def chunk(state: RunState, iterations: jax.Array) -> tuple[RunState, Episodes, Metrics]:
        """Any number of iterations, so that the last, shorter chunk is not compiled anew."""
        totals = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(iteration, state)[1])

        def body(_: jax.Array, carry: tuple) -> tuple:
            state, now = iteration(carry[0])
            return state, jax.tree.map(jnp.add, carry[1], now)

        state, (episodes, metrics) = jax.lax.fori_loop(0, iterations, body, (state, totals))
        return state, episodes, jax.tree.map(lambda x: x / iterations, metrics)

    return chunk


def init_functional(agent: Agent, env: FunctionalEnv, memory: Memory, key: jax.Array) -> RunState:
    """The state of one seed before its first step."""
    agent_key, env_key, key = jax.random.split(key, 3)
    env_state, obs = env.init(env_key)
    return RunState(agent.init(agent_key, obs), memory.init(), env_state, obs, key, jnp.int32(0))


def _metrics(state: RunState, episodes: Episodes, metrics: Metrics) -> dict[str, np.ndarray]:
    count = np.asarray(episodes.ended, np.float64)
    with np.errstate(invalid="ignore"):
        mean_return = np.asarray(episodes.total_return, np.float64) / np.where(count > 0, count, np.nan)
    return {
        "env_steps": np.asarray(state.env_steps, np.float64),
        "updates": np.asarray(state.learner.updates, np.float64),
        "episodes": count,
        "episode_return": mean_return,
        **{name: np.asarray(value, np.float64) for name, value in metrics.items()},
    }


def _compiled(function: Callable, *arguments: Any, donate: tuple[int, ...]) -> tuple[Callable, float]:
    """The function compiled for these arguments alone, and the seconds that took.

    Compiling ahead of time keeps the promise of one compilation per phase: arguments of another
    shape are an error, not a second compilation.
    """
    start = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def train_functional(
    agent: Agent, env: FunctionalEnv, memory: Memory, schedule: Schedule, seeds: list[int]
) -> Iterator[Chunk]:
    """Train every seed at once on a functional environment, a chunk at a time."""
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    state = jax.jit(jax.vmap(lambda key: init_functional(agent, env, memory, key)))(keys)
    vector_steps = schedule.steps_per_iteration * env.spec.num_envs
    warmup, total = (-(-steps // vector_steps) for steps in (schedule.warmup_steps, schedule.total_steps))
    per_chunk = max(schedule.chunk_steps // vector_steps, 1)

    def phase(updates: int, state: RunState) -> tuple[Callable, float]:
        chunk = jax.vmap(_functional_chunk(agent, env, memory, schedule, updates), (0, None))
        return _compiled(chunk, state, 1, donate=(0,))

    for first, end, updates in ((0, min(warmup, total), 0), (warmup, total, schedule.updates_per_iteration)):
        if first >= end:
            continue
        run, seconds = phase(updates, state)
        for start in range(first, end, per_chunk):
            state, episodes, metrics = run(state, min(per_chunk, end - start))
            yield Chunk(state, _metrics(state, episodes, metrics), seconds)
            seconds = 0.0


def train_host(agent: Agent, env: HostEnv, memory: Memory, schedule: Schedule, seed: int) -> Iterator[Chunk]:
    """Train one seed on a host environment, a chunk at a time."""
    key, init_key, collect_key, update_key = jax.random.split(jax.random.key(seed), 4)
    obs = env.reset(seed)
    learner = jax.jit(agent.init)(init_key, obs)
    memory_state = jax.jit(memory.init)()
    env_steps = 0

    def act(learner: LearnerState, obs: Array, index: Array, env_steps: Array) -> jax.Array:
        return agent.act(learner, obs, jax.random.fold_in(collect_key, index), env_steps)

    def update(learner: LearnerState, memory_state: Any, index: int) -> tuple[tuple, Metrics]:
        run = _updates(agent, memory, schedule.updates_per_iteration)
        return run(learner, memory_state, jax.random.fold_in(update_key, index))

    empty = jax.eval_shape(lambda: empty_trajectory(env.spec, schedule.steps_per_iteration))
    act, seconds = _compiled(act, learner, obs, 0, 0, donate=())
    add, more = _compiled(memory.add, memory_state, empty, donate=(0,))
    pending_compile = seconds + more

    def collect(learner: LearnerState, obs: np.ndarray, first: int, env_steps: int) -> tuple:
        steps = []
        for index in range(first, first + schedule.steps_per_iteration):
            action = np.asarray(act(learner, obs, index, env_steps))
            step = env.step(action)
            steps.append(Trajectory(obs, action, step))
            obs, env_steps = step.obs, env_steps + int(step.valid.sum())
        return jax.tree.map(lambda *x: np.stack(x), *steps), obs, env_steps

    learn = None
    iteration, chunk_start = 0, 0
    episodes, metrics = Episodes(0, 0.0), []
    while env_steps < schedule.total_steps:
        learning = env_steps >= schedule.warmup_steps
        acting = learner
        if learning:
            if learn is None:
                learn, seconds = _compiled(update, learner, memory_state, 0, donate=(1,))
                pending_compile += seconds
            (learner, memory_state), update_metrics = learn(learner, memory_state, iteration)
            metrics.append(update_metrics)
        trajectory, obs, env_steps = collect(acting, obs, iteration * schedule.steps_per_iteration, env_steps)
        memory_state = add(memory_state, trajectory)
        episodes = jax.tree.map(np.add, episodes, jax.tree.map(np.asarray, _ended(trajectory.step)))
        iteration += 1
        if env_steps - chunk_start >= schedule.chunk_steps or env_steps >= schedule.total_steps:
            mean = jax.tree.map(lambda *x: np.mean(x), *metrics) if metrics else {}
            state = RunState(learner, memory_state, None, obs, key, np.int32(env_steps))
            batched = jax.tree.map(lambda x: np.asarray(x)[None], _metrics(state, episodes, mean))
            yield Chunk(state, batched, pending_compile)
            pending_compile, chunk_start = 0.0, env_steps
            episodes, metrics = Episodes(0, 0.0), []
