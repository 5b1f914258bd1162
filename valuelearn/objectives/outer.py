"""Outer objectives: statistics of a law that are the optima of a utility over the stock to begin with."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from valuelearn import checks
from valuelearn.objectives.interface import Array, ObjectiveError, Utility, ascending, lower_quantile
from valuelearn.objectives.utilities import Exponential, Mean, Squared, TwoSlope, WeightedTails


def _check_tau(name: str, tau: float) -> None:
    checks.number(f"{name}: tau", tau, error=ObjectiveError)
    if not 0 < tau <= 1:
        raise ObjectiveError(f"{name}: tau {tau:g} was given, more than 0 and at most 1 is wanted")


class _Static:
    """What the outer objectives share: none is indifferent to mixtures, so each needs its stock."""

    linear: ClassVar[bool] = False
    mixture_indifferent: ClassVar[bool] = False
    sense: ClassVar[Literal["max", "min"]] = "max"

    @property
    def gamma_indifferent(self: Any) -> bool:
        """As its utility is."""
        return bool(self.utility.gamma_indifferent)

    @property
    def lipschitz(self: Any) -> bool:
        """As its utility is."""
        return bool(self.utility.lipschitz)

    @property
    def scale(self) -> float:
        """1."""
        return 1.0

    @property
    def weights(self) -> tuple[float, ...]:
        """Of a scalar stock."""
        return (1.0,)


@dataclasses.dataclass(frozen=True)
class _Tail(_Static):
    """What the means of a share `tau` of outcomes have in common."""

    tau: float
    _name: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        _check_tau(self._name, self.tau)

    @property
    def scale(self) -> float:
        """1 / tau."""
        return 1 / self.tau


@dataclasses.dataclass(frozen=True)
class CVaR(_Tail):
    """The mean of the worst share `tau` of outcomes (Rockafellar & Uryasev, 2000)."""

    _name: ClassVar[str] = "cvar"

    @property
    def utility(self) -> TwoSlope:
        """min(x, 0), whatever the share."""
        return TwoSlope(0.0, 1.0)

    def score(self, returns: Array, probabilities: Array) -> Array:
        """CVaR [...] of the laws [..., N]; the mean where `tau` is 1."""
        returns, probabilities = ascending(returns, probabilities)
        xp = returns.__array_namespace__()
        below = xp.cumsum(probabilities, axis=-1) - probabilities
        share = xp.clip(self.tau - below, 0.0, probabilities)
        return (share * returns).sum(-1) / share.sum(-1)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """Less the tau-quantile."""
        return -lower_quantile(returns, probabilities, self.tau)


@dataclasses.dataclass(frozen=True)
class OptimisticCVaR(_Tail):
    """The mean of the best share `tau` of outcomes. What is best may be to choose a policy by lot."""

    _name: ClassVar[str] = "optimistic_cvar"
    sense: ClassVar[Literal["max", "min"]] = "min"

    @property
    def utility(self) -> TwoSlope:
        """max(x, 0), whatever the share."""
        return TwoSlope(1.0, 0.0)

    def score(self, returns: Array, probabilities: Array) -> Array:
        """The upper tail's mean [...] of the laws [..., N]."""
        returns = checks.array("returns", returns, ..., "N")
        return -CVaR(self.tau).score(-returns, probabilities)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """Less the upper tau-quantile."""
        returns = checks.array("returns", returns, ..., "N")
        return lower_quantile(-returns, probabilities, self.tau)


@dataclasses.dataclass(frozen=True)
class MeanCVaR(_Static):
    """weight * mean + (1 - weight) * CVaR of share `tau`."""

    tau: float
    weight: float

    def __post_init__(self) -> None:
        """Refuse a share or a weight that is none."""
        _check_tau("mean_cvar", self.tau)
        checks.number("mean_cvar: weight", self.weight, error=ObjectiveError)
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


@dataclasses.dataclass(frozen=True)
class Spectral(_Static):
    """sum_i weight_i * CVaR of share tau_i, for (tau, weight) pairs whose weights sum to 1.

    The pairs, and with them the coordinates of the stock, are put in the order of tau.
    """

    levels: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        """Refuse levels that are no shares, and weights that are no average."""
        checks.array("spectral: levels", self.levels, "L", 2, error=ObjectiveError)
        levels = sorted((float(tau), float(weight)) for tau, weight in self.levels)
        object.__setattr__(self, "levels", tuple(levels))
        for tau, weight in self.levels:
            _check_tau("spectral", tau)
            if not weight >= 0:
                raise ObjectiveError(f"spectral: weight {weight:g} was given, at least 0 is wanted")
        if not abs(sum(weight for _, weight in self.levels) - 1) <= 1e-9:
            raise ObjectiveError(f"spectral: the weights of {self.levels} do not sum to 1")

    @property
    def weights(self) -> tuple[float, ...]:
        """One for each level."""
        return tuple(weight for _, weight in self.levels)

    @property
    def utility(self) -> WeightedTails:
        """A coordinate of the stock for each level."""
        return WeightedTails(tuple(self.levels))

    def score(self, returns: Array, probabilities: Array) -> Array:
        """The weighted sum [...] for the laws [..., N]."""
        returns, probabilities = checks.law(returns, probabilities)
        xp = returns.__array_namespace__()
        tails = [weight * CVaR(tau).score(returns, probabilities) for tau, weight in self.levels]
        return xp.stack(tails).sum(0)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """Less each level's quantile, [..., m]."""
        returns, probabilities = checks.law(returns, probabilities)
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
        # Where the slope is zero the utility's mean is known, and taking it could leave what floats hold.
        if isinstance(self.utility, Exponential):
            return -stock - 1 / self.utility.rate
        return -stock + self.utility.score(returns, probabilities, stock)

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """-b where the slope 1 - E u'(return - b) crosses zero."""
        returns, probabilities = checks.law(returns, probabilities)
        match self.utility:
            case TwoSlope(above, below):
                tau = 1.0 if above == below else float((1 - above) / (below - above))
                return -lower_quantile(returns, probabilities, tau)
            case Exponential(rate):
                xp = returns.__array_namespace__()
                # From the worst outcome with any mass on: exp would leave what floats hold.
                worst = xp.where(probabilities > 0, returns, xp.inf).min(-1)
                later = xp.where(probabilities > 0, returns - worst[..., None], 0.0)
                return xp.log(rate * (probabilities * xp.exp(-rate * later)).sum(-1)) / rate - worst
            case _:  # Squared: the mean less the variance, but for a constant.
                return -Mean().score(returns, probabilities) - 0.5
