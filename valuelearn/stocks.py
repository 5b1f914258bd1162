"""The stock: the reward obtained so far, in the unit of the return to come (Avila Pires et al., 2025).

C' = (C + R) / gamma after each reward, so that C_0 + G_0 = gamma^t (C_t + G_t) at every step: what an
episode will have been worth is known, but for a factor, from its stock and the return from here on.
"""

import dataclasses

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
    bound: float  # |stock| is clipped here: where it outweighs every return, more changes no decision.
    angles: tuple[float, float] | None = None  # Radians between which slopes are drawn.

    @property
    def size(self) -> int:
        """Numbers K that an episode carries."""
        return self.dimensions + (_SLOPES if self.angles else 0)

    @property
    def num_draws(self) -> int:
        """Uniform numbers that `first` and `anywhere` take."""
        return self.dimensions + (1 if self.angles else 0)

    def first(self, uniform: Array) -> Array:
        """What an episode begins with, [..., K], from numbers [..., num_draws] in [0, 1)."""
        return self._drawn(uniform, self.low, self.high)

    def anywhere(self, uniform: Array) -> Array:
        """What an episode could carry at some time, [..., K], from numbers [..., num_draws] in [0, 1)."""
        return self._drawn(uniform, -self.bound, self.bound)

    def after(self, carried: Array, reward: Array) -> Array:
        """What is carried on [..., K] after a reward [...], [..., m] for vectors."""
        xp = carried.__array_namespace__()
        reward = reward[..., None] if reward.ndim < carried.ndim else reward
        stock = (carried[..., : self.dimensions] + reward) / self.gamma
        return xp.concat([xp.clip(stock, -self.bound, self.bound), carried[..., self.dimensions :]], axis=-1)

    def _drawn(self, uniform: Array, low: Ends, high: Ends) -> Array:
        xp = uniform.__array_namespace__()
        first_stock, last_stock = (xp.asarray(end, dtype=uniform.dtype) for end in (low, high))
        stock = first_stock + (last_stock - first_stock) * uniform[..., : self.dimensions]
        if self.angles is None:
            return stock
        least, greatest = self.angles
        angle = least + (greatest - least) * uniform[..., self.dimensions :]
        return xp.concat([stock, xp.sin(angle), xp.cos(angle)], axis=-1)
