"""From what a network says to the actions taken."""

import math

import jax
import jax.numpy as jnp

from valuelearn.types import EnvSpec

LEAST_LOG_STD, _GREATEST_LOG_STD = -20.0, 2.0  # As in Haarnoja et al. (2018).


def epsilon_greedy(action: jax.Array, epsilon: jax.Array | float, spec: EnvSpec, key: jax.Array) -> jax.Array:
    """Actions [E], [E, D], each replaced by a uniform one with probability epsilon."""
    explore, *uniform = jax.random.uniform(key, (1 + max(spec.action_size, 1), action.shape[0]))
    if spec.action_size:
        return jnp.where((explore < epsilon)[:, None], 2.0 * jnp.stack(uniform, -1) - 1.0, action)
    return jnp.where(explore < epsilon, (uniform[0] * spec.num_actions).astype(action.dtype), action)


def gaussian(out: jax.Array, least_log_std: float = LEAST_LOG_STD) -> tuple[jax.Array, jax.Array]:
    """Means [..., D] and logarithms of standard deviations, within bounds, of outputs [..., 2 D]."""
    mean, log_std = jnp.split(out, 2, axis=-1)
    return mean, bounded(log_std, least_log_std)


def bounded(log_std: jax.Array, least: float = LEAST_LOG_STD) -> jax.Array:
    """Logarithms of standard deviations between the least and that of more than actions span."""
    return jnp.clip(log_std, least, _GREATEST_LOG_STD)


def tanh_gaussian(mean: jax.Array, log_std: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Actions [..., D] drawn as the tanh of a Gaussian, and the logarithms [...] of their densities.

    Haarnoja et al. (2018), appendix C; the change of variables in a form that is finite everywhere.
    """
    noise = jax.random.normal(key, mean.shape)
    raw = mean + jnp.exp(log_std) * noise
    density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    slope = 2.0 * (math.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))  # log(1 - tanh(raw)^2)
    return jnp.tanh(raw), (density - slope).sum(-1)


def gaussian_log_prob(mean: jax.Array, log_std: jax.Array, action: jax.Array) -> jax.Array:
    """Logarithms [...] of a Gaussian's density at actions [..., D]."""
    noise = (action - mean) * jnp.exp(-log_std)
    return (-0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
