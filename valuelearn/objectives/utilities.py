"""Utilities: expectations of a function of stock + return."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import numpy as np

from valuelearn import checks
from valuelearn.heads.interface import STATIC
from valuelearn.objectives.interface import Array, ObjectiveError


class Expected:
    """What utilities share: expectation over a law, and the conditions that most of them meet.

    One of your own says which it does not meet, and what f is (`__call__`).
    """

    linear: ClassVar[bool] = False
    mixture_indifferent: ClassVar[bool] = True
    gamma_indifferent: ClassVar[bool] = True
    lipschitz: ClassVar[bool] = True
    continuous: ClassVar[bool] = True
    degree: ClassVar[float | None] = 1.0

    @property
    def dimensions(self) -> int | None:
        """None: a scalar stock."""
        return None

    @property
    def slope(self) -> float:
        """Not known."""
        return float("nan")

    @property
    def perspective(self) -> bool:
        """No."""
        return False

    def __call__(self, x: Array) -> Array:
        """f(x) [...]."""
        raise NotImplementedError

    def score(self, returns: Array, probabilities: Array, stock: Any = 0.0) -> Array:
        """E f(stock + return) [...] of the laws [..., N], at stocks [...], [..., m] for vectors.

        Raises:
            ValueError: for arrays of other shapes, or not of real numbers.
        """
        coordinates = {None: (), -1: ("m",)}.get(self.dimensions, (self.dimensions,))
        returns = checks.array("returns", returns, ..., "N", *coordinates)
        *leading, atoms = returns.shape[: returns.ndim - len(coordinates)]
        over = tuple(leading)
        probabilities = checks.array("probabilities", probabilities, ..., atoms, over=over, grows=True)
        over = np.broadcast_shapes(over, probabilities.shape[:-1])
        last = returns.shape[-1:] if coordinates else ()
        checks.array("stock", stock, ..., *last, over=over, grows=True)
        at = returns.__array_namespace__().asarray(stock)
        at = at[..., None] if self.dimensions is None else at[..., None, :]
        return (self(at + returns) * probabilities).sum(-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean(Expected):
    """The expected return, f(x) = x: the stock never changes what is best."""

    linear: ClassVar[bool] = True

    @property
    def slope(self) -> float:
        """1 everywhere."""
        return 1.0

    def __call__(self, x: Array) -> Array:
        """The identity."""
        return checks.array("x", x, ...)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoSlope(Expected):
    """f(x) = above * max(x, 0) + below * min(x, 0): all that a scalar stock can serve on a long horizon.

    (1, 1) is the mean, (0, 1) the lower tail, (1, 0) the upper, (1, 2.25) loss aversion, and (-1, 1) asks
    for the return -stock exactly. Every utility that is Lipschitz and indifferent to every gamma is one.
    """

    above: float | jax.Array
    below: float | jax.Array

    @property
    def slope(self) -> float:
        """Of the steeper side."""
        return max(abs(float(self.above)), abs(float(self.below)))

    def __call__(self, x: Array) -> Array:
        """A line with a bend at zero."""
        x = checks.array("x", x, ...)
        # Not when they are made: JAX makes them of tracers, and of what is no number at all.
        checks.array("above", self.above, ...)
        checks.array("below", self.below, ...)
        xp = x.__array_namespace__()
        return self.above * xp.maximum(x, 0.0) + self.below * xp.minimum(x, 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Squared(Expected):
    """f(x) = -x^2: the return -stock, with large misses weighing most. Lipschitz on bounded returns only."""

    lipschitz: ClassVar[bool] = False
    degree: ClassVar[float | None] = 2.0

    def __call__(self, x: Array) -> Array:
        """A parabola, open below."""
        return -(checks.array("x", x, ...) ** 2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Threshold(Expected):
    """f(x) = 1 where x >= 0 (x > 0 if `strict`): the chance that the return reaches -stock.

    What rounding may have made of a 0 counts as one: sums of rewards rarely meet a threshold to the last bit.
    """

    strict: bool = dataclasses.field(default=False, metadata=STATIC)
    lipschitz: ClassVar[bool] = False
    continuous: ClassVar[bool] = False
    degree: ClassVar[float | None] = 0.0

    def __call__(self, x: Array) -> Array:
        """A step at zero."""
        x = checks.array("x", x, ...)
        near = 1e-9 if x.dtype == np.float64 else 1e-6
        return x.__array_namespace__().where(x > near if self.strict else x >= -near, 1.0, 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Exponential(Expected):
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
        checks.number("exponential: rate", self.rate, "a finite number", math.isfinite, ObjectiveError)
        if self.rate == 0:
            raise ObjectiveError("exponential: rate 0 prefers nothing; use the mean")

    def __call__(self, x: Array) -> Array:
        """Always negative."""
        x = checks.array("x", x, ...)
        return -x.__array_namespace__().exp(-self.rate * x)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Norm(Expected):
    """f(x) = -||x|| of an order: homeostasis, where a stock is how far each level is off its set-point."""

    order: float = dataclasses.field(default=2.0, metadata=STATIC)

    def __post_init__(self) -> None:
        """Refuse an order that makes no norm."""
        checks.number("norm: order", self.order, error=ObjectiveError)
        if not self.order >= 1:
            raise ObjectiveError(f"norm: order {self.order:g} was given, at least 1 is wanted")

    @property
    def dimensions(self) -> int:
        """-1: any number of levels."""
        return -1

    def __call__(self, x: Array) -> Array:
        """The negative norm over the last axis."""
        x = checks.array("x", x, ..., "m")
        return -x.__array_namespace__().linalg.vector_norm(x, ord=self.order, axis=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constraint(Expected):
    """f(x) = x1 + penalty * min(x2, 0): the first return, and a price on what the second lacks."""

    penalty: float

    @property
    def dimensions(self) -> int:
        """The two returns."""
        return 2

    def __call__(self, x: Array) -> Array:
        """Linear in the first of two coordinates, bent in the second."""
        x = checks.array("x", x, ..., 2)
        checks.array("penalty", self.penalty, ...)
        return x[..., 0] + self.penalty * x.__array_namespace__().minimum(x[..., 1], 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WeightedTails(Expected):
    """f(x) = sum_i w_i / tau_i * min(x_i, 0), the utility of a spectral objective."""

    levels: tuple[tuple[float, float], ...] = dataclasses.field(metadata=STATIC)

    @property
    def dimensions(self) -> int:
        """A coordinate a level."""
        return len(self.levels)

    def __call__(self, x: Array) -> Array:
        """Bent in every coordinate."""
        x = checks.array("x", x, ..., len(self.levels))
        xp = x.__array_namespace__()
        slopes = xp.asarray([weight / tau for tau, weight in self.levels], dtype=x.dtype)
        return (slopes * xp.minimum(x, 0.0)).sum(-1)
