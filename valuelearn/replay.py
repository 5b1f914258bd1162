"""Memories on the device: uniform and prioritised replay, the last rollout alone, and a dataset.

The replay is one ring of rows for each of E environments. A row holds one observation, each
frame once, and what followed the action taken there. The observation that ends an episode gets a
row of its own, without an action, so a true next observation always exists and every autoreset
convention gives the same transitions. A sample rebuilds frame stacks and n-step sums from rows.

Add inside a compiled function whose state is donated: otherwise each call copies the ring.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelearn.types import Array, EnvSpec, Memory, Sample, Stocked, Trajectory, Transition

_OLDEST = jnp.iinfo(jnp.uint16).max
_BLOCK = 1024  # Leaves under one node of the priority index; two levels serve 10^6 rows.


class CapacityError(ValueError):
    """A capacity that leaves too few rows to sample one transition."""


class Priorities(NamedTuple):
    """Two-level sums over leaves: sampling reads one row of nodes and one block of leaves."""

    leaves: jax.Array  # f32[blocks, _BLOCK]
    nodes: jax.Array  # f32[blocks], each the sum of its block.
    largest: jax.Array  # f32[], what new rows get.


class ReplayState(NamedTuple):
    """Columns of E * S rows, the S slots of an environment after another's.

    Flat, as the CPU's compiler copies a whole column of two axes before it gathers from it.
    """

    frame: jax.Array  # [E * S, ...] newest frame of the row's observation.
    stock: jax.Array | None  # f32[E * S, K] carried beside it.
    action: jax.Array  # i32[E * S], f32[E * S, D]
    reward: jax.Array  # f32[E * S], [E * S, m]
    discount: jax.Array  # f32[E * S] 0 where the action terminated the episode.
    last: jax.Array  # bool[E * S] the action ended the episode.
    start: jax.Array  # bool[E * S] an action was taken here: a transition may start.
    age: jax.Array  # u16[E * S] steps since the episode began, 65,535 for more.
    newest_age: jax.Array  # u16[E] of the row that is written next; an add never reads the ring.
    written: jax.Array  # i32[E] rows since the start.
    priorities: Priorities | None


def bytes_needed(spec: EnvSpec, capacity: int) -> int:
    """Bytes that a replay of `capacity` steps allocates, priorities aside (they take 4 a step)."""
    numbers = spec.stock_size + max(spec.reward_size, 1) + max(spec.action_size, 1)
    return capacity * (spec.bytes_per_obs // spec.frame_stack + 4 * numbers + 8)


def _set_priorities(state: Priorities, index: jax.Array, value: jax.Array) -> Priorities:
    """Leaves [K] set to values [K]; of equal indices one wins. Sums are rebuilt, never updated."""
    block, leaf = index // _BLOCK, index % _BLOCK
    leaves = state.leaves.at[block, leaf].set(value)
    return state._replace(leaves=leaves, nodes=state.nodes.at[block].set(leaves[block].sum(-1)))


def _search(masses: jax.Array, point: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Index of the mass [K] that `point` falls in, never one of zero, and how far into it."""
    ends, there = jnp.cumsum(masses), masses > 0
    # Sums are rounded: the end of a mass of zero may differ from that before it, and the point may lie below
    # 0, or past the last end.
    ahead = (ends > point) & there
    last = len(masses) - 1 - jnp.argmax(there[::-1])
    index = jnp.where(ahead.any(), jnp.argmax(ahead), last)
    return index, point - (ends[index] - masses[index])


def _draw(state: Priorities, uniform: jax.Array) -> jax.Array:
    """Leaf index i32[] for a uniform number in [0, 1), in proportion to its priority."""
    block, rest = _search(state.nodes, uniform * state.nodes.sum())
    leaf, _ = _search(state.leaves[block], rest)
    return block * _BLOCK + leaf


def replay(
    spec: EnvSpec,
    *,
    capacity: int,
    batch_size: int,
    gamma: float,
    n_step: int = 1,
    priority_exponent: float | None = None,
    importance_exponent: Callable[[jax.Array], jax.Array] = lambda written: jnp.float32(0.5),
) -> Memory:
    """A replay of `capacity` steps over all environments; uniform without `priority_exponent`.

    The n-step sum stops where an episode ends; there the discount is gamma^m after m steps where
    it was truncated and 0 where it terminated. Prioritised (Schaul et al., 2016): rows are drawn in
    proportion to priority ** priority_exponent, new ones at the largest yet seen; weights are
    (1 / P) ** importance_exponent(steps written), divided by the largest of the batch.

    Raises:
        CapacityError: where an environment is left too few rows to sample one transition.
    """
    envs, stack = spec.num_envs, spec.frame_stack
    slots = capacity // envs
    # Rows behind the newest that hold nothing older: a reset writes one row ahead of the next.
    reach = slots - stack - 1
    if reach < n_step + 4:
        raise CapacityError(
            f"capacity {capacity} gives each of {envs} environments {slots} rows; "
            f"a frame stack of {stack} and n_step {n_step} need at least {stack + n_step + 5}"
        )
    frame_shape = spec.obs_shape[:-1] if stack > 1 else spec.obs_shape
    every = jnp.arange(envs)

    def at(env: jax.Array, row: jax.Array) -> jax.Array:
        """Where an environment's row lies that was the `row`-th to be written."""
        return env * slots + row % slots

    def init() -> ReplayState:
        def column(dtype: Any, *shape: int) -> jax.Array:
            return jnp.zeros((envs * slots, *shape), dtype)

        vector = (spec.reward_size,) if spec.reward_size else ()

        blocks = -(-envs * slots // _BLOCK)
        leaves = Priorities(jnp.zeros((blocks, _BLOCK)), jnp.zeros(blocks), jnp.float32(1.0))
        return ReplayState(
            frame=column(spec.obs_dtype, *frame_shape),
            stock=column(jnp.float32, spec.stock_size) if spec.stock_size else None,
            action=column(spec.action_dtype, *spec.action_shape),
            reward=column(jnp.float32, *vector),
            discount=column(jnp.float32),
            last=column(jnp.bool),
            start=column(jnp.bool),
            age=column(jnp.uint16),
            newest_age=jnp.zeros(envs, jnp.uint16),
            written=jnp.zeros(envs, jnp.int32),
            priorities=None if priority_exponent is None else leaves,
        )

    def newest(obs: Array) -> tuple[jax.Array, jax.Array | None]:
        """The newest frame of an observation, and the stock that comes with it."""
        frames, stock = obs if spec.stock_size else (obs, None)
        return (frames[..., -1] if stack > 1 else frames), stock

    def eligible(state: ReplayState, row: jax.Array) -> jax.Array:
        """Whether transitions may start at absolute rows [E, K]: whole, and not overwritten."""
        written = state.written[:, None]
        in_window = (row >= written - reach) & (row <= written - n_step) & (row >= 0)
        return in_window & state.start[at(every[:, None], row)]

    def add_step(state: ReplayState, step: Trajectory) -> tuple[ReplayState, None]:
        timestep = step.step
        here, there = at(every, state.written), at(every, state.written + 1)
        # The next observation is written too: it may be an episode's end, else it is overwritten.
        frame, stock = jax.tree.map(
            lambda column, now, then: column.at[here].set(now).at[there].set(then),
            (state.frame, state.stock),
            newest(step.obs),
            newest(timestep.next_obs),
        )
        age = state.newest_age
        following = jnp.where(age == _OLDEST, age, age + 1)

        def put(column: jax.Array, value: jax.Array, end_value: jax.Array | bool) -> jax.Array:
            return column.at[here].set(value).at[there].set(end_value)

        advance = jnp.where(timestep.last, 2, 1) * timestep.valid
        written = state.written + advance
        state = ReplayState(
            frame=frame,
            stock=stock,
            action=state.action.at[here].set(step.action),
            reward=state.reward.at[here].set(timestep.reward),
            discount=state.discount.at[here].set(timestep.discount),
            last=put(state.last, timestep.last, False),
            start=put(state.start, timestep.valid, False),
            age=put(state.age, age, following),
            # After an end the next row is a first one.
            newest_age=jnp.where(timestep.last, 0, jnp.where(timestep.valid, following, age)),
            written=written,
            priorities=state.priorities,
        )
        if state.priorities is None:
            return state, None
        # Rows that became eligible get the largest priority; those that ceased to be get none. There are
        # as many of either as rows were written; the others keep what they have.
        behind = jnp.arange(2)
        changed = jnp.concatenate(
            [written[:, None] - n_step - behind, written[:, None] - reach - 1 - behind], axis=1
        )
        alive = eligible(state, changed)
        index = at(every[:, None], changed)
        keep = (changed < 0) | (jnp.tile(behind, 2) >= advance[:, None])
        old = state.priorities.leaves[index // _BLOCK, index % _BLOCK]
        value = jnp.where(keep, old, jnp.where(alive, state.priorities.largest, 0.0))
        priorities = _set_priorities(state.priorities, index.ravel(), value.ravel())
        return state._replace(priorities=priorities), None

    def add(state: ReplayState, trajectory: Trajectory) -> ReplayState:
        return jax.lax.scan(add_step, state, trajectory)[0]

    def uniform_rows(state: ReplayState, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Environments and absolute rows [B], each eligible one equally likely."""
        first = jnp.maximum(state.written - reach, 0)
        count = jnp.maximum(state.written - n_step - first + 1, 0)
        ends = jnp.cumsum(count)

        def draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            # Of 2^32 numbers the first few rows get one more than the last: 1 in 4,000 for 10^6 rows.
            point = (jax.random.bits(key, (batch_size,)) % ends[-1].astype(jnp.uint32)).astype(jnp.int32)
            env = jnp.searchsorted(ends, point, side="right")
            row = first[env] + point - (ends[env] - count[env])
            return env, row, state.start[at(env, row)]

        def redraw(carry: tuple) -> tuple:
            env, row, good, key = carry
            key, subkey = jax.random.split(key)
            fresh = draw(subkey)
            return (*(jnp.where(good, a, b) for a, b in zip((env, row, good), fresh, strict=True)), key)

        key, subkey = jax.random.split(key)
        env, row, _, _ = jax.lax.while_loop(lambda carry: ~carry[2].all(), redraw, (*draw(subkey), key))
        return env, row

    def observed(state: ReplayState, env: jax.Array, row: jax.Array) -> Array:
        """Observations [B, ...] at absolute rows [B]."""
        frames = stacked(state, env, row)
        return frames if state.stock is None else Stocked(frames, state.stock[at(env, row)])

    def stacked(state: ReplayState, env: jax.Array, row: jax.Array) -> jax.Array:
        """Frames [B, ...] at absolute rows [B]; those before an episode began are zero."""
        if stack == 1:
            return state.frame[at(env, row)]
        back = jnp.arange(stack - 1, -1, -1)
        frames = state.frame[at(env[:, None], row[:, None] - back)]  # [B, stack, ...]
        age = state.age[at(env, row)]
        present = (back <= age[:, None]).reshape(*frames.shape[:2], *[1] * (frames.ndim - 2))
        return jnp.moveaxis(jnp.where(present, frames, jnp.zeros_like(frames)), 1, -1)

    def transition(state: ReplayState, env: jax.Array, row: jax.Array) -> Transition:
        index = at(env[:, None], row[:, None] + jnp.arange(n_step))  # [B, n_step]
        ended = state.last[index] | (state.discount[index] == 0)
        running = jnp.cumprod(jnp.pad(~ended, ((0, 0), (1, 0)), constant_values=True)[:, :-1], 1)
        steps = running.sum(1)  # Until the end of the episode, or n_step.
        reward = state.reward[index]  # [B, n_step], [B, n_step, m]
        weights = (running * gamma ** jnp.arange(n_step)).reshape(*index.shape, *[1] * (reward.ndim - 2))
        return Transition(
            obs=observed(state, env, row),
            action=state.action[index[:, 0]],
            reward=(reward * weights).sum(1),
            discount=gamma**steps * state.discount[at(env, row + steps - 1)],
            next_obs=observed(state, env, row + steps),
            age=state.age[at(env, row)],
        )

    def sample(state: ReplayState, key: jax.Array) -> Sample:
        if state.priorities is None:
            env, row = uniform_rows(state, key)
            weight = jnp.ones(batch_size)
            index = at(env, row)
        else:
            # Stratified: one draw from each of B equal parts of the mass.
            uniform = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
            index = jax.vmap(_draw, (None, 0))(state.priorities, uniform)
            env, slot = index // slots, index % slots
            newest = state.written[env] - n_step
            row = newest - (newest - slot) % slots
            leaves, nodes, _ = state.priorities
            probability = leaves[index // _BLOCK, index % _BLOCK] / nodes.sum()
            weight = probability ** -importance_exponent(state.written.sum())
            weight = weight / weight.max()
        return Sample(transition(state, env, row), weight, index)

    def reprioritise(state: ReplayState, sample: Sample, priority: jax.Array) -> ReplayState:
        if state.priorities is None or priority_exponent is None:
            return state
        old = state.priorities.leaves[sample.index // _BLOCK, sample.index % _BLOCK]
        # Of an update that was not made none is known.
        value = jnp.where(jnp.isnan(priority), old, (priority + 1e-10) ** priority_exponent)
        priorities = _set_priorities(state.priorities, sample.index, value)
        largest = jnp.maximum(priorities.largest, value.max())
        return state._replace(priorities=priorities._replace(largest=largest))

    return Memory(init, add, sample, reprioritise)


def last_rollout(template: Callable[[], Trajectory]) -> Memory:
    """A memory of the rollout just made, for agents that learn on policy; sampling returns it whole."""
    return Memory(
        init=template,
        add=lambda state, trajectory: trajectory,
        sample=lambda state, key: state,
        reprioritise=lambda state, sample, priority: state,
    )


def recorded(transitions: Transition, batch_size: int) -> Memory:
    """A memory of transitions [N, ...] that were recorded before: batches are uniform, nothing is added."""
    count = len(transitions.reward)

    def sample(state: Transition, key: jax.Array) -> Sample:
        index = jax.random.randint(key, (batch_size,), 0, count)
        batch = jax.tree.map(lambda x: x[index], state)
        return Sample(batch, jnp.ones(batch_size), index)

    return Memory(
        init=lambda: transitions,
        add=lambda state, trajectory: state,
        sample=sample,
        reprioritise=lambda state, sample, priority: state,
    )


def was_recorded(transition: Transition) -> jax.Array:
    """Whether transitions were recorded before the run, bool[B]: all of a dataset, of `mixed` those kept."""
    if transition.age is None:
        return jnp.ones(len(transition.reward), bool)
    return transition.age == _OLDEST


def mixed(kept: Memory, growing: Memory) -> Memory:
    """Batches of one memory that stays as it is and one that is added to, both drawn from uniformly.

    A transition of the first is of no age that the other could tell: it has the oldest there is.
    """

    def sample(state: tuple[Any, Any], key: jax.Array) -> Sample:
        first, second = (
            memory.sample(part, key)
            for memory, part, key in zip((kept, growing), state, jax.random.split(key), strict=True)
        )
        ages = jnp.full(len(first.index), _OLDEST, second.transition.age.dtype)
        first = first._replace(transition=first.transition._replace(age=ages))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), first, second)

    return Memory(
        init=lambda: (kept.init(), growing.init()),
        add=lambda state, trajectory: (state[0], growing.add(state[1], trajectory)),
        sample=sample,
        reprioritise=lambda state, sample, priority: state,
    )
