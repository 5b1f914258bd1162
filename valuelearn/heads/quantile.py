"""The law of the return as quantiles."""

import dataclasses
from dataclasses import field
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from valuelearn import checks, projections
from valuelearn.backups import Backup
from valuelearn.heads.interface import STATIC, Unbounded, mixable, stepped, wide


def _excess(above: jax.Array, below: jax.Array, power: int) -> jax.Array:
    """Mean [..., N] over M of max(above - below, 0) ** power, of [..., N] and [..., M]."""
    return (jnp.maximum(above[..., :, None] - below[..., None, :], 0.0) ** power).mean(-1)


def _loss(quantiles: jax.Array, fractions: jax.Array, target: jax.Array, kappa: float) -> jax.Array:
    if kappa == 0:
        over, under = _excess(quantiles, target, 1), _excess(-quantiles, -target, 1)
    else:
        # Huber's loss is the half square beyond 0 without the half square beyond kappa.
        over = (_excess(quantiles, target, 2) - _excess(quantiles - kappa, target, 2)) / (2 * kappa)
        under = (_excess(-quantiles, -target, 2) - _excess(-quantiles - kappa, -target, 2)) / (2 * kappa)
    return ((1.0 - fractions) * over + fractions * under).sum(-1)


def _slope(quantiles: jax.Array, fractions: jax.Array, target: jax.Array, kappa: float) -> jax.Array:
    """Derivative [..., N] of the loss by each quantile."""
    if kappa == 0:
        over = (quantiles[..., :, None] > target[..., None, :]).mean(-1)
        under = (quantiles[..., :, None] < target[..., None, :]).mean(-1)
    else:
        over = (_excess(quantiles, target, 1) - _excess(quantiles - kappa, target, 1)) / kappa
        under = (_excess(-quantiles, -target, 1) - _excess(-quantiles - kappa, -target, 1)) / kappa
    return (1.0 - fractions) * over - fractions * under


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _quantile_huber(quantiles: jax.Array, fractions: jax.Array, target: jax.Array, kappa: float) -> jax.Array:
    """Quantile Huber loss [...]: summed over the N estimates, averaged over the M targets.

    Dabney et al. (2018), eq. 10, divided by kappa; with kappa 0 the plain quantile loss. Only the quantiles
    have a gradient, and it is written out: of JAX's own, and of any form with more than one step between
    the differences and their mean, XLA on CPUs writes arrays [..., N, M] to memory, which takes a small
    network's update several times as long.
    """
    return _loss(quantiles, fractions, target, kappa)


def _forward(
    quantiles: jax.Array, fractions: jax.Array, target: jax.Array, kappa: float
) -> tuple[jax.Array, jax.Array]:
    slope = _slope(quantiles, fractions, target, kappa).astype(quantiles.dtype)
    return _loss(quantiles, fractions, target, kappa), slope


def _backward(kappa: float, slope: jax.Array, g: jax.Array) -> tuple[jax.Array, None, None]:
    return (g[..., None] * slope).astype(slope.dtype), None, None


_quantile_huber.defvjp(_forward, _backward)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantile(Unbounded):
    """The law of the return as N equally likely quantiles: QR-DQN (Dabney et al., 2018)."""

    num_quantiles: int = field(metadata=STATIC)
    kappa: float = field(default=1.0, metadata=STATIC)  # Half-width of the quadratic part, return units.
    distributional: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Quantiles N."""
        return self.num_quantiles

    def value(self, out: jax.Array) -> jax.Array:
        """Mean of the quantiles [...]."""
        return wide(checks.array("out", out, ..., "N")).mean(-1)

    def atoms(self, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The quantiles, equally likely, however many they are."""
        out = checks.array("out", out, ..., "N")
        return out, jnp.full_like(out, 1.0 / out.shape[-1])

    def mix(self, out: jax.Array, policy: jax.Array) -> jax.Array:
        """Quantiles averaged over actions, as in M-IQN (Vieillard et al., 2020)."""
        out, policy = mixable(out, policy, "N")
        return (policy[..., None] * out).sum(-2)

    def target(self, next_out: jax.Array, backup: Backup) -> jax.Array:
        """The backed-up quantiles [N]."""
        return jax.lax.stop_gradient(stepped(backup, checks.array("next_out", next_out, "N")))

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Quantile Huber loss [...]."""
        out = wide(checks.array("out", out, ..., self.size))
        target = checks.array("target", target, ..., "M", over=out.shape[:-1])
        return _quantile_huber(out, projections.quantile_midpoints(self.num_quantiles), target, self.kappa)


def _halves(out: jax.Array) -> list[jax.Array]:
    """Quantiles and their fractions, both [..., K]."""
    out = checks.array("out", out, ..., "2 K")
    if out.shape[-1] % 2:
        raise ValueError(f"out has {out.shape[-1]} numbers; K quantiles and their K fractions are wanted")
    return jnp.split(out, 2, -1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ImplicitQuantile(Unbounded):
    """The quantile function of the return at sampled fractions: IQN (Dabney et al., 2018b).

    An output is K quantiles followed by the K fractions they stand for: N = 2 K. K may differ
    between learning and acting, so it is read from the output.
    """

    num_fractions: int = field(metadata=STATIC)  # Drawn for each update, of both predictions and targets.
    kappa: float = field(default=1.0, metadata=STATIC)  # Half-width of the quadratic part, return units.
    distributional: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Quantiles and fractions while learning."""
        return 2 * self.num_fractions

    def value(self, out: jax.Array) -> jax.Array:
        """Mean of the quantiles [...]."""
        quantiles, _ = _halves(wide(checks.array("out", out, ..., "2 K")))
        return quantiles.mean(-1)

    def atoms(self, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The quantiles, equally likely."""
        quantiles, _ = _halves(out)
        return quantiles, jnp.full_like(quantiles, 1.0 / quantiles.shape[-1])

    def mix(self, out: jax.Array, policy: jax.Array) -> jax.Array:
        """Quantiles averaged over actions (Vieillard et al., 2020); all actions share fractions."""
        out, policy = mixable(out, policy, "N")
        return (policy[..., None] * out).sum(-2)

    def target(self, next_out: jax.Array, backup: Backup) -> jax.Array:
        """The backed-up quantiles [K]."""
        quantiles, _ = _halves(checks.array("next_out", next_out, "2 K"))
        return jax.lax.stop_gradient(stepped(backup, quantiles))

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Quantile Huber loss [...] at the sampled fractions."""
        quantiles, fractions = _halves(wide(checks.array("out", out, ..., "2 K")))
        target = checks.array("target", target, ..., "M", over=quantiles.shape[:-1])
        return _quantile_huber(quantiles, fractions, target, self.kappa)
