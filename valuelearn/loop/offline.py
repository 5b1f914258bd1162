"""Training on a recorded dataset: updates alone, of every seed at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.loop.parts import (
    NO_EXPERIENCE,
    Chunk,
    RunState,
    Schedule,
    checkpoint_due,
    compiled,
    initial_timestep,
    metrics_of,
    updates_of,
)
from valuelearn.loop.placement import (
    BY_SEED,
    EVERYWHERE,
    Division,
    agreed,
    each_share,
    in_parts,
    mesh_for,
    place_learner,
    put,
)
from valuelearn.replay import Priorities, ReplayState
from valuelearn.types import Agent, Array, EnvSpec, Memory


def _priorities(dataset: Any) -> Priorities | None:
    """What updates change of a dataset's memory, where they change anything."""
    return dataset.priorities if isinstance(dataset, ReplayState) else None


def initial_offline(
    agent: Agent, memory: Memory, spec: EnvSpec, seeds: Sequence[int]
) -> Callable[[], RunState]:
    """Makes the state of all seeds before their first update; of the dataset, priorities are part of it."""
    obs = initial_timestep(spec).obs

    def one(key: jax.Array) -> RunState:
        key, init_key = jax.random.split(key)
        priorities = _priorities(memory.init())
        return RunState(agent.init(init_key, obs), priorities, None, None, key, jnp.int32(0))

    return lambda: jax.vmap(one)(jnp.stack([jax.random.key(seed) for seed in seeds]))


def train_offline(
    agent: Agent,
    memory: Memory,
    spec: EnvSpec,
    schedule: Schedule,
    seeds: Sequence[int],
    start: RunState | None = None,
    stopping: Callable[[], bool] = lambda: False,
    division: Division = Division(),
) -> Iterator[Chunk]:
    """Train every seed at once on what `memory` holds from its beginning, a chunk at a time.

    Over several devices for each seed its batches or its critics lie in parts; the dataset is whole on each.

    The schedule's steps are updates. `start` is the state of an earlier chunk to go on from; its buffers
    are taken. Once `stopping` answers True the chunk under way is the last, with a checkpoint due where
    more would have followed.
    """
    count = len(seeds)
    mesh = mesh_for(count, division.devices)
    memory = in_parts(memory, mesh, division)
    by_seed, everywhere = (jax.sharding.NamedSharding(mesh, spec) for spec in (BY_SEED, EVERYWHERE))
    initial = initial_offline(agent, memory, spec, seeds)
    like = jax.eval_shape(initial)
    placed = jax.tree.map(lambda x: by_seed, like)
    placed = placed._replace(learner=place_learner(like.learner, mesh, division))
    state = jax.jit(initial, out_shardings=placed)() if start is None else put(start, placed)
    # An argument of the compiled function: held within it, it would be compiled as a constant.
    dataset = jax.device_put(memory.init(), everywhere)
    learn = updates_of(agent, memory, agreed)

    def held(state: RunState, dataset: Array) -> Array:
        return dataset if state.memory is None else dataset._replace(priorities=state.memory)

    def one(state: RunState, dataset: Array, updates: Array) -> tuple:
        key, update_key = jax.random.split(state.key)
        learner, dataset, metrics, halt = learn(state.learner, held(state, dataset), update_key, updates)
        return state._replace(learner=learner, memory=_priorities(dataset), key=key), metrics, halt

    def drawn(state: RunState, dataset: Array, key: jax.Array) -> Any:
        return memory.sample(held(state, dataset), key)

    chunk = each_share(one, mesh, (0, None, None))
    run, seconds = compiled(chunk, state, dataset, 1, donate=(0,), out=(placed, by_seed, by_seed))
    for begin in range(int(state.learner.updates[0]), schedule.total_steps, schedule.chunk_steps):
        end = min(begin + schedule.chunk_steps, schedule.total_steps)
        state, metrics, halt = run(state, dataset, end - begin)
        nothing = jax.tree.map(lambda x: np.full(count, x), NO_EXPERIENCE)
        found = metrics_of(state, nothing, metrics)  # Waits for the chunk.
        if halt.halted.any():
            refused = jax.jit(jax.vmap(drawn, (0, None, 0)))(state, dataset, halt.key)
            yield Chunk(state, found, seconds, checkpoint=False, exact=False, refused=refused)
            return
        stop = stopping() and end < schedule.total_steps
        due = checkpoint_due(schedule, begin, end)
        yield Chunk(state, found, seconds, checkpoint=due or stop, exact=True)
        if stop:
            return
        seconds = 0.0
