"""64-bit fingerprints of arrays: equal bits give equal ones, and one other bit gives another.

Each number of an array, as a 32-bit word, is mixed with its place by a bijection (the finaliser of Appleby's
MurmurHash3), twice with different salts, and the results are summed up modulo 2^32. Sums of integers do
not depend on their order, so devices and compilers cannot change them.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.random_keys import plain

_SALTS = (0x9E3779B9, 0x7F4A7C15)
_BYTES = 2**18  # That are mixed at once.


def _words(x: jax.Array) -> jax.Array:
    """The bits of an array as u32[N]."""
    if x.dtype == jnp.bool:
        x = x.astype(jnp.uint8)
    x = x.ravel()
    if x.dtype.itemsize == 4:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)


def _mixed(words: jax.Array, part: jax.Array | int, salt: int) -> jax.Array:
    """The words u32[N] of one part of an array, each mixed with its place."""
    place = jnp.arange(len(words), dtype=jnp.uint32) * jnp.uint32(0x85EBCA77)
    place += jnp.uint32(part) * jnp.uint32(0xC2B2AE3D)
    x = words ^ (place + jnp.uint32(salt))
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


@jax.jit  # Traced once for all arrays of a shape, of which learners have many.
def of_array(x: jax.Array) -> jax.Array:
    """The fingerprint of an array of numbers of 8, 16 or 32 bits, or of random keys, u32[2]."""
    x = jnp.atleast_1d(plain(x))
    # Some rows after the others: a sum of all at once takes a CPU twice as long, and a replay's size again.
    rows = max(_BYTES // max(x.nbytes // max(len(x), 1), 1), 1)
    parts = len(x) // rows
    rest = _words(x[parts * rows :])
    sums = [_mixed(rest, parts, salt).sum(dtype=jnp.uint32) for salt in _SALTS]
    if not parts:
        return jnp.stack(sums)

    def part(index: jax.Array | int) -> jax.Array:
        return _words(jax.lax.dynamic_slice_in_dim(x, index * rows, rows))

    def add(index: jax.Array, sums: list[jax.Array]) -> list[jax.Array]:
        words = jax.lax.optimization_barrier(part(index))  # Made once, for both salts.
        return [each + _mixed(words, index, salt) for each, salt in zip(sums, _SALTS, strict=True)]

    none = jnp.zeros(jax.eval_shape(part, 0).shape, jnp.uint32)
    of_parts = jax.lax.fori_loop(0, parts, add, [none] * len(_SALTS))
    return jnp.stack([each + more.sum(dtype=jnp.uint32) for each, more in zip(sums, of_parts, strict=True)])


def of_leaves(tree: Any) -> dict[str, jax.Array]:
    """The fingerprint u32[2] of every array of a tree, by its name: `learner.params.head.bias`."""
    leaves = jax.tree.leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): of_array(jnp.asarray(leaf))
        for path, leaf in leaves
    }


_of_leaves = jax.jit(of_leaves)


def of_all(leaves: Mapping[str, np.ndarray]) -> np.ndarray:
    """One fingerprint u32[2] of those of a tree's arrays."""
    return np.asarray(of_array(jnp.asarray(np.stack(list(leaves.values())))))


def texts(tree: Any) -> dict[str, str]:
    """The fingerprints of a tree's arrays, in hexadecimal digits, by their names."""
    return {name: hexadecimal(x) for name, x in jax.device_get(_of_leaves(tree)).items()}


def hexadecimal(fingerprint: np.ndarray) -> str:
    """Sixteen digits."""
    return "".join(f"{int(half):08x}" for half in fingerprint)
