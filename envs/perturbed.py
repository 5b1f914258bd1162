"""Functional environments made harder: actions that stick, rewards with noise."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from valuelearn.types import FunctionalEnv, Timestep


class _State(NamedTuple):
    env: Any
    action: jax.Array  # [E], [E, D], the last one carried out.


def sticky(env: FunctionalEnv, probability: float) -> FunctionalEnv:
    """The environment in which the last action is repeated, with that probability, instead of the chosen one.

    Machado et al. (2018). An episode begins as if action 0, or one of zeros, had gone before.
    """
    spec = env.spec

    def init(key: jax.Array) -> tuple[_State, jax.Array]:
        state, obs = env.init(key)
        return _State(state, jnp.zeros((spec.num_envs, *spec.action_shape), spec.action_dtype)), obs

    def step(state: _State, action: jax.Array, key: jax.Array) -> tuple[_State, Timestep]:
        sticks_key, env_key = jax.random.split(key)
        ones = [1] * len(spec.action_shape)
        sticks = jax.random.bernoulli(sticks_key, probability, (spec.num_envs, *ones))
        action = jnp.where(sticks, state.action, action)
        env_state, timestep = env.step(state.env, action, env_key)
        return _State(env_state, jnp.where(timestep.last.reshape(-1, *ones), 0, action)), timestep

    return FunctionalEnv(spec, init, step)


def noisy_rewards(env: FunctionalEnv, low: float, high: float) -> FunctionalEnv:
    """The environment with uniform noise between `low` and `high` on every reward that is learnt from.

    Farebrother et al. (2024), figure 14, add noise from 0 to 0.1, 0.3 and 1.0. Noise of mean m moves
    values by m / (1 - gamma), so their support must move, too. Reported returns are without noise.
    """

    def step(state: Any, action: jax.Array, key: jax.Array) -> tuple[Any, Timestep]:
        noise_key, env_key = jax.random.split(key)
        state, timestep = env.step(state, action, env_key)
        noise = jax.random.uniform(noise_key, timestep.reward.shape, minval=low, maxval=high)
        return state, timestep._replace(reward=timestep.reward + noise)

    return FunctionalEnv(env.spec, env.init, step)
