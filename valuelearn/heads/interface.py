"""What an agent needs of a value head, and the pieces that several heads share."""

from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn import checks, supports
from valuelearn.backups import Backup

STATIC = {"static": True}  # Marks a field as part of the compiled function, not an array.


class Head(Protocol):
    """What an agent needs of a value head.

    Arrays of other shapes than these are refused by a ValueError; leading axes of targets broadcast to those
    of outputs, so that no loss is of more than was put in.

    `size` is N. `distributional` says whether the output stands for the whole law of the return;
    heads without it know only the mean, and serve only linear objectives.
    """

    distributional: ClassVar[bool]

    @property
    def size(self) -> int:
        """Network outputs N per action."""

    @property
    def bounds(self) -> tuple[jax.Array | float, jax.Array | float]:
        """Ends of the support in return units; infinite where there is none."""

    def value(self, out: jax.Array) -> jax.Array:
        """Expected return [...] of outputs [..., N]."""

    def atoms(self, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns and probabilities, both [..., M], of outputs [..., N]."""

    def mix(self, out: jax.Array, policy: jax.Array) -> jax.Array:
        """One output [..., N] for following `policy` [..., A] over outputs [..., A, N]."""

    def readable(self, returns: jax.Array) -> jax.Array:
        """What a fitted head reads [...] for certain returns [...]: its support may not hold them."""

    def target(self, next_out: jax.Array, backup: Backup) -> jax.Array:
        """What `loss` fits: the backed-up law of `next_out` [N], encoded. No gradient flows."""

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Loss [...] of outputs [..., N] against targets."""


class MeanHead(Head, Protocol):
    """A head that models only the mean; its targets are encoded scalars."""

    def encode(self, value: jax.Array) -> jax.Array:
        """What `loss` fits, for scalar targets [...]."""


class SupportFit(NamedTuple):
    """What the ends of a head's support do to targets."""

    clipped_below: jax.Array  # Share of the target mass below the support.
    clipped_above: jax.Array
    edge_bias: jax.Array  # Return units: what a fitted head reads, less the targets' true mean.


def backed_up(head: Head, next_out: jax.Array, backup: Backup) -> tuple[jax.Array, jax.Array]:
    """Returns and probabilities [M] of one transition's target, before any support cuts them off.

    Raises:
        ValueError: for outputs of more than one transition, or a backup of other than scalars.
    """
    checks.array("next_out", next_out, "N")
    if not head.distributional:
        return stepped(backup, head.value(next_out))[None], jnp.ones(1)
    returns, probabilities = head.atoms(next_out)
    return stepped(backup, returns), probabilities


def support_fit(head: Head, returns: jax.Array, probabilities: jax.Array) -> SupportFit:
    """How the head's support suits targets with these returns and probabilities, both [..., M].

    Raises:
        ValueError: for arrays of other shapes, or not of real numbers.
    """
    returns, probabilities = checks.law(returns, probabilities)
    bias = (probabilities * (head.readable(returns) - returns)).sum(-1).mean()
    below, above = supports.clipped_mass(returns, probabilities, *head.bounds)
    return SupportFit(below, above, bias)


def wide(out: jax.Array) -> jax.Array:
    """Outputs in float32 at least, whatever the network computed in: bf16 has 3 digits, a return more."""
    return out.astype(jnp.promote_types(out.dtype, jnp.float32))


def stepped(backup: Backup, returns: jax.Array) -> jax.Array:
    """Backed-up returns. A backup that makes more of one return than one is that of many transitions."""
    made = jax.eval_shape(backup, jax.ShapeDtypeStruct((), np.float32)).shape
    if made:
        raise ValueError(
            f"the reward or the discount has the shape {list(made)}; scalars of one transition are wanted: "
            "lift the function with jax.vmap"
        )
    return backup(returns)


def mixable(out: jax.Array, policy: jax.Array, size: int | str) -> tuple[jax.Array, jax.Array]:
    """Outputs [..., A, N] and a policy [..., A] over them."""
    out = checks.array("out", out, ..., "A", size)
    *leading, actions, _ = out.shape
    return out, checks.array("policy", policy, ..., actions, over=tuple(leading), grows=True)


class MeanTargets:
    """A head whose targets are scalars, put into the form of its loss by `encode`."""

    distributional: ClassVar[bool] = False

    def target(self: Any, next_out: jax.Array, backup: Backup) -> jax.Array:
        """The backed-up value, encoded."""
        next_out = checks.array("next_out", next_out, self.size)
        return self.encode(jax.lax.stop_gradient(stepped(backup, self.value(next_out))))


class Unbounded:
    """A head without a support."""

    @property
    def bounds(self) -> tuple[float, float]:
        """None: infinite."""
        return -jnp.inf, jnp.inf

    def readable(self, returns: jax.Array) -> jax.Array:
        """The returns themselves."""
        return checks.array("returns", returns, ...)
