"""The training loop: collect, remember, update, in compiled chunks.

One iteration makes `steps_per_iteration` vector steps and then `updates_per_iteration` updates.
A functional environment's iterations run inside one `lax.scan`, several seeds at once under
`vmap`. A host environment is stepped while the device updates on what was collected before: one
iteration of policy lag, always the same, so that runs stay deterministic. Both give `Chunk`s of
the same kind, and everything else (logs, evaluation, saving) happens between chunks.
"""

import time
from collections.abc import Callable, Iterator, Sequence
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


class Experience(NamedTuple):
    """What environments brought, over some steps."""

    ended: Array  # Episodes.
    total_return: Array  # Of those.
    reward_min: Array
    reward_max: Array


_NOTHING = Experience(0, 0.0, np.inf, -np.inf)


def _both(first: Experience, second: Experience, xp: Any) -> Experience:
    return Experience(
        first.ended + second.ended,
        first.total_return + second.total_return,
        xp.minimum(first.reward_min, second.reward_min),
        xp.maximum(first.reward_max, second.reward_max),
    )


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


def updates_of(agent: Agent, memory: Memory, count: int) -> Callable:
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


def _experience(step: Timestep, xp: Any) -> Experience:
    return Experience(
        step.last.sum(),
        xp.where(step.last, step.episode_return, 0.0).sum(),
        xp.where(step.valid, step.reward, xp.inf).min(),
        xp.where(step.valid, step.reward, -xp.inf).max(),
    )


def _functional_iteration(
    agent: Agent, env: FunctionalEnv, memory: Memory, schedule: Schedule, updates: int
) -> Callable[[RunState], tuple[RunState, tuple[Experience, Metrics]]]:
    def one_step(carry: tuple, key: jax.Array) -> tuple[tuple, Trajectory]:
        learner, env_state, obs, env_steps = carry
        act_key, env_key = jax.random.split(key)
        action = agent.act(learner, obs, act_key, env_steps)
        env_state, step = env.step(env_state, action, env_key)
        env_steps = env_steps + step.valid.sum()
        return (learner, env_state, step.obs, env_steps), Trajectory(obs, action, step)

    def iteration(state: RunState) -> tuple[RunState, tuple[Experience, Metrics]]:
        key, collect_key, update_key = jax.random.split(state.key, 3)
        carry = (state.learner, state.env, state.obs, state.env_steps)
        keys = jax.random.split(collect_key, schedule.steps_per_iteration)
        (learner, env_state, obs, env_steps), trajectory = jax.lax.scan(one_step, carry, keys)
        memory_state = memory.add(state.memory, trajectory)
        metrics: Metrics = {}
        if updates:
            (learner, memory_state), metrics = updates_of(agent, memory, updates)(
                learner, memory_state, update_key
            )
        state = RunState(learner, memory_state, env_state, obs, key, env_steps)
        return state, (_experience(trajectory.step, jnp), metrics)

    return iteration


def _functional_chunk(
    agent: Agent, env: FunctionalEnv, memory: Memory, schedule: Schedule, updates: int
) -> Callable[[RunState, jax.Array], tuple[RunState, Experience, Metrics]]:
    iteration = _functional_iteration(agent, env, memory, schedule, updates)

    def chunk(state: RunState, iterations: jax.Array) -> tuple[RunState, Experience, Metrics]:
        """Any number of iterations, so that the last, shorter chunk is not compiled anew."""
        _, (like, metrics_like) = jax.eval_shape(iteration, state)
        nothing = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), _NOTHING, like)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics_like)

        def body(_: jax.Array, carry: tuple) -> tuple:
            state, experience, metrics = carry
            state, (more, now) = iteration(state)
            return state, _both(experience, more, jnp), jax.tree.map(jnp.add, metrics, now)

        start = (state, nothing, zeros)
        state, experience, metrics = jax.lax.fori_loop(0, iterations, body, start)
        return state, experience, jax.tree.map(lambda x: x / iterations, metrics)

    return chunk


def init_functional(agent: Agent, env: FunctionalEnv, memory: Memory, key: jax.Array) -> RunState:
    """The state of one seed before its first step."""
    agent_key, env_key, key = jax.random.split(key, 3)
    env_state, obs = env.init(env_key)
    return RunState(agent.init(agent_key, obs), memory.init(), env_state, obs, key, jnp.int32(0))


def _metrics(state: RunState, experience: Experience, metrics: Metrics) -> dict[str, np.ndarray]:
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


def _compiled(function: Callable, *arguments: Any, donate: tuple[int, ...]) -> tuple[Callable, float]:
    """The function compiled for these arguments alone, and the seconds that took.

    Compiling ahead of time keeps the promise of one compilation per phase: arguments of another
    shape are an error, not a second compilation.
    """
    start = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def _checkpoint_due(schedule: Schedule, before: int, now: int) -> bool:
    every = schedule.checkpoint_steps
    return every is not None and before // every < now // every and now < schedule.total_steps


def initial_functional(
    agent: Agent, env: FunctionalEnv, memory: Memory, seeds: Sequence[int]
) -> Callable[[], RunState]:
    """Makes the state of all seeds before their first step."""
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    return lambda: jax.vmap(lambda key: init_functional(agent, env, memory, key))(keys)


def train_functional(
    agent: Agent,
    env: FunctionalEnv,
    memory: Memory,
    schedule: Schedule,
    seeds: Sequence[int],
    start: RunState | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Chunk]:
    """Train every seed at once on a functional environment, a chunk at a time.

    `start` is the state of an earlier chunk to go on from; its buffers are taken. Once `stopping`
    answers True the chunk under way is the last, with a checkpoint due where more would have followed.
    """
    state = jax.jit(initial_functional(agent, env, memory, seeds))() if start is None else start
    vector_steps = schedule.steps_per_iteration * env.spec.num_envs
    warmup, total = (-(-steps // vector_steps) for steps in (schedule.warmup_steps, schedule.total_steps))
    per_chunk = max(schedule.chunk_steps // vector_steps, 1)
    done = int(state.env_steps[0]) // vector_steps  # Every step of a functional environment is valid.

    def phase(updates: int, state: RunState) -> tuple[Callable, float]:
        chunk = jax.vmap(_functional_chunk(agent, env, memory, schedule, updates), (0, None))
        return _compiled(chunk, state, 1, donate=(0,))

    for first, end, updates in ((0, min(warmup, total), 0), (warmup, total, schedule.updates_per_iteration)):
        if max(first, done) >= end:
            continue
        run, seconds = phase(updates, state)
        for begin in range(max(first, done), end, per_chunk):
            iterations = min(per_chunk, end - begin)
            state, experience, metrics = run(state, iterations)
            found = _metrics(state, experience, metrics)  # Waits for the chunk.
            stop = stopping() and begin + iterations < total
            due = _checkpoint_due(schedule, begin * vector_steps, (begin + iterations) * vector_steps)
            yield Chunk(state, found, seconds, checkpoint=due or stop, exact=True)
            if stop:
                return
            seconds = 0.0


def initial_host(agent: Agent, env: HostEnv, memory: Memory, seed: int) -> Callable[[], RunState]:
    """Makes the state before the first step; the environment's own first observation comes later."""
    obs = initial_timestep(env.spec).obs

    def init() -> RunState:
        key, init_key = jax.random.split(jax.random.key(seed))
        return RunState(agent.init(init_key, obs), memory.init(), None, obs, key, jnp.int32(0))

    return init


def _episode_seed(seed: int, env_steps: int) -> int:
    """What a host environment is seeded with where it starts anew."""
    # 30 bits: copies count up from it, and emulators hold a seed in 32 bits with a sign.
    return int(np.random.SeedSequence((seed, env_steps)).generate_state(1)[0]) & (2**30 - 1)


def _cut(trajectory: Trajectory) -> Trajectory:
    """The trajectory with every episode that goes on truncated at its last step."""
    step = trajectory.step
    last = step.last.copy()
    last[-1] |= step.valid[-1]
    return trajectory._replace(step=step._replace(last=last))


def train_host(
    agent: Agent,
    env: HostEnv,
    memory: Memory,
    schedule: Schedule,
    seed: int,
    start: RunState | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Chunk]:
    """Train one seed on a host environment, a chunk at a time.

    `start` is the state of an earlier chunk at which a checkpoint was due, to go on from; its
    buffers are taken. Once `stopping` answers True the chunk under way ends and is the last, with a
    checkpoint due, for which episodes are cut as the uninterrupted run would not have cut them.
    """
    state = jax.jit(initial_host(agent, env, memory, seed))() if start is None else start
    learner, memory_state, key, env_steps = state.learner, state.memory, state.key, int(state.env_steps)
    obs = env.reset(_episode_seed(seed, env_steps))

    def act(learner: LearnerState, obs: Array, key: jax.Array, index: Array, env_steps: Array) -> jax.Array:
        return agent.act(learner, obs, jax.random.fold_in(key, index), env_steps)

    def split(key: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jax.random.split(key, 3))

    empty = jax.eval_shape(lambda: empty_trajectory(env.spec, schedule.steps_per_iteration))
    act, seconds = _compiled(act, learner, obs, key, 0, 0, donate=())
    split, more = _compiled(split, key, donate=())
    add, and_more = _compiled(memory.add, memory_state, empty, donate=(0,))
    pending_compile = seconds + more + and_more

    def collect(learner: LearnerState, obs: np.ndarray, key: jax.Array, env_steps: int) -> tuple:
        steps = []
        for index in range(schedule.steps_per_iteration):
            action = np.asarray(act(learner, obs, key, index, env_steps))
            step = env.step(action)
            steps.append(Trajectory(obs, action, step))
            obs, env_steps = step.obs, env_steps + int(step.valid.sum())
        return jax.tree.map(lambda *x: np.stack(x), *steps), obs, env_steps

    learn = None
    chunk_start = env_steps
    experience, metrics = _NOTHING, []
    while env_steps < schedule.total_steps:
        key, collect_key, update_key = split(key)
        acting = learner
        if env_steps >= schedule.warmup_steps:
            if learn is None:
                update = updates_of(agent, memory, schedule.updates_per_iteration)
                learn, seconds = _compiled(update, learner, memory_state, update_key, donate=(1,))
                pending_compile += seconds
            (learner, memory_state), update_metrics = learn(learner, memory_state, update_key)
            metrics.append(update_metrics)
        trajectory, obs, env_steps = collect(acting, obs, collect_key, env_steps)
        experience = _both(experience, _experience(trajectory.step, np), np)
        stop = stopping() and env_steps < schedule.total_steps
        whole = env_steps - chunk_start >= schedule.chunk_steps or env_steps >= schedule.total_steps
        due = whole and _checkpoint_due(schedule, chunk_start, env_steps)
        if due or stop:
            trajectory = _cut(trajectory)
            obs = env.reset(_episode_seed(seed, env_steps))
        memory_state = add(memory_state, trajectory)
        if whole or stop:
            mean = jax.tree.map(lambda *x: np.mean(x), *metrics) if metrics else {}
            state = RunState(learner, memory_state, None, obs, key, np.int32(env_steps))
            batched = jax.tree.map(lambda x: np.asarray(x)[None], _metrics(state, experience, mean))
            yield Chunk(state, batched, pending_compile, checkpoint=due or stop, exact=due)
            pending_compile, chunk_start = 0.0, env_steps
            experience, metrics = _NOTHING, []
        if stop:
            return
