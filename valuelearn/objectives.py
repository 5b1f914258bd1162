"""What an agent maximises of a return's law: functionals of (returns, probabilities) [..., N]."""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp


class Objective(Protocol):
    """A functional of a law. `linear`: it depends on the mean alone, so every head serves it."""

    linear: ClassVar[bool]

    def score(self, returns: jax.Array, probabilities: jax.Array) -> jax.Array:
        """The functional's value [...] for the laws [..., N]; larger is better."""


@dataclasses.dataclass(frozen=True)
class Mean:
    """The expected return."""

    linear: ClassVar[bool] = True

    def score(self, returns: jax.Array, probabilities: jax.Array) -> jax.Array:
        """Mean [...] of the laws [..., N]."""
        return (returns * probabilities).sum(-1)


@dataclasses.dataclass(frozen=True)
class CVaR:
    """The mean of the worst share `tau` of outcomes (Rockafellar & Uryasev, 2000)."""

    tau: float
    linear: ClassVar[bool] = False

    def score(self, returns: jax.Array, probabilities: jax.Array) -> jax.Array:
        """CVaR [...] of the laws [..., N]; the mean where `tau` is 1."""
        order = jnp.argsort(returns, axis=-1)
        returns = jnp.take_along_axis(returns, order, -1)
        probabilities = jnp.take_along_axis(jnp.broadcast_to(probabilities, returns.shape), order, -1)
        below = jnp.cumsum(probabilities, -1) - probabilities
        share = jnp.clip(self.tau - below, 0.0, probabilities)
        return (share * returns).sum(-1) / share.sum(-1)
