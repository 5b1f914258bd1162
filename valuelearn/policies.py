"""From greedy actions to the actions taken."""

import jax
import jax.numpy as jnp


def epsilon_greedy(
    action: jax.Array, epsilon: jax.Array | float, num_actions: int, key: jax.Array
) -> jax.Array:
    """Actions i32[E], each replaced by a uniform one with probability epsilon."""
    explore, which = jax.random.uniform(key, (2, *action.shape))
    return jnp.where(explore < epsilon, (which * num_actions).astype(action.dtype), action)
