"""Random keys as the numbers that they are made of, for what takes numbers alone, and back."""

from typing import Any

import jax
import numpy as np


def host_seed(*entropy: int) -> int:
    """A seed for environments on the host, of which copies count up; others from other numbers."""
    # 30 bits: emulators hold a seed in 32 bits with a sign.
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) & (2**30 - 1)


def is_key(x: Any) -> bool:
    """Whether an array, or its shape and type, is one of random keys."""
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def plain(tree: Any) -> Any:
    """The tree with numbers, u32[..., 2] or as many as there are, in the place of keys [...]."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def keyed(tree: Any, like: Any) -> Any:
    """The tree with keys in the place of such numbers, where `like` has keys."""
    return jax.tree.map(lambda x, wanted: jax.random.wrap_key_data(x) if is_key(wanted) else x, tree, like)
