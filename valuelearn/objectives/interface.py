"""What objectives are to those that ask for them, and what is read off a law."""

from typing import Any, ClassVar, Literal, Protocol, TypeVar

import jax
import numpy as np

from valuelearn import checks
from valuelearn.errors import UserError

Array = TypeVar("Array", jax.Array, np.ndarray)


class ObjectiveError(UserError):
    """An objective that is not defined, or that cannot be had where it is asked for."""


class Objective(Protocol):
    """A functional of a law. `linear`: it depends on the mean alone, so every head serves it."""

    linear: ClassVar[bool]
    mixture_indifferent: ClassVar[bool]

    @property
    def gamma_indifferent(self) -> bool:
        """Whether what is preferred stays so when every return is discounted by one step more."""

    @property
    def lipschitz(self) -> bool:
        """Whether it changes by no more than a multiple of the law's 1-Wasserstein distance."""

    def score(self, returns: Array, probabilities: Array) -> Array:
        """The functional's value [...] for the laws [..., N]; larger is better.

        Raises:
            ValueError: for arrays of other shapes, or not of real numbers.
        """


class Utility(Objective, Protocol):
    """E f(stock + return). `dimensions` is m, None where f takes scalars.

    `degree` p says that f(gamma x) = gamma^p f(x); None where that holds for no p.
    """

    continuous: ClassVar[bool]
    degree: ClassVar[float | None]

    @property
    def dimensions(self) -> int | None:
        """Length of the stock vector; None for a scalar stock, -1 for a vector of any length."""

    @property
    def slope(self) -> float:
        """The largest slope of f on scalars, by absolute value; NaN where it is not known."""

    @property
    def perspective(self) -> bool:
        """Whether solvers keep the time beside the stock, which makes up for what gamma changes."""

    def __call__(self, x: Array) -> Array:
        """f(x) [...] of scalars [...], or of vectors [..., m]."""

    def score(self, returns: Array, probabilities: Array, stock: Any = 0.0) -> Array:
        """E f(stock + return) [...] of the laws [..., N], at stocks [...], [..., m] for vectors."""


class Outer(Objective, Protocol):
    """max (or min) over the stock c of -weights . c + scale * E f(c + return)."""

    sense: ClassVar[Literal["max", "min"]]

    @property
    def scale(self) -> float:
        """What the expected utility is multiplied by."""

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the coordinates of the stock; every coordinate obtains the same reward."""

    @property
    def utility(self) -> Utility:
        """f."""

    def stock(self, returns: Array, probabilities: Array) -> Array:
        """The stock [...], [..., m] for a vector, at which a law [..., N] attains the functional's value."""


def ascending(returns: Array, probabilities: Array) -> tuple[Array, Array]:
    """The laws [..., N] with their returns in order.

    Raises:
        ValueError: for arrays of other shapes, or not of real numbers.
    """
    returns = checks.array("returns", returns, ..., "N")
    *leading, atoms = returns.shape
    probabilities = checks.array("probabilities", probabilities, ..., atoms, over=tuple(leading))
    xp = returns.__array_namespace__()
    order = xp.argsort(returns, axis=-1)
    probabilities = xp.broadcast_to(probabilities, returns.shape)
    return xp.take_along_axis(returns, order, axis=-1), xp.take_along_axis(probabilities, order, axis=-1)


def lower_quantile(returns: Array, probabilities: Array, tau: float) -> Array:
    """The smallest return [...] whose distribution function reaches `tau`.

    Raises:
        ValueError: as `ascending`, and for probabilities without fractions.
    """
    checks.array("probabilities", probabilities, ..., kind=np.floating)
    returns, probabilities = ascending(returns, probabilities)
    xp = returns.__array_namespace__()
    reached = xp.cumsum(probabilities, axis=-1)
    # Sums of probabilities round; a level that is reached but for that counts as reached.
    rounding = min((16 + reached.shape[-1]) * float(xp.finfo(reached.dtype).eps), tau / 2)
    index = xp.argmax(reached >= tau - rounding, axis=-1)
    return xp.take_along_axis(returns, index[..., None], axis=-1)[..., 0]
