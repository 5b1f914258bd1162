"""From greedy actions to the actions taken."""

import jax
import jax.numpy as jnp


def epsilon_greedy(
    action: jax.Array, epsilon: jax.Array | float, num_actions: int, key: jax.Array
) -> jax.Array:
    """Actions i32[E], each replaced by a uniform one with probability epsilon."""
    explore_key, action_key = jax.random.split(key)
    random = jax.random.randint(action_key, action.shape, 0, num_actions)
    return jnp.where(jax.random.uniform(explore_key, action.shape) < epsilon, random, action)
