"""From what a network says to the actions taken."""

import math

import jax
import jax.numpy as jnp

from valuelearn.types import EnvSpec


def epsilon_greedy(action: jax.Array, epsilon: jax.Array | float, spec: EnvSpec, key: jax.Array) -> jax.Array:
    """Actions [E], [E, D], each replaced by a uniform one with probability epsilon."""
    explore, *uniform = jax.random.uniform(key, (1 + max(spec.action_size, 1), action.shape[0]))
    if spec.action_size:
        return jnp.where((explore < epsilon)[:, None], 2.0 * jnp.stack(uniform, -1) - 1.0, action)
    return jnp.where(explore < epsilon, (uniform[0] * spec.num_actions).astype(action.dtype), action)


def tanh_gaussian(mean: jax.Array, log_std: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Actions [..., D] drawn as the tanh of a Gaussian, and the logarithms [...] of their densities.

    Haarnoja et al. (2018), appendix C; the change of variables in a form that is finite everywhere.
    """
    noise = jax.random.normal(key, mean.shape)
    raw = mean + jnp.exp(log_std) * noise
    gaussian = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    slope = 2.0 * (math.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))  # log(1 - tanh(raw)^2)
    return jnp.tanh(raw), (gaussian - slope).sum(-1)
