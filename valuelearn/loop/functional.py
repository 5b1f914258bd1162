"""Training on a functional environment: everything inside one compiled function."""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

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
from valuelearn.types import Agent, Array, FunctionalEnv, Memory, Metrics, Trajectory

_SEEDS, _EVERYWHERE = jax.sharding.PartitionSpec("seeds"), jax.sharding.PartitionSpec()
_TOGETHER = "together"  # The seeds of one device.


def agreed(holds: jax.Array) -> jax.Array:
    """Whether it holds of all seeds of this device: one answer, which a loop over all of them can end by."""
    return jax.lax.pmin(holds.astype(jnp.int32), _TOGETHER) > 0


def of_all_seeds(function: Callable, in_axes: tuple[int | None, ...]) -> Callable:
    """The function of one seed for all seeds of a device, that have to be `agreed`."""
    return jax.vmap(function, in_axes, axis_name=_TOGETHER)


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


def devices_for(seeds: int) -> list[jax.Device]:
    """The devices that take equal shares of so many seeds: as many as divide them."""
    devices = jax.local_devices()
    return devices[: max(count for count in range(1, len(devices) + 1) if seeds % count == 0)]


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

    Seeds are spread over the devices, so far as their number divides into equal shares.

    `start` is the state of an earlier chunk to go on from; its buffers are taken. Once `stopping`
    answers True the chunk under way is the last, with a checkpoint due where more would have followed.
    """
    count = len(seeds) if start is None else len(start.env_steps)
    mesh = jax.sharding.Mesh(np.asarray(devices_for(count)), ("seeds",))
    spread = jax.sharding.NamedSharding(mesh, _SEEDS)
    if start is None:
        state = jax.jit(initial_functional(agent, env, memory, seeds), out_shardings=spread)()
    else:
        state = jax.device_put(start, spread)
    vector_steps = schedule.steps_per_iteration * env.spec.num_envs
    warmup, total = (-(-steps // vector_steps) for steps in (schedule.warmup_steps, schedule.total_steps))
    per_chunk = max(schedule.chunk_steps // vector_steps, 1)
    done = int(state.env_steps[0]) // vector_steps  # Every step of a functional environment is valid.

    chunk = of_all_seeds(_chunk(agent, env, memory, schedule.steps_per_iteration), (0, None, None))
    in_specs = (_SEEDS, _EVERYWHERE, _EVERYWHERE)
    # Unchecked: loops start from constants, which every device has alike, and carry what is each one's own.
    chunk = jax.shard_map(chunk, mesh=mesh, in_specs=in_specs, out_specs=_SEEDS, check_vma=False)
    run, seconds = compiled(chunk, state, 1, 1, donate=(0,))
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
