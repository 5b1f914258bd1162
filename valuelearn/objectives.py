"""What an agent maximises of the return's law, given what it has already obtained.

A *utility* objective is E f(stock + return), where the stock c carries the reward obtained so far:
c' = (c + r) / gamma. An *outer* objective is reached through a utility by choosing the stock to begin
with; on a law alone it is a statistic. Each class states which of three conditions it meets (Avila Pires
et al., 2025): `mixture_indifferent` and `gamma_indifferent`, with which distributional dynamic
programming improves a policy everywhere at once, and `lipschitz` in 1-Wasserstein distance, with which it
converges on an infinite horizon.

Laws are (returns, probabilities), both [..., N]; returns of vector objectives are [..., N, m]. Everything
takes arrays of JAX, as agents have, and of NumPy, as exact solvers in float64 have.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import jax
import numpy as np

from valuelearn.errors import UserError
from valuelearn.heads.interface import STATIC

Array = TypeVar("Array", jax.Array, np.ndarray)


class ObjectiveError(UserError):
    """An objective that is not defined, or that cannot be had where it is asked for."""


class Objective(Protocol):
    """A functional of a law. `linear`: it depends on the mean alone, so every head serves it."""

    linear: ClassVar[bool]
    mixture_indifferent: ClassVar[bool]
    gamma_indifferent: ClassVar[bool]
    lipschitz: ClassVar[bool]

    def score(self, returns: Array, probabilities: Array) -> Array:
        """The functional's value [...] for the laws [..., N]; larger is better."""


class Utility(Objective, Protocol):
    """E f(stock + return). `dimensions` is m, None where f takes scalars.

    `degree` p says that f(gamma x) = gamma^p f(x); None where that holds for no p.
    """

    continuous: ClassVar[bool]
    degree: ClassVar[float | None]

    @property
    def dimensions(self) -> int | None:
        """Length of the stock vector; None for a scalar stock, -1 for a vector of any length."""

    def __call__(self, x: Array) -> Array:
        """f(x) [...] of scalars [...], or of vectors [..., m]."""

    def score(self, returns: Array, probabilities: Array, stock: Any = 0.0) -> Array:
        """E f(stock + return) [...] of the laws [..., N], at stocks [...], [..., m] for vectors."""


class Outer(Objective, Protocol):
    """max (or min) over the stock c of -weights . c + scale * E f(c + return)."""

    sense: ClassVar[Literal["max", "min"]]
    scale: float
    weights: tuple[float, ...]
    """Of the coordinates of the stock; every coordinate obtains the same reward."""
    utility: Utility

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """The stock [...], [..., m] for a vector, at which a law [..., N] attains the functional's value."""


class _Expected:
    """What the utilities share: expectation over a law, and the conditions that most of them meet."""

    linear: ClassVar[bool] = False
    mixture_indifferent: ClassVar[bool] = True
    gamma_indifferent: ClassVar[bool] = True
    lipschitz: ClassVar[bool] = True
    continuous: ClassVar[bool] = True
    degree: ClassVar[float | None] = 1.0
    dimensions: ClassVar[int | None] = None

    def __call__(self, x: Array) -> Array:
        raise NotImplementedError

    def score(self, returns: Array, probabilities: Array, stock: Any = 0.0) -> Array:
        """E f(stock + return) [...] of the laws [..., N], at stocks [...], [..., m] for vectors."""
        at = returns.__array_namespace__().asarray(stock)
        at = at[..., None] if self.dimensions is None else at[..., None, :]
        return (self(at + returns) * probabilities).sum(-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean(_Expected):
    """The expected return, f(x) = x: the stock never changes what is best."""

    linear: ClassVar[bool] = True

    def __call__(self, x: Array) -> Array:
        """The identity."""
        return x


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoSlope(_Expected):
    """f(x) = above * max(x, 0) + below * min(x, 0): all that a scalar stock can serve on a long horizon.

    (1, 1) is the mean, (0, 1) the lower tail, (1, 0) the upper, (1, 2.25) loss aversion, and (-1, 1) asks
    for the return -stock exactly. Every utility that is Lipschitz and indifferent to every gamma is one.
    """

    above: float | jax.Array
    below: float | jax.Array

    def __call__(self, x: Array) -> Array:
        """A line with a bend at zero."""
        xp = x.__array_namespace__()
        return self.above * xp.maximum(x, 0.0) + self.below * xp.minimum(x, 0.0)


def slope(utility: Utility) -> float:
    """The largest slope of a utility of a scalar, by absolute value; NaN where it is not known."""
    match utility:
        case Mean():
            return 1.0
        case TwoSlope(above, below):
            return max(abs(float(above)), abs(float(below)))
    return float("nan")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Squared(_Expected):
    """f(x) = -x^2: the return -stock, with large misses weighing most. Lipschitz on bounded returns only."""

    lipschitz: ClassVar[bool] = False
    degree: ClassVar[float | None] = 2.0

    def __call__(self, x: Array) -> Array:
        """A parabola, open below."""
        return -(x**2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Threshold(_Expected):
    """f(x) = 1 where x >= 0 (x > 0 if `strict`): the chance that the return reaches -stock."""

    strict: bool = dataclasses.field(default=False, metadata=STATIC)
    lipschitz: ClassVar[bool] = False
    continuous: ClassVar[bool] = False
    degree: ClassVar[float | None] = 0.0

    def __call__(self, x: Array) -> Array:
        """A step at zero."""
        return x.__array_namespace__().where(x > 0 if self.strict else x >= 0, 1.0, 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Exponential(_Expected):
    """f(x) = -exp(-rate x), aversion to risk (love of it where `rate` < 0) that does not fade with wealth.

    It is not indifferent to gamma: below 1, `perspective` has the time kept beside the stock, which
    repairs that.
    """

    rate: float = dataclasses.field(metadata=STATIC)
    perspective: bool = dataclasses.field(default=False, metadata=STATIC)
    gamma_indifferent: ClassVar[bool] = False
    lipschitz: ClassVar[bool] = False
    degree: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        """Refuse a rate of 0, at which nothing is preferred."""
        if self.rate == 0:
            raise ObjectiveError("exponential: rate 0 prefers nothing; use the mean")

    def __call__(self, x: Array) -> Array:
        """Always negative."""
        return -x.__array_namespace__().exp(-self.rate * x)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Norm(_Expected):
    """f(x) = -||x|| of an order: homeostasis, where a stock is how far each level is off its set-point."""

    order: float = dataclasses.field(default=2.0, metadata=STATIC)
    dimensions: ClassVar[int | None] = -1

    def __post_init__(self) -> None:
        """Refuse an order that makes no norm."""
        if not self.order >= 1:
            raise ObjectiveError(f"norm: order {self.order:g} was given, at least 1 is wanted")

    def __call__(self, x: Array) -> Array:
        """The negative norm over the last axis."""
        return -x.__array_namespace__().linalg.vector_norm(x, ord=self.order, axis=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constraint(_Expected):
    """f(x) = x1 + penalty * min(x2, 0): the first return, and a price on what the second lacks."""

    penalty: float
    dimensions: ClassVar[int | None] = 2

    def __call__(self, x: Array) -> Array:
        """Linear in the first of two coordinates, bent in the second."""
        return x[..., 0] + self.penalty * x.__array_namespace__().minimum(x[..., 1], 0.0)


def _check_tau(name: str, tau: float) -> None:
    if not 0 < tau <= 1:
        raise ObjectiveError(f"{name}: tau {tau:g} was given, more than 0 and at most 1 is wanted")


def _ascending(returns: Array, probabilities: Array) -> tuple[Array, Array]:
    """The laws [..., N] with their returns in order."""
    xp = returns.__array_namespace__()
    order = xp.argsort(returns, axis=-1)
    probabilities = xp.broadcast_to(probabilities, returns.shape)
    return xp.take_along_axis(returns, order, axis=-1), xp.take_along_axis(probabilities, order, axis=-1)


def _lower_quantile(returns: Array, probabilities: Array, tau: float) -> Array:
    """The smallest return [...] whose distribution function reaches `tau`."""
    xp = returns.__array_namespace__()
    returns, probabilities = _ascending(returns, probabilities)
    reached = xp.cumsum(probabilities, axis=-1)
    # Sums of probabilities round; a level that is reached but for that counts as reached.
    index = xp.argmax(reached >= tau - 16 * xp.finfo(reached.dtype).eps, axis=-1)
    return xp.take_along_axis(returns, index[..., None], axis=-1)[..., 0]


class _Static:
    """What the outer objectives share: none is indifferent to mixtures, so each needs its stock."""

    linear: ClassVar[bool] = False
    mixture_indifferent: ClassVar[bool] = False
    gamma_indifferent: ClassVar[bool] = True
    lipschitz: ClassVar[bool] = True
    sense: ClassVar[Literal["max", "min"]] = "max"
    scale: ClassVar[float] = 1.0
    weights: ClassVar[tuple[float, ...]] = (1.0,)


@dataclasses.dataclass(frozen=True)
class CVaR(_Static):
    """The mean of the worst share `tau` of outcomes (Rockafellar & Uryasev, 2000)."""

    tau: float

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        _check_tau("cvar", self.tau)

    @property
    def scale(self) -> float:  # type: ignore[override]
        """1 / tau."""
        return 1 / self.tau

    @property
    def utility(self) -> TwoSlope:
        """min(x, 0), whatever the share."""
        return TwoSlope(0.0, 1.0)

    def score(self, returns: Array, probabilities: Array) -> Array:
        """CVaR [...] of the laws [..., N]; the mean where `tau` is 1."""
        xp = returns.__array_namespace__()
        returns, probabilities = _ascending(returns, probabilities)
        below = xp.cumsum(probabilities, axis=-1) - probabilities
        share = xp.clip(self.tau - below, 0.0, probabilities)
        return (share * returns).sum(-1) / share.sum(-1)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """Less the tau-quantile."""
        return -_lower_quantile(returns, probabilities, self.tau)


@dataclasses.dataclass(frozen=True)
class OptimisticCVaR(_Static):
    """The mean of the best share `tau` of outcomes. What is best may be to choose a policy by lot."""

    tau: float
    sense: ClassVar[Literal["max", "min"]] = "min"

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        _check_tau("optimistic_cvar", self.tau)

    @property
    def scale(self) -> float:  # type: ignore[override]
        """1 / tau."""
        return 1 / self.tau

    @property
    def utility(self) -> TwoSlope:
        """max(x, 0), whatever the share."""
        return TwoSlope(1.0, 0.0)

    def score(self, returns: Array, probabilities: Array) -> Array:
        """The upper tail's mean [...] of the laws [..., N]."""
        return -CVaR(self.tau).score(-returns, probabilities)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """Less the upper tau-quantile."""
        return _lower_quantile(-returns, probabilities, self.tau)


@dataclasses.dataclass(frozen=True)
class MeanCVaR(_Static):
    """weight * mean + (1 - weight) * CVaR of share `tau`."""

    tau: float
    weight: float

    def __post_init__(self) -> None:
        """Refuse a share or a weight that is none."""
        _check_tau("mean_cvar", self.tau)
        if not 0 <= self.weight <= 1:
            raise ObjectiveError(f"mean_cvar: weight {self.weight:g} was given, 0 to 1 is wanted")

    @property
    def utility(self) -> TwoSlope:
        """The mean's slope above zero, and below it the tail's as well."""
        return TwoSlope(self.weight, self.weight + (1 - self.weight) / self.tau)

    def score(self, returns: Array, probabilities: Array) -> Array:
        """The weighted sum [...] for the laws [..., N]."""
        mean = Mean().score(returns, probabilities)
        return self.weight * mean + (1 - self.weight) * CVaR(self.tau).score(returns, probabilities)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """Less the tau-quantile."""
        return CVaR(self.tau).stock(returns, probabilities)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _WeightedTails(_Expected):
    """f(x) = sum_i w_i / tau_i * min(x_i, 0), the utility of a spectral objective."""

    levels: tuple[tuple[float, float], ...] = dataclasses.field(metadata=STATIC)

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        """A coordinate a level."""
        return len(self.levels)

    def __call__(self, x: Array) -> Array:
        """Bent in every coordinate."""
        xp = x.__array_namespace__()
        slopes = xp.asarray([weight / tau for tau, weight in self.levels], dtype=x.dtype)
        return (slopes * xp.minimum(x, 0.0)).sum(-1)


@dataclasses.dataclass(frozen=True)
class Spectral(_Static):
    """sum_i weight_i * CVaR of share tau_i, for (tau, weight) pairs whose weights sum to 1."""

    levels: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        """Refuse levels that are no shares, and weights that are no average."""
        object.__setattr__(self, "levels", tuple((float(tau), float(weight)) for tau, weight in self.levels))
        for tau, weight in self.levels:
            _check_tau("spectral", tau)
            if weight < 0:
                raise ObjectiveError(f"spectral: weight {weight:g} was given, at least 0 is wanted")
        if not self.levels or abs(sum(weight for _, weight in self.levels) - 1) > 1e-9:
            raise ObjectiveError(f"spectral: the weights of {self.levels} do not sum to 1")

    @property
    def weights(self) -> tuple[float, ...]:  # type: ignore[override]
        """One for each level."""
        return tuple(weight for _, weight in self.levels)

    @property
    def utility(self) -> _WeightedTails:
        """A coordinate of the stock for each level."""
        return _WeightedTails(tuple(self.levels))

    def score(self, returns: Array, probabilities: Array) -> Array:
        """The weighted sum [...] for the laws [..., N]."""
        xp = returns.__array_namespace__()
        tails = [weight * CVaR(tau).score(returns, probabilities) for tau, weight in self.levels]
        return xp.stack(tails).sum(0)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """Less each level's quantile, [..., m]."""
        xp = returns.__array_namespace__()
        return xp.stack([CVaR(tau).stock(returns, probabilities) for tau, _ in self.levels], axis=-1)


@dataclasses.dataclass(frozen=True)
class OCE(_Static):
    """Optimised certainty equivalent max_b b + E u(return - b) of a concave u (Ben-Tal & Teboulle, 2007)."""

    utility: Utility

    def __post_init__(self) -> None:
        """Refuse utilities for which the maximum is not attained."""
        match self.utility:
            case TwoSlope(above, below):
                finite = above <= 1 <= below
            case Exponential(rate):
                finite = rate > 0
            case other:
                finite = isinstance(other, Squared)
        if not finite:
            raise ObjectiveError(
                f"oce: {self.utility} was given; two_slope with above <= 1 <= below, exponential with a "
                "positive rate or squared is wanted: of others no maximum is known to exist"
            )

    def score(self, returns: Array, probabilities: Array) -> Array:
        """The certainty equivalent [...] of the laws [..., N]."""
        stock = self.stock(returns, probabilities)
        return -stock + self.utility.score(returns, probabilities, stock)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """-b where the slope 1 - E u'(return - b) crosses zero."""
        match self.utility:
            case TwoSlope(above, below):
                tau = 1.0 if above == below else float((1 - above) / (below - above))
                return -_lower_quantile(returns, probabilities, tau)
            case Exponential(rate):
                xp = returns.__array_namespace__()
                return xp.log(rate * (probabilities * xp.exp(-rate * returns)).sum(-1)) / rate
            case _:  # Squared: the mean less the variance, but for a constant.
                return -Mean().score(returns, probabilities) - 0.5


BY_NAME: dict[str, type] = {
    "mean": Mean,
    "two_slope": TwoSlope,
    "squared": Squared,
    "threshold": Threshold,
    "exponential": Exponential,
    "norm": Norm,
    "constraint": Constraint,
    "cvar": CVaR,
    "optimistic_cvar": OptimisticCVaR,
    "mean_cvar": MeanCVaR,
    "spectral": Spectral,
    "oce": OCE,
}
"""The objectives by what configs call them."""
