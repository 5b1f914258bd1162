"""Training on a functional environment: everything inside one compiled function."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from valuelearn.loop.parts import (
    NO_EXPERIENCE,
    Chunk,
    Experience,
    Halt,
    RunState,
    Schedule,
    checkpoint_due,
    compiled,
    experience_of,
    merged,
    metrics_of,
    updates_of,
    zeros_of,
)
from valuelearn.loop.placement import BY_SEED, Division, agreed, each_share, in_parts, mesh_for, place, put
from valuelearn.types import Agent, Array, FunctionalEnv, Memory, Metrics, Trajectory


def _chunk(
    agent: Agent, env: FunctionalEnv, memory: Memory, steps: int
) -> Callable[[RunState, Array, Array], tuple[RunState, Experience, Metrics, Halt]]:
    """Iterations of `steps` vector steps and some updates, as a function of how many of either."""
    learn = updates_of(agent, memory, agreed)

    def one_step(carry: tuple, keys: jax.Array) -> tuple[tuple, Trajectory]:
        learner, env_state, obs, env_steps = carry
        act_key, env_key = keys
        action = agent.act(learner, obs, act_key, env_steps)
        env_state, step = env.step(env_state, action, env_key)
        env_steps = env_steps + step.valid.sum()
        return (learner, env_state, step.obs, env_steps), Trajectory(obs, action, step)

    @partial(jax.jit, inline=True)  # Traced once, for its shapes and for the loop.
    def iteration(state: RunState, updates: Array) -> tuple[RunState, Experience, Metrics, Halt]:
        key, collect_key, update_key = jax.random.split(state.key, 3)
        carry = (state.learner, state.env, state.obs, state.env_steps)
        keys = jax.random.split(collect_key, (steps, 2))
        (learner, env_state, obs, env_steps), trajectory = jax.lax.scan(one_step, carry, keys)
        memory_state = memory.add(state.memory, trajectory)
        learner, memory_state, metrics, halt = learn(learner, memory_state, update_key, updates)
        state = RunState(learner, memory_state, env_state, obs, key, env_steps)
        return state, experience_of(trajectory.step, jnp), metrics, halt

    def chunk(
        state: RunState, iterations: Array, updates: Array
    ) -> tuple[RunState, Experience, Metrics, Halt]:
        _, like, metrics_like, _ = jax.eval_shape(iteration, state, updates)
        nothing = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), NO_EXPERIENCE, like)

        def goes_on(carry: tuple) -> jax.Array:
            index, halt, *_ = carry
            return (index < iterations) & ~halt.halted

        def body(carry: tuple) -> tuple:
            index, _, state, experience, metrics = carry
            state, more, now, halt = iteration(state, updates)
            return index + 1, halt, state, merged(experience, more, jnp), jax.tree.map(jnp.add, metrics, now)

        start = (jnp.int32(0), Halt(jnp.bool_(False), state.key), state, nothing, zeros_of(metrics_like))
        _, halt, state, experience, metrics = jax.lax.while_loop(goes_on, body, start)
        return state, experience, jax.tree.map(lambda x: x / iterations, metrics), halt

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
    division: Division = Division(),
) -> Iterator[Chunk]:
    """Train every seed at once on a functional environment, a chunk at a time.

    Seeds are spread over what there is of devices, so far as their number divides into equal shares; over
    several for each, its environments, what is remembered of them, and batches or critics lie in parts.

    `start` is the state of an earlier chunk to go on from; its buffers are taken. Once `stopping`
    answers True the chunk under way is the last, with a checkpoint due where more would have followed.
    """
    mesh = mesh_for(len(seeds) if start is None else len(start.env_steps), division.devices)
    memory, by_seed = in_parts(memory, mesh, division), jax.sharding.NamedSharding(mesh, BY_SEED)
    if start is None:
        initial = initial_functional(agent, env, memory, seeds)
        placed = place(jax.eval_shape(initial), mesh, division)
        state = jax.jit(initial, out_shardings=placed)()
    else:
        placed = place(start, mesh, division)
        state = put(start, placed)
    vector_steps = schedule.steps_per_iteration * env.spec.num_envs
    warmup, total = (-(-steps // vector_steps) for steps in (schedule.warmup_steps, schedule.total_steps))
    per_chunk = max(schedule.chunk_steps // vector_steps, 1)
    done = int(state.env_steps[0]) // vector_steps  # Every step of a functional environment is valid.

    chunk = each_share(_chunk(agent, env, memory, schedule.steps_per_iteration), mesh, (0, None, None))
    run, seconds = compiled(chunk, state, 1, 1, donate=(0,), out=(placed, by_seed, by_seed, by_seed))
    for first, end, updates in ((0, min(warmup, total), 0), (warmup, total, schedule.updates_per_iteration)):
        for begin in range(max(first, done), end, per_chunk):
            iterations = min(per_chunk, end - begin)
            state, experience, metrics, halt = run(state, iterations, updates)
            metrics = metrics if updates else {}
            found = metrics_of(state, experience, metrics)  # Waits for the chunk.
            if halt.halted.any():
                refused = jax.jit(jax.vmap(memory.sample))(state.memory, halt.key)
                yield Chunk(state, found, seconds, checkpoint=False, exact=False, refused=refused)
                return
            stop = stopping() and begin + iterations < total
            due = checkpoint_due(schedule, begin * vector_steps, (begin + iterations) * vector_steps)
            yield Chunk(state, found, seconds, checkpoint=due or stop, exact=True)
            if stop:
                return
            seconds = 0.0
