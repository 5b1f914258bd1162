"""Where the stock enters a network."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelearn.networks.layers import Dense, InitName, activate

_SCALES = (1.0, 4.0, 16.0)  # Reward units; tanh resolves the neighbourhood of zero, where utilities bend.


class StockInput(NamedTuple):
    """What a network must know of the stock."""

    dimensions: int  # Leading numbers that are coordinates of the stock; the rest are shown as they are.
    bound: float  # Reward units; |stock| never exceeds it.
    num_bumps: int  # Triangular bumps over [-bound, bound]; one a unit tells whole numbers apart exactly.


def stock_features(carried: jax.Array, stock: StockInput) -> jax.Array:
    """Features [B, F] of what an episode carries, [B, K]."""
    c, rest = jnp.split(carried, [stock.dimensions], axis=-1)
    c = c[..., None]
    centres = jnp.linspace(-stock.bound, stock.bound, stock.num_bumps)
    bumps = jnp.maximum(0.0, 1.0 - jnp.abs(c - centres) / (centres[1] - centres[0]))
    waves = jnp.tanh(c / jnp.asarray(_SCALES))
    features = jnp.concatenate([c / stock.bound, waves, bumps], axis=-1)
    return jnp.concatenate([features.reshape(*features.shape[:-2], -1), rest], axis=-1)


class StockLayer(nn.Module):
    """A hidden layer whose units the stock scales and shifts."""

    stock: StockInput
    features: int
    scheme: InitName
    layer_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, carried: jax.Array) -> jax.Array:
        """Features [B, F] and what is carried [B, K] -> [B, features]."""
        hidden = Dense(self.features, self.scheme)(stock_features(carried, self.stock))
        hidden = activate(hidden, self.layer_norm)
        scale, shift = jnp.split(Dense(2 * self.features, self.scheme)(hidden), 2, axis=-1)
        return activate(Dense(self.features, self.scheme)(x) * (1.0 + scale) + shift, self.layer_norm)
