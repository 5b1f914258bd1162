"""The stock: the reward obtained so far, in the unit of the return to come (Avila Pires et al., 2025).

C' = (C + R) / gamma after each reward, so that C_0 + G_0 = gamma^t (C_t + G_t) at every step: what an
episode will have been worth is known, but for a factor, from its stock and the return from here on.
"""

import dataclasses
import math

import numpy as np

from valuelearn import checks
from valuelearn.types import Array

_SLOPES = 2  # Numbers that name one of the utilities `TwoSlope`.


Ends = float | tuple[float, ...]
"""Of a range: the same for every coordinate, or one for each."""


@dataclasses.dataclass(frozen=True)
class Stocks:
    """How the stock of an episode begins and goes on: the rule that environments and agents share.

    What an episode carries is [..., K]: `dimensions` coordinates of stock and, where there are `angles`,
    the slopes (sin, cos) above and below zero of the utility asked for, which stay as they are.
    """

    gamma: float
    dimensions: int
    low: Ends  # First stocks are uniform from here
    high: Ends  # to here.
    # |stock| is clipped here. Where it outweighs every return, more changes no decision for an f that is
    # linear in each coordinate on either side of 0; for others, as squares and most norms, it still may.
    bound: float
    angles: tuple[float, float] | None = None  # Radians between which slopes are drawn.

    def __post_init__(self) -> None:
        """Refuse what is no rule.

        Raises:
            ValueError: for numbers out of their ranges, or more or fewer of them than there are coordinates.
        """
        checks.number("gamma", self.gamma, "a number above 0 and at most 1", lambda gamma: 0 < gamma <= 1)
        checks.count("dimensions", self.dimensions)
        checks.number("bound", self.bound, "a finite number above 0", lambda bound: 0 < bound < math.inf)
        for name, ends in (("low", self.low), ("high", self.high)):
            ends = checks.array(name, ends, *([self.dimensions] if isinstance(ends, list | tuple) else []))
            if not np.isfinite(ends).all():
                raise ValueError(f"{name} is {ends}; finite numbers are wanted")
        if self.angles is not None:
            checks.array("angles", self.angles, 2)

    @property
    def size(self) -> int:
        """Numbers K that an episode carries."""
        return self.dimensions + (_SLOPES if self.angles else 0)

    @property
    def num_draws(self) -> int:
        """Uniform numbers that `first` and `anywhere` take."""
        return self.dimensions + (1 if self.angles else 0)

    def first(self, uniform: Array) -> Array:
        """What an episode begins with, [..., K], from numbers [..., num_draws] in [0, 1).

        Raises:
            ValueError: for more or fewer of them, or none with fractions.
        """
        return self._drawn(uniform, self.low, self.high)

    def anywhere(self, uniform: Array) -> Array:
        """What an episode could carry at some time, [..., K], from numbers [..., num_draws] in [0, 1).

        Raises:
            ValueError: as `first`.
        """
        return self._drawn(uniform, -self.bound, self.bound)

    def after(self, carried: Array, reward: Array) -> Array:
        """What is carried on [..., K] after a reward [...], [..., m] for vectors.

        Raises:
            ValueError: for arrays of other shapes.
        """
        carried = checks.array("carried", carried, ..., self.size)
        of_vectors = [self.dimensions] if np.ndim(reward) >= carried.ndim else []
        reward = checks.array("reward", reward, ..., *of_vectors, over=carried.shape[:-1])
        xp = carried.__array_namespace__()
        reward = reward[..., None] if reward.ndim < carried.ndim else reward
        stock = (carried[..., : self.dimensions] + reward) / self.gamma
        return xp.concat([xp.clip(stock, -self.bound, self.bound), carried[..., self.dimensions :]], axis=-1)

    def _drawn(self, uniform: Array, low: Ends, high: Ends) -> Array:
        uniform = checks.array("uniform", uniform, ..., self.num_draws, kind=np.floating)
        xp = uniform.__array_namespace__()
        first_stock, last_stock = (xp.asarray(end, dtype=uniform.dtype) for end in (low, high))
        stock = first_stock + (last_stock - first_stock) * uniform[..., : self.dimensions]
        if self.angles is None:
            return stock
        least, greatest = self.angles
        angle = least + (greatest - least) * uniform[..., self.dimensions :]
        return xp.concat([stock, xp.sin(angle), xp.cos(angle)], axis=-1)
