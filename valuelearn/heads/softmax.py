"""The value, or the law of the return, as a softmax over fixed locations."""

import dataclasses
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from valuelearn import checks, projections, supports
from valuelearn.backups import Backup
from valuelearn.heads.interface import STATIC, MeanTargets, mixable, stepped, wide


def _cross_entropy(out: jax.Array, target: jax.Array, size: int) -> jax.Array:
    out = checks.array("out", out, ..., size)
    probabilities = checks.array("target", target, ..., size, over=out.shape[:-1])
    # Summed over bins: a mean would divide the learning rate by N.
    return -(probabilities * jax.nn.log_softmax(out.astype(probabilities.dtype))).sum(-1)


def _smooth(probabilities: jax.Array, amount: float) -> jax.Array:
    return (1.0 - amount) * probabilities + amount / probabilities.shape[-1]


class _SoftmaxHead:
    """A head whose output is logits over `locations` [N], in return units."""

    @property
    def size(self: Any) -> int:
        """Bins N."""
        return self.locations.shape[-1]

    @property
    def bounds(self: Any) -> tuple[jax.Array, jax.Array]:
        """The outer locations."""
        return self.locations[0], self.locations[-1]

    def value(self: Any, out: jax.Array) -> jax.Array:
        """Expected return [...]."""
        out = checks.array("out", out, ..., self.size)
        return (jax.nn.softmax(out.astype(self.locations.dtype)) * self.locations).sum(-1)

    def atoms(self: Any, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The locations and their probabilities."""
        out = checks.array("out", out, ..., self.size)
        probabilities = jax.nn.softmax(out.astype(self.locations.dtype))
        return jnp.broadcast_to(self.locations, probabilities.shape), probabilities

    def readable(self: Any, returns: jax.Array) -> jax.Array:
        """The returns, clipped to the support."""
        return jnp.clip(checks.array("returns", returns, ...), *self.bounds)

    def mix(self: Any, out: jax.Array, policy: jax.Array) -> jax.Array:
        """Logits of the mixture of the actions' laws: probabilities are averaged, never logits."""
        out, policy = mixable(out, policy, self.size)
        return jax.nn.logsumexp(jax.nn.log_softmax(wide(out)), axis=-2, b=policy[..., None])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SoftmaxScalar(MeanTargets, _SoftmaxHead):
    """Squared error on the expectation of a softmax: the ablation of Farebrother et al. (2024), 5.1.1.

    The target is a scalar and is not clipped, so values beyond the locations cannot be fitted.
    """

    locations: jax.Array  # f32[N], return units.

    def encode(self, value: jax.Array) -> jax.Array:
        """The target itself [...]."""
        return checks.array("value", value, ...)

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Squared error [...]."""
        value = self.value(out)
        return jnp.square(value - checks.array("target", target, ..., over=value.shape))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoHot(MeanTargets, _SoftmaxHead):
    """Value as a softmax over locations, fitted to the two around a scalar target."""

    locations: jax.Array  # f32[N], return units.
    label_smoothing: float = field(default=0.0, metadata=STATIC)  # Share of target mass spread evenly.

    def encode(self, value: jax.Array) -> jax.Array:
        """Probabilities [..., N] of scalar targets [...], clipped to the support."""
        value = checks.array("value", value, ...)
        return _smooth(projections.two_hot(value, self.locations), self.label_smoothing)

    def readable(self, returns: jax.Array) -> jax.Array:
        """The returns, clipped to the support and drawn to its middle by smoothed labels."""
        within = super().readable(returns)
        return (1.0 - self.label_smoothing) * within + self.label_smoothing * self.locations.mean()

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Cross-entropy [...] in nats; its floor is the target's entropy."""
        return _cross_entropy(out, target, self.size)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HLGauss(MeanTargets, _SoftmaxHead):
    """Value as a softmax over bins, fitted to Gaussian-smeared scalar targets.

    Imani & White (2018), eq. 6; Farebrother et al. (2024), app. A. Targets are clipped to
    [v_min, v_max], where the reading is pulled inwards by up to 0.92 sigma: keep true values 4
    sigma inside. With a transform, bins and sigma are constant in the transformed coordinate.
    """

    edges: jax.Array  # f32[N + 1], transformed coordinate.
    sigma: jax.Array  # f32[], transformed coordinate.
    transform: supports.TransformName = field(default="identity", metadata=STATIC)
    label_smoothing: float = field(default=0.0, metadata=STATIC)  # Share of target mass spread evenly.
    convention: supports.Convention = field(default="edges", metadata=STATIC)  # Where v_min and v_max are.
    # f32[K], return units: what encoded targets read as, at K even steps from end to end of the
    # transformed coordinate. Only for a transform, which is bent within a bin: without it, a value
    # would grow by up to several per cent each time it is encoded and read.
    readings: jax.Array | None = None

    @property
    def size(self) -> int:
        """Bins N."""
        return self.edges.shape[-1] - 1

    @property
    def _centers(self) -> jax.Array:
        return (self.edges[:-1] + self.edges[1:]) / 2

    @property
    def _ends(self) -> tuple[jax.Array, jax.Array]:
        # v_min and v_max in the transformed coordinate.
        points = self.edges if self.convention == "edges" else self._centers
        return points[0], points[-1]

    @property
    def locations(self) -> jax.Array:
        """Bin centres [N], return units."""
        return supports.transform(self.transform).inverse(self._centers)

    @property
    def bounds(self) -> tuple[jax.Array, jax.Array]:
        """v_min and v_max: the outer edges, or the outer centres."""
        inverse = supports.transform(self.transform).inverse
        low, high = self._ends
        return inverse(low), inverse(high)

    def _smeared(self, value: jax.Array) -> jax.Array:
        if self.readings is None:
            value = jnp.clip(value, *self._ends)
        else:
            steps = jnp.linspace(*self._ends, self.readings.shape[0], dtype=self.readings.dtype)
            value = jnp.interp(value, self.readings, steps)
        return projections.hl_gauss_within(value, self.edges, self.sigma)

    def encode(self, value: jax.Array) -> jax.Array:
        """Bin probabilities [..., N] of scalar targets [...], clipped to `bounds`."""
        return _smooth(self._smeared(checks.array("value", value, ...)), self.label_smoothing)

    def readable(self, returns: jax.Array) -> jax.Array:
        """The returns, clipped, near the ends pulled inwards, and drawn to the middle by smoothed labels."""
        return self.encode(checks.array("returns", returns, ...)) @ self.locations

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Cross-entropy [...] in nats; its floor is the target's entropy."""
        return _cross_entropy(out, target, self.size)


def calibrated(head: HLGauss) -> HLGauss:
    """The head with its readings, 32 to a bin, so that reading undoes encoding."""
    coordinates = jnp.linspace(*head._ends, 32 * head.size + 1)
    probabilities = projections.hl_gauss_within(coordinates, head.edges, head.sigma)
    return dataclasses.replace(head, readings=probabilities @ head.locations)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical(_SoftmaxHead):
    """The law of the return as a softmax over fixed atoms: C51 (Bellemare et al., 2017)."""

    locations: jax.Array  # f32[N], return units.
    distributional: ClassVar[bool] = True

    def target(self, next_out: jax.Array, backup: Backup) -> jax.Array:
        """The backed-up law projected on the atoms [N]."""
        returns, probabilities = self.atoms(checks.array("next_out", next_out, self.size))
        returns = stepped(backup, returns)
        return jax.lax.stop_gradient(projections.categorical(returns, probabilities, self.locations))

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Cross-entropy [...] in nats."""
        return _cross_entropy(out, target, self.size)
