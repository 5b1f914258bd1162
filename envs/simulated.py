"""Environments made from a transition function, of known dynamics or of learnt ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelearn.types import EnvSpec, FunctionalEnv, Timestep

World = Any  # What is known of a world, a tree of arrays; part of the environment's state.
Starts = Callable[
    [World, jax.Array, int], jax.Array
]  # world, key, count -> first observations f32[count, D].


class Outcome(NamedTuple):
    """What follows an action."""

    next_obs: jax.Array  # f32[E, D]
    reward: jax.Array  # f32[E]
    terminated: jax.Array  # bool[E]


Dynamics = Callable[
    [World, jax.Array, jax.Array, jax.Array], Outcome
]  # world, obs [E, D], action [E, A], key.


class _State(NamedTuple):
    world: World
    obs: jax.Array  # f32[E, D]
    steps: jax.Array  # i32[E] since the episode began.
    episode_return: jax.Array  # f32[E]


def make(spec: EnvSpec, starts: Starts, dynamics: Dynamics, limit: int, world: World = ()) -> FunctionalEnv:
    """`spec.num_envs` copies whose episodes are truncated after `limit` steps.

    A `world` of many numbers is no constant of compiled programs, which would take long to compile.
    """

    def init(key: jax.Array) -> tuple[_State, jax.Array]:
        obs = starts(world, key, spec.num_envs)
        zeros = jnp.zeros(spec.num_envs, jnp.int32)
        return _State(world, obs, zeros, zeros.astype(jnp.float32)), obs

    def step(before: _State, action: jax.Array, key: jax.Array) -> tuple[_State, Timestep]:
        outcome_key, start_key = jax.random.split(key)
        next_obs, reward, terminated = dynamics(before.world, before.obs, action, outcome_key)
        steps, episode_return = before.steps + 1, before.episode_return + reward
        last = terminated | (steps >= limit)
        obs = jnp.where(last[:, None], starts(before.world, start_key, spec.num_envs), next_obs)
        timestep = Timestep(
            next_obs=next_obs,
            obs=obs,
            reward=reward,
            discount=1.0 - terminated,
            last=last,
            valid=jnp.ones(spec.num_envs, bool),
            episode_return=episode_return,
        )
        state = _State(before.world, obs, jnp.where(last, 0, steps), jnp.where(last, 0.0, episode_return))
        return state, timestep

    return FunctionalEnv(spec, init, step)
