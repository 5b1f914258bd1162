"""Random keys as the numbers that they are made of, for what takes numbers alone, and back."""

from typing import Any

import jax


def is_key(x: Any) -> bool:
    """Whether an array, or its shape and type, is one of random keys."""
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def plain(tree: Any) -> Any:
    """The tree with numbers, u32[..., 2] or as many as there are, in the place of keys [...]."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def keyed(tree: Any, like: Any) -> Any:
    """The tree with keys in the place of such numbers, where `like` has keys."""
    return jax.tree.map(lambda x, wanted: jax.random.wrap_key_data(x) if is_key(wanted) else x, tree, like)
