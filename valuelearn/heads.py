"""Value heads: how a network's output [..., N] stands for a return, and how it is fitted.

A head is a small frozen dataclass of pure functions. `target` takes one transition
(lift it with `jax.vmap`); everything else takes any leading axes.

    head = heads.make("hl_gauss", v_min=-10, v_max=10, num_bins=51)
    target = head.target(next_out, backups.summed(reward, discount))
    loss = head.loss(out, target)

Heads for the mean (`mse`, `huber`, `mse_softmax`, `two_hot`, `hl_gauss`) send their value through the
backup and `encode` it; heads for the whole law (`c51`, `qr`, `iqn`) send every atom.
"""

import dataclasses
from dataclasses import field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args

import jax
import jax.numpy as jnp
import optax

from valuelearn import projections, supports
from valuelearn.backups import Backup

register = jax.tree_util.register_dataclass
_STATIC = {"static": True}  # Part of the compiled function, not an array.


class Head(Protocol):
    """What an agent needs of a value head.

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
    """Returns and probabilities [M] of one transition's target, before any support cuts them off."""
    if not head.distributional:
        return backup(head.value(next_out))[None], jnp.ones(1)
    returns, probabilities = head.atoms(next_out)
    return backup(returns), probabilities


def support_fit(head: Head, returns: jax.Array, probabilities: jax.Array) -> SupportFit:
    """How the head's support suits targets with these returns and probabilities, both [..., M]."""
    bias = (probabilities * (head.readable(returns) - returns)).sum(-1).mean()
    return SupportFit(*supports.clipped_mass(returns, probabilities, *head.bounds), bias)


def _wide(out: jax.Array) -> jax.Array:
    # At least float32, whatever the network computed in: bf16 has 3 digits, a return more.
    return out.astype(jnp.promote_types(out.dtype, jnp.float32))


def _cross_entropy(out: jax.Array, probabilities: jax.Array) -> jax.Array:
    # Summed over bins: a mean would divide the learning rate by N.
    return -(probabilities * jax.nn.log_softmax(out.astype(probabilities.dtype))).sum(-1)


def _smooth(probabilities: jax.Array, amount: float) -> jax.Array:
    return (1.0 - amount) * probabilities + amount / probabilities.shape[-1]


class _MeanHead:
    """A head whose targets are scalars, put into the form of its loss by `encode`."""

    distributional: ClassVar[bool] = False

    def target(self: Any, next_out: jax.Array, backup: Backup) -> jax.Array:
        """The backed-up value, encoded."""
        return self.encode(jax.lax.stop_gradient(backup(self.value(next_out))))


class _UnboundedHead:
    """A head without a support."""

    @property
    def bounds(self) -> tuple[float, float]:
        """None: infinite."""
        return -jnp.inf, jnp.inf

    def readable(self, returns: jax.Array) -> jax.Array:
        """The returns themselves."""
        return returns


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
        return (jax.nn.softmax(out.astype(self.locations.dtype)) * self.locations).sum(-1)

    def atoms(self: Any, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The locations and their probabilities."""
        probabilities = jax.nn.softmax(out.astype(self.locations.dtype))
        return jnp.broadcast_to(self.locations, probabilities.shape), probabilities

    def readable(self: Any, returns: jax.Array) -> jax.Array:
        """The returns, clipped to the support."""
        return jnp.clip(returns, *self.bounds)

    def mix(self, out: jax.Array, policy: jax.Array) -> jax.Array:
        """Logits of the mixture of the actions' laws: probabilities are averaged, never logits."""
        return jax.nn.logsumexp(jax.nn.log_softmax(_wide(out)), axis=-2, b=policy[..., None])


@register
@dataclasses.dataclass(frozen=True)
class Scalar(_MeanHead, _UnboundedHead):
    """The value itself, by squared or Huber error.

    The square has no factor 1/2 (as in Dopamine); Huber's loss has, and `delta` is in return units.
    """

    delta: float | None = field(default=None, metadata=_STATIC)  # None: squared error.

    @property
    def size(self) -> int:
        """One output."""
        return 1

    def value(self, out: jax.Array) -> jax.Array:
        """The output, its last axis dropped."""
        return _wide(out[..., 0])

    def atoms(self, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The value as a point mass."""
        return out, jnp.ones_like(out)

    def mix(self, out: jax.Array, policy: jax.Array) -> jax.Array:
        """The policy's expected value."""
        return (policy[..., None] * out).sum(-2)

    def encode(self, value: jax.Array) -> jax.Array:
        """The target itself [...]."""
        return value

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Squared or Huber error [...]."""
        error = self.value(out) - target
        return jnp.square(error) if self.delta is None else optax.huber_loss(error, delta=self.delta)


@register
@dataclasses.dataclass(frozen=True)
class SoftmaxScalar(_MeanHead, _SoftmaxHead):
    """Squared error on the expectation of a softmax: the ablation of Farebrother et al. (2024), 5.1.1.

    The target is a scalar and is not clipped, so values beyond the locations cannot be fitted.
    """

    locations: jax.Array  # f32[N], return units.

    def encode(self, value: jax.Array) -> jax.Array:
        """The target itself [...]."""
        return value

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Squared error [...]."""
        return jnp.square(self.value(out) - target)


@register
@dataclasses.dataclass(frozen=True)
class TwoHot(_MeanHead, _SoftmaxHead):
    """Value as a softmax over locations, fitted to the two around a scalar target."""

    locations: jax.Array  # f32[N], return units.
    label_smoothing: float = field(default=0.0, metadata=_STATIC)  # Share of target mass spread evenly.

    def encode(self, value: jax.Array) -> jax.Array:
        """Probabilities [..., N] of scalar targets [...], clipped to the support."""
        return _smooth(projections.two_hot(value, self.locations), self.label_smoothing)

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Cross-entropy [...] in nats; its floor is the target's entropy."""
        return _cross_entropy(out, target)


@register
@dataclasses.dataclass(frozen=True)
class HLGauss(_MeanHead, _SoftmaxHead):
    """Value as a softmax over bins, fitted to Gaussian-smeared scalar targets.

    Imani & White (2018), eq. 6; Farebrother et al. (2024), app. A. Targets are clipped to
    [v_min, v_max], where the reading is pulled inwards by up to 0.92 sigma: keep true values 4
    sigma inside. With a transform, bins and sigma are constant in the transformed coordinate.
    """

    edges: jax.Array  # f32[N + 1], transformed coordinate.
    sigma: jax.Array  # f32[], transformed coordinate.
    transform: supports.TransformName = field(default="identity", metadata=_STATIC)
    label_smoothing: float = field(default=0.0, metadata=_STATIC)  # Share of target mass spread evenly.
    convention: supports.Convention = field(default="edges", metadata=_STATIC)  # Where v_min and v_max are.
    # f32[K], return units: what encoded targets read as, at K even steps from end to end of the
    # transformed coordinate. Only for a transform, which is bent within a bin: without it, a value
    # would grow by up to several per cent each time it is encoded and read.
    readings: jax.Array | None = None

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
        return projections.hl_gauss(value, self.edges, self.sigma)

    def encode(self, value: jax.Array) -> jax.Array:
        """Bin probabilities [..., N] of scalar targets [...], clipped to `bounds`."""
        return _smooth(self._smeared(value), self.label_smoothing)

    def readable(self, returns: jax.Array) -> jax.Array:
        """The returns, clipped to the support and near its ends pulled inwards."""
        return self._smeared(returns) @ self.locations

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Cross-entropy [...] in nats; its floor is the target's entropy."""
        return _cross_entropy(out, target)


def _calibrated(head: HLGauss) -> HLGauss:
    """The head with its readings, 32 to a bin, so that reading undoes encoding."""
    coordinates = jnp.linspace(*head._ends, 32 * head.size + 1)
    probabilities = projections.hl_gauss(coordinates, head.edges, head.sigma)
    return dataclasses.replace(head, readings=probabilities @ head.locations)


@register
@dataclasses.dataclass(frozen=True)
class Categorical(_SoftmaxHead):
    """The law of the return as a softmax over fixed atoms: C51 (Bellemare et al., 2017)."""

    locations: jax.Array  # f32[N], return units.
    distributional: ClassVar[bool] = True

    def target(self, next_out: jax.Array, backup: Backup) -> jax.Array:
        """The backed-up law projected on the atoms [N]."""
        returns, probabilities = self.atoms(next_out)
        return jax.lax.stop_gradient(projections.categorical(backup(returns), probabilities, self.locations))

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Cross-entropy [...] in nats."""
        return _cross_entropy(out, target)


def _quantile_huber(quantiles: jax.Array, fractions: jax.Array, target: jax.Array, kappa: float) -> jax.Array:
    """Quantile Huber loss [...]: summed over the N estimates, averaged over the M targets.

    Dabney et al. (2018), eq. 10, divided by kappa; with kappa 0 the plain quantile loss.
    """
    error = target[..., None, :] - quantiles[..., :, None]  # [..., N, M]
    size = jnp.abs(error) if kappa == 0 else optax.huber_loss(error, delta=kappa) / kappa
    weight = jnp.abs(fractions[..., None] - (error < 0))
    return (weight * size).mean(-1).sum(-1)


@register
@dataclasses.dataclass(frozen=True)
class Quantile(_UnboundedHead):
    """The law of the return as N equally likely quantiles: QR-DQN (Dabney et al., 2018)."""

    num_quantiles: int = field(metadata=_STATIC)
    kappa: float = field(default=1.0, metadata=_STATIC)  # Half-width of the quadratic part, return units.
    distributional: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Quantiles N."""
        return self.num_quantiles

    def value(self, out: jax.Array) -> jax.Array:
        """Mean of the quantiles [...]."""
        return _wide(out).mean(-1)

    def atoms(self, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The quantiles, equally likely."""
        return out, jnp.full_like(out, 1.0 / self.num_quantiles)

    def mix(self, out: jax.Array, policy: jax.Array) -> jax.Array:
        """Quantiles averaged over actions, as in M-IQN (Vieillard et al., 2020)."""
        return (policy[..., None] * out).sum(-2)

    def target(self, next_out: jax.Array, backup: Backup) -> jax.Array:
        """The backed-up quantiles [N]."""
        return jax.lax.stop_gradient(backup(next_out))

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Quantile Huber loss [...]."""
        return _quantile_huber(out, projections.quantile_midpoints(self.num_quantiles), target, self.kappa)


@register
@dataclasses.dataclass(frozen=True)
class ImplicitQuantile(_UnboundedHead):
    """The quantile function of the return at sampled fractions: IQN (Dabney et al., 2018b).

    An output is K quantiles followed by the K fractions they stand for: N = 2 K. K may differ
    between learning and acting, so it is read from the output.
    """

    num_fractions: int = field(metadata=_STATIC)  # Drawn for each update, of both predictions and targets.
    kappa: float = field(default=1.0, metadata=_STATIC)  # Half-width of the quadratic part, return units.
    distributional: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Quantiles and fractions while learning."""
        return 2 * self.num_fractions

    def value(self, out: jax.Array) -> jax.Array:
        """Mean of the quantiles [...]."""
        return jnp.split(_wide(out), 2, -1)[0].mean(-1)

    def atoms(self, out: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The quantiles, equally likely."""
        quantiles = jnp.split(out, 2, -1)[0]
        return quantiles, jnp.full_like(quantiles, 1.0 / quantiles.shape[-1])

    def mix(self, out: jax.Array, policy: jax.Array) -> jax.Array:
        """Quantiles averaged over actions (Vieillard et al., 2020); all actions share fractions."""
        return (policy[..., None] * out).sum(-2)

    def target(self, next_out: jax.Array, backup: Backup) -> jax.Array:
        """The backed-up quantiles [K]."""
        return jax.lax.stop_gradient(backup(jnp.split(next_out, 2, -1)[0]))

    def loss(self, out: jax.Array, target: jax.Array) -> jax.Array:
        """Quantile Huber loss [...] at the sampled fractions."""
        quantiles, fractions = jnp.split(out, 2, -1)
        return _quantile_huber(quantiles, fractions, target, self.kappa)


Name = Literal["mse", "huber", "mse_softmax", "two_hot", "hl_gauss", "c51", "qr", "iqn"]
NAMES: tuple[str, ...] = get_args(Name)
WITH_SUPPORT = ("mse_softmax", "two_hot", "hl_gauss", "c51")


def make(
    name: str,
    *,
    v_min: float = -10.0,
    v_max: float = 10.0,
    num_bins: int = 51,
    sigma_ratio: float = 0.75,
    convention: supports.Convention = "edges",
    transform: supports.TransformName = "identity",
    label_smoothing: float = 0.0,
    delta: float = 1.0,
    num_quantiles: int = 200,
    num_fractions: int = 64,
    kappa: float = 1.0,
) -> Head:
    """The head of that name (one of `NAMES`), built from the options that concern it.

    The rest are ignored, so that one set of options serves every head of an ablation.

    Args:
        name: one of `NAMES`.
        v_min: lower end of the support, return units (mse_softmax, two_hot, hl_gauss, c51).
        v_max: upper end.
        num_bins: bins or atoms of the support.
        sigma_ratio: smoothing in bin widths (hl_gauss); 0.75 in Farebrother et al. (2024).
        convention: what v_min and v_max are, outer edges or outer centres (hl_gauss).
        transform: coordinate in which the bins are uniform.
        label_smoothing: share of target mass spread evenly (two_hot, hl_gauss).
        delta: where the error turns from squared to absolute, return units (huber).
        num_quantiles: quantiles (qr).
        num_fractions: fractions drawn for each update (iqn).
        kappa: half-width of the quadratic part, return units (qr, iqn); 0 for the plain quantile loss.

    Raises:
        ValueError: for an unknown name, or a support that is empty.
    """
    match name:
        case "mse":
            return Scalar()
        case "huber":
            return Scalar(delta)
        case "qr":
            return Quantile(num_quantiles, kappa)
        case "iqn":
            return ImplicitQuantile(num_fractions, kappa)
        case "hl_gauss":
            edges = supports.edges(v_min, v_max, num_bins, convention, transform)
            # The ratio is the option, not sigma, so that other bins keep the smoothing.
            sigma = sigma_ratio * (edges[1] - edges[0])
            head = HLGauss(jnp.asarray(edges), jnp.asarray(sigma), transform, label_smoothing, convention)
            return head if transform == "identity" else _calibrated(head)
    locations = jnp.asarray(supports.locations(v_min, v_max, num_bins, transform))
    match name:
        case "mse_softmax":
            return SoftmaxScalar(locations)
        case "two_hot":
            return TwoHot(locations, label_smoothing)
        case "c51":
            return Categorical(locations)
    raise ValueError(f"head {name!r} is not one of {', '.join(NAMES)}")
