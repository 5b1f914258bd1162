"""Running moments of vectors, to standardise them by."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_LEAST_VARIANCE = 1e-6  # A coordinate that never changes stays where it is.


class Moments(NamedTuple):
    """Mean and variance of the vectors seen so far."""

    seen: jax.Array  # f32[], how many.
    mean: jax.Array  # f32[D]
    variance: jax.Array  # f32[D]


def none(size: int) -> Moments:
    """Before anything was seen; what is standardised by it stays as it is."""
    return Moments(jnp.float32(0), jnp.zeros(size), jnp.ones(size))


def merged(moments: Moments, batch: jax.Array, weight: jax.Array | float = 1.0) -> Moments:
    """Those of all vectors seen, the batch's [B, D] too, each with its weight [B] (Chan et al., 1983)."""
    weights = jnp.broadcast_to(weight, len(batch))[:, None]
    added = weights.sum()
    count = moments.seen + added
    mean = (weights * batch).sum(0) / jnp.maximum(added, 1e-8)
    variance = (weights * jnp.square(batch - mean)).sum(0) / jnp.maximum(added, 1e-8)
    share = added / jnp.maximum(count, 1e-8)
    apart = mean - moments.mean
    return Moments(
        count,
        moments.mean + share * apart,
        (1 - share) * moments.variance + share * variance + share * (1 - share) * jnp.square(apart),
    )


def standardized(moments: Moments, x: jax.Array) -> jax.Array:
    """Vectors [..., D] less their mean, over their standard deviation."""
    return (x - moments.mean) * jax.lax.rsqrt(moments.variance + _LEAST_VARIANCE)


def deviation(moments: Moments) -> jax.Array:
    """Standard deviations [D], as `standardized` divides by them."""
    return jnp.sqrt(moments.variance + _LEAST_VARIANCE)
