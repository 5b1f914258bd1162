"""The value as one number."""

import dataclasses
from dataclasses import field

import jax
import jax.numpy as jnp
import optax

from valuelearn import checks
from valuelearn.heads.interface import STATIC, MeanTargets, Unbounded, mixable, wide


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scalar(MeanTargets, Unbounded):
    """The value itself, by squared or Huber error.

    The square has no factor 1/2 (as in Dopamine); Huber's loss has, and `delta` is in return units.
    """

    delta: float | None = field(default=None, metadata=STATIC)  # None: squared error.

    @property
    def size(self) -> int:
        """One output."""
        return 1

    def value(self, out: jax.Array) -> jax.Array:
        """The output, its last axis dropped."""
        return wide(checks.array("out", out, ..., 1)[..., 0])

    def atoms(self, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The value as a point mass."""
        out = checks.array("out", out, ..., 1)
        return out, jnp.ones_like(out)

    def mix(self, out: jax.Array, policy: jax.Array) -> jax.Array:
        """The policy's expected value."""
        out, policy = mixable(out, policy, 1)
        return (policy[..., None] * out).sum(-2)

    def encode(self, value: jax.Array) -> jax.Array:
        """The target itself [...]."""
        return checks.array("value", value, ...)

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Squared or Huber error [...]."""
        value = self.value(out)
        error = value - checks.array("target", target, ..., over=value.shape)
        return jnp.square(error) if self.delta is None else optax.huber_loss(error, delta=self.delta)
