"""Training on a functional environment: everything inside one compiled function."""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp

from valuelearn.loop.parts import (
    NO_EXPERIENCE,
    Chunk,
    Experience,
    RunState,
    Schedule,
    checkpoint_due,
    compiled,
    experience_of,
    merged,
    metrics_of,
    updates_of,
)
from valuelearn.types import Agent, FunctionalEnv, Memory, Metrics, Trajectory


def _iteration(
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
        return state, (experience_of(trajectory.step, jnp), metrics)

    return iteration


def _chunk(
    agent: Agent, env: FunctionalEnv, memory: Memory, schedule: Schedule, updates: int
) -> Callable[[RunState, jax.Array], tuple[RunState, Experience, Metrics]]:
    iteration = _iteration(agent, env, memory, schedule, updates)

    def chunk(state: RunState, iterations: jax.Array) -> tuple[RunState, Experience, Metrics]:
        """Any number of iterations, so that the last, shorter chunk is not compiled anew."""
        _, (like, metrics_like) = jax.eval_shape(iteration, state)
        nothing = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), NO_EXPERIENCE, like)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics_like)

        def body(_: jax.Array, carry: tuple) -> tuple:
            state, experience, metrics = carry
            state, (more, now) = iteration(state)
            return state, merged(experience, more, jnp), jax.tree.map(jnp.add, metrics, now)

        start = (state, nothing, zeros)
        state, experience, metrics = jax.lax.fori_loop(0, iterations, body, start)
        return state, experience, jax.tree.map(lambda x: x / iterations, metrics)

    return chunk


def init_functional(agent: Agent, env: FunctionalEnv, memory: Memory, key: jax.Array) -> RunState:
    """The state of one seed before its first step."""
    agent_key, env_key, key = jax.random.split(key, 3)
    env_state, obs = env.init(env_key)
    return RunState(agent.init(agent_key, obs), memory.init(), env_state, obs, key, jnp.int32(0))


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
        chunk = jax.vmap(_chunk(agent, env, memory, schedule, updates), (0, None))
        return compiled(chunk, state, 1, donate=(0,))

    for first, end, updates in ((0, min(warmup, total), 0), (warmup, total, schedule.updates_per_iteration)):
        if max(first, done) >= end:
            continue
        run, seconds = phase(updates, state)
        for begin in range(max(first, done), end, per_chunk):
            iterations = min(per_chunk, end - begin)
            state, experience, metrics = run(state, iterations)
            found = metrics_of(state, experience, metrics)  # Waits for the chunk.
            stop = stopping() and begin + iterations < total
            due = checkpoint_due(schedule, begin * vector_steps, (begin + iterations) * vector_steps)
            yield Chunk(state, found, seconds, checkpoint=due or stop, exact=True)
            if stop:
                return
            seconds = 0.0
