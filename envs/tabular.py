"""Decision processes given as tables, stepped inside the compiled loop.

An observation is the state as a one-hot vector.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.types import Array, EnvSpec, FunctionalEnv, Timestep


class Table(NamedTuple):
    """A process of S states, A actions and K outcomes of each."""

    start: Array  # f32[S] probability of each first state.
    probability: Array  # f32[S, A, K]
    reward: Array  # f32[S, A, K], [S, A, K, m]
    following: Array  # i32[S, A, K] state
    terminates: Array  # bool[S, A, K]
    limit: Array  # i32[] steps after which an episode is truncated.


class _State(NamedTuple):
    table: Table
    state: jax.Array  # i32[E]
    steps: jax.Array  # i32[E] since the episode began.
    episode_return: jax.Array  # f32[E]


def _draw(probability: jax.Array, key: jax.Array, num_envs: int) -> jax.Array:
    """Numbers i32[E] drawn with probabilities [N] or [E, N]."""
    reached = jnp.cumsum(probability, -1)[..., :-1]  # Without the last, whatever is left goes there.
    return (jax.random.uniform(key, (num_envs, 1)) >= reached).sum(-1).astype(jnp.int32)


def make(
    table: Callable[[], Table], num_states: int, num_actions: int, num_envs: int, reward_size: int = 0
) -> FunctionalEnv:
    """`num_envs` copies of a process; `init` alone calls `table`, which may choose among some."""

    def init(key: jax.Array) -> tuple[_State, jax.Array]:
        tables = jax.tree.map(jnp.asarray, table())
        state = _draw(tables.start, key, num_envs)
        zeros = jnp.zeros(num_envs, jnp.int32)
        start = _State(tables, state, zeros, zeros.astype(jnp.float32))
        return start, jax.nn.one_hot(state, num_states)

    def step(before: _State, action: jax.Array, key: jax.Array) -> tuple[_State, Timestep]:
        table = before.table
        outcome_key, start_key = jax.random.split(key)
        outcome = _draw(table.probability[before.state, action], outcome_key, num_envs)
        place = (before.state, action, outcome)
        following, terminated, reward = table.following[place], table.terminates[place], table.reward[place]
        steps = before.steps + 1
        episode_return = before.episode_return + (reward.sum(-1) if reward_size else reward)
        last = terminated | (steps >= table.limit)
        state = jnp.where(last, _draw(table.start, start_key, num_envs), following)
        timestep = Timestep(
            next_obs=jax.nn.one_hot(following, num_states),
            obs=jax.nn.one_hot(state, num_states),
            reward=reward,
            discount=1.0 - terminated,
            last=last,
            valid=jnp.ones(num_envs, bool),
            episode_return=episode_return,
        )
        after = _State(table, state, jnp.where(last, 0, steps), jnp.where(last, 0.0, episode_return))
        return after, timestep

    spec = EnvSpec((num_states,), np.dtype(np.float32), num_actions, num_envs, reward_size=reward_size)
    return FunctionalEnv(spec, init, step)
