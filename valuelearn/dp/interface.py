"""What a solver answers with, and what it asks of a planner."""

from typing import NamedTuple, Protocol

import numpy as np

from valuelearn.dp.laws import Law, rounding
from valuelearn.objectives import Utility


class Solution(NamedTuple):
    """An optimum. `value` is the objective of `law`, that of the executed policy, from `stock`."""

    value: float
    stock: float | np.ndarray
    first_actions: list[int]
    """Every action with which some optimal policy begins; where policies are drawn, those of the draw."""
    law: Law
    gap: float
    """By how much the optimum may be better: 0 where the answer is exact, NaN where no bound is known."""


class Planner(Protocol):
    """What finds the best policy for a utility, from one state."""

    @property
    def returns(self) -> np.ndarray:
        """Returns [n, m] among which, less their sign, stocks are sought."""

    @property
    def spacing(self) -> float:
        """How far those returns are apart; 0 where an optimal stock is less one of them."""

    def error(self, utility: Utility) -> float:
        """By how much `values` may be off; NaN where no bound is known."""

    def values(self, utility: Utility, stocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What can be had [C] from stocks [C, m], and which first actions bool[C, A] attain it."""

    def best(self, utility: Utility, stock: np.ndarray) -> tuple[Law, int]:
        """The law of the return under what is best from a stock [m], and the first action."""


def gap(most: float, value: float) -> float:
    """What the optimum may have over a value; rounding is no gap."""
    return 0.0 if most - value <= rounding(value) else most - value


def numbers(first: np.ndarray) -> list[int]:
    """Which actions attain the best, bool[C, A], from any of the stocks."""
    return [int(action) for action in np.flatnonzero(first.any(0))]
