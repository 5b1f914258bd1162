"""Actors and critics for continuous actions."""

from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp

from valuelearn import heads
from valuelearn.networks.layers import InitName, Stream
from valuelearn.types import Network, Params

_LEAST_LOG_STD, _GREATEST_LOG_STD = -20.0, 2.0  # As in Haarnoja et al. (2018).


def _flat(obs: jax.Array) -> jax.Array:
    return obs.reshape(obs.shape[0], -1).astype(jnp.float32)


def actor(action_size: int, *, hidden: Sequence[int], init: InitName, layer_norm: bool) -> Network:
    """`apply(params, obs) -> [B, 2, D]`: mean and logarithm of the standard deviation, before the tanh."""
    module = Stream(tuple(hidden), 2 * action_size, init, layer_norm, last_scale=1.0)

    def apply(params: Params, obs: jax.Array) -> jax.Array:
        mean, log_std = jnp.split(cast(jax.Array, module.apply(params, _flat(obs))), 2, axis=-1)
        return jnp.stack([mean, jnp.clip(log_std, _LEAST_LOG_STD, _GREATEST_LOG_STD)], axis=1)

    return Network(lambda key, obs: module.init(key, _flat(obs)), apply)


def critic(
    head: heads.Head, *, hidden: Sequence[int], init: InitName, layer_norm: bool, last_scale: float
) -> Network:
    """`apply(params, obs, action) -> out [B, N]`, for a head's outputs."""
    module = Stream(tuple(hidden), head.size, init, layer_norm, last_scale)

    def joined(obs: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.concatenate([_flat(obs), action], axis=-1)

    def init_params(key: jax.Array, obs: jax.Array, action: jax.Array) -> Params:
        return module.init(key, joined(obs, action))

    def apply(params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return cast(jax.Array, module.apply(params, joined(obs, action)))

    return Network(init_params, apply)
