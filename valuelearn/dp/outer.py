"""The outer problem: the stock from which what a utility makes of a process serves an objective best."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from valuelearn.dp.conditions import check_finite
from valuelearn.dp.interface import Planner, Solution, gap, numbers
from valuelearn.dp.laws import SAME, Law, law_of, rounding
from valuelearn.objectives import Outer, Squared

_MOST_STOCKS = 50_000
_POLISHED = 8


def from_the_best_stock(planner: Planner, objective: Outer) -> Solution:
    """The optimum over stocks; of an objective to be minimised over them, over draws between policies too.

    Raises:
        MDPError: where the utility is not finite on the returns.
    """
    if objective.sense == "min":
        return _by_lot(planner, objective)
    weights = np.asarray(objective.weights)
    stocks, spacing = _candidates(planner, objective)
    values, first = planner.values(objective.utility, stocks)
    found = objective.scale * values - stocks @ weights
    check_finite(objective.utility, found)
    # The law at the best stock may be worth more than that stock shows, and names its own.
    polished = [_polished(planner, objective, stocks[peak]) for peak in _peaks(found, len(weights))]
    value, stock, law = max(polished, key=lambda one: one[0])
    _, at_stock = planner.values(objective.utility, np.atleast_1d(stock)[None])
    attained = np.concatenate([first[found >= value - rounding(value)], at_stock])
    most = found.max() + objective.scale * planner.error(objective.utility)
    if spacing:  # Between two stocks the best may be higher by half a way at the steepest.
        most += spacing / 2 * np.maximum(1.0, objective.scale * objective.utility.slope - 1)
    given = float(stock) if np.ndim(stock) == 0 else stock
    return Solution(value, given, numbers(attained), law, gap(most, value))


def _peaks(found: np.ndarray, dimensions: int) -> np.ndarray:
    """The highest few of candidates, of which those beside a higher one on a line are none."""
    order = np.argsort(-found, kind="stable")
    if dimensions == 1:
        padded = np.pad(found, 1, constant_values=-np.inf)
        order = order[(found >= padded[:-2])[order] & (found > padded[2:])[order]]
    return order[:_POLISHED]


def _candidates(planner: Planner, objective: Outer) -> tuple[np.ndarray, float]:
    """Stocks [C, m], each less a return, and how far they are apart; 0 where an optimum is among them.

    Coordinates of a spectral objective descend as its levels ascend, since quantiles ascend.
    """
    returns, spacing, count = planner.returns[:, 0], planner.spacing, len(objective.weights)
    per_level = int(_MOST_STOCKS ** (1 / count))
    if len(returns) > per_level:
        returns = returns[np.unique(np.linspace(0, len(returns) - 1, per_level).astype(int))]
        spacing = float(np.diff(returns).max())
    if isinstance(objective.utility, Squared):  # Its best stock need not be less a return.
        spacing = float("nan")
    grid = np.array(list(itertools.product(np.sort(-returns), repeat=count)))
    return grid[(np.diff(grid, axis=1) <= 0).all(1)], spacing


def _polished(planner: Planner, objective: Outer, stock: np.ndarray) -> tuple[float, np.ndarray, Law]:
    """The statistic, stock and law at a fixed point of: the law's own stock, and the best law from there."""
    law, _ = planner.best(objective.utility, stock)
    value = law.score(objective)
    while True:
        stock = _stock_of(objective, law)
        better, _ = planner.best(objective.utility, np.atleast_1d(stock))
        if (now := better.score(objective)) <= value + rounding(value):
            return value, stock, law
        law, value = better, now


def _stock_of(objective: Outer, law: Law) -> np.ndarray:
    return np.asarray(objective.stock(law.returns, law.probabilities))


class _Plan(NamedTuple):
    law: Law
    first: int

    def line(self, stock: float, objective: Outer) -> float:
        """What the law is worth by a stock; between two returns a line."""
        return objective.scale * self.law.score(objective.utility, stock) - stock


def _by_lot(planner: Planner, objective: Outer) -> Solution:
    """The optimum of a functional that is convex in the law, min over the stock of a maximum over laws.

    That maximum is convex in the stock, and between two returns it is one line for each law: cutting
    planes find its minimum in finitely many steps.
    """

    def plan(stock: float) -> _Plan:
        return _Plan(*planner.best(objective.utility, np.array([stock])))

    ends = np.sort(-planner.returns[:, 0])
    found = objective.scale * planner.values(objective.utility, ends[:, None])[0] - ends
    middle = int(np.argmin(found))
    tried, plans = [ends[middle]], [plan(ends[middle])]
    for low, high in itertools.pairwise(ends[max(middle - 1, 0) : middle + 2]):
        plans += [plan(low), plan(high)]
        while True:
            at_low, at_high = (np.array([one.line(end, objective) for one in plans]) for end in (low, high))
            share, model = _lowest(at_low, at_high)
            here = low + share * (high - low)
            tried.append(here)
            plans.append(plan(here))
            if plans[-1].line(here, objective) <= model + rounding(model):
                break

    def highest(stock: float) -> float:
        return max(one.line(stock, objective) for one in plans)

    stock = min(tried, key=highest)
    least = highest(stock) - rounding(highest(stock))
    active = [one for one in plans if one.line(stock, objective) >= least]
    draws = list(_draws(active, objective, -stock))
    law, firsts = max(draws, key=lambda draw: draw[0].score(objective))
    # The optimum is the least of what can be had by any stock.
    (had,), _ = planner.values(objective.utility, np.array([[stock]]))
    error = objective.scale * planner.error(objective.utility)
    most = min(found.min(), objective.scale * had - stock) + error
    return Solution(law.score(objective), float(stock), firsts, law, gap(most, law.score(objective)))


def _draws(plans: list[_Plan], objective: Outer, quantile: float) -> Iterator[tuple[Law, list[int]]]:
    """Laws of draws between two plans, with first actions: of the shares, those at which a tail is full.

    A share 1 / scale of the returns then lies above the quantile, or at it too.
    """
    tau = 1 / objective.scale
    for one, other in itertools.combinations_with_replacement(plans, 2):
        shares = {0.0, 1.0}
        for edge in (quantile + rounding(quantile), quantile - rounding(quantile)):
            tails = [float(plan.law.probabilities[plan.law.returns > edge].sum()) for plan in (one, other)]
            if tails[0] == tails[1]:
                continue
            share = (tau - tails[1]) / (tails[0] - tails[1])
            if SAME < share < 1 - SAME:  # Nearer to an end it is that end, but for the rounding of tau.
                shares.add(share)
        for share in shares:
            returns = np.concatenate([one.law.returns, other.law.returns])
            chances = np.concatenate([share * one.law.probabilities, (1 - share) * other.law.probabilities])
            firsts = {plan.first for plan, part in ((one, share), (other, 1 - share)) if part}
            yield law_of(returns[:, None], chances), sorted(firsts)


def _lowest(at_low: np.ndarray, at_high: np.ndarray) -> tuple[float, float]:
    """Where in [0, 1], and how low, the largest of lines from `at_low` to `at_high` is lowest."""
    crossings = [0.0, 1.0]
    for one, other in itertools.combinations(range(len(at_low)), 2):
        parting = (at_high - at_low)[one] - (at_high - at_low)[other]
        if parting and 0 < (share := (at_low[other] - at_low[one]) / parting) < 1:
            crossings.append(share)
    heights = [float((at_low + share * (at_high - at_low)).max()) for share in crossings]
    best = int(np.argmin(heights))
    return crossings[best], heights[best]
