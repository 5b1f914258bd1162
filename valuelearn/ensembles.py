"""Ensembles of networks of one shape, and what they say together.

Members lie along the leading axis K of every parameter, so that a whole layer of all of them is one
batched product.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from valuelearn import checks
from valuelearn.heads import Head
from valuelearn.types import Network, Params

Rule = Literal["lowest", "mean"]
_NO_DIRECTION = 1e-20  # Squared length of a gradient below which its direction is noise.


def ensemble(network: Network, members: int) -> Network:
    """`members` networks, each with initial parameters of its own: `apply(params, ...) -> [K, ...]`.

    Raises:
        ValueError: for no members.
    """
    checks.count("members", members)

    def init(key: jax.Array, *inputs: Any) -> Params:
        return jax.vmap(lambda key: network.init(key, *inputs))(jax.random.split(key, members))

    def apply(params: Params, *inputs: Any) -> jax.Array:
        return jax.vmap(lambda one: network.apply(one, *inputs))(params)

    return Network(init, apply)


def subset(out: jax.Array, size: int, key: jax.Array) -> jax.Array:
    """Outputs [size, ...] of as many members, drawn without replacement, of [K, ...] (Chen et al., 2021).

    Raises:
        ValueError: for no members, or more than there are.
    """
    out = checks.array("out", out, "K", ...)
    checks.count("size", size, 1, len(out))
    return out if size == len(out) else out[jax.random.permutation(key, len(out))[:size]]


def together(head: Head, out: jax.Array, rule: Rule) -> jax.Array:
    """One output [N] for those of all members [K, N].

    `lowest` is the whole output of the member whose mean is lowest: for a head that models only the mean
    the minimum of values, for one of the whole law a law that some member gave. `mean` averages values,
    and of laws the probabilities or the quantiles, never logits.

    Raises:
        ValueError: for outputs of another shape, or a rule that is unknown.
    """
    out = checks.array("out", out, "K", "N")
    match rule:
        case "lowest":
            return out[head.value(out).argmin()]
        case "mean":
            return head.mix(out, jnp.full(len(out), 1 / len(out)))
    raise ValueError(f"rule {rule!r} is not one of {', '.join(get_args(Rule))}")


def truncated(out: jax.Array, dropped: int) -> jax.Array:
    """The quantiles [K * (N - dropped)] of all members [K, N] but for the highest, `dropped` for each.

    Kuznetsov et al. (2020): all are pooled before the highest are left out.

    Raises:
        ValueError: for outputs of another shape, or where none would be left.
    """
    out = checks.array("out", out, "K", "N")
    checks.count("dropped", dropped, 0, out.shape[-1] - 1)
    return jnp.sort(out.ravel())[: len(out) * (out.shape[-1] - dropped)]


def alignment(gradients: jax.Array) -> jax.Array:
    """How alike the directions of members' action gradients [K, ..., D] are, [...].

    An et al. (2021), eq. 5: the sum of the cosines of all ordered pairs, over K - 1; K where all agree,
    0 where they are orthogonal. A gradient of zero has no direction: it counts for nothing, and nothing
    is pushed by it.

    Raises:
        ValueError: for fewer than two members.
    """
    gradients = checks.array("gradients", gradients, "K", ..., "D")
    if len(gradients) == 1:
        raise ValueError("gradients are those of 1 member; 2 or more are wanted")
    squares = jnp.square(gradients).sum(-1, keepdims=True)
    directed = squares > _NO_DIRECTION
    directions = jnp.where(directed, gradients / jnp.sqrt(jnp.where(directed, squares, 1.0)), 0.0)
    # The square of the sum less the sum of squares: no matrix of pairs is made.
    pairs = jnp.square(directions.sum(0)).sum(-1) - jnp.square(directions).sum((0, -1))
    return pairs / (len(gradients) - 1)
