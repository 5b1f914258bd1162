"""What one step does to the return that follows it: callables on returns of any shape."""

from collections.abc import Callable

import jax

Backup = Callable[[jax.Array], jax.Array]


def summed(reward: jax.Array, discount: jax.Array) -> Backup:
    """The discounted sum: `z -> reward + discount * z`, for one transition's scalars."""
    return lambda z: reward + discount * z
