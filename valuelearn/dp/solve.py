"""The best that can be had of a process for an objective, whichever solver serves."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np

from valuelearn.dp.exact import TooLargeError, Unrolled
from valuelearn.dp.grid import OnGrid
from valuelearn.dp.laws import SAME, Law, law_of
from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.objectives import Exponential, Objective, Outer, Squared, Utility, slope

_MOST_STOCKS = 50_000
_POLISHED = 8


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


def solve(
    mdp: MDP,
    objective: Objective,
    stock: float | np.ndarray | None = None,
    start: int | None = None,
    points: int | None = None,
) -> Solution:
    """The best that any policy can do, from a state and a stock.

    Every pair of state and paid reward is unrolled where that can be done, which is exact; otherwise, or
    where `points` are given, values on a grid of so many stocks choose the policy. Without a stock a
    utility starts from 0, and an outer objective from the stock that serves it best. The optimum of
    `OptimisticCVaR` may draw between two policies before the first step; its law is that of the draw.

    Raises:
        MDPError: where the objective has no optimum on this process, or not the one asked for.
    """
    _check(mdp, objective)
    planner = _planner(mdp, start, points)
    return _solve(mdp, planner, objective, stock)


def frontier(
    mdp: MDP, objectives: Sequence[Objective], start: int | None = None, points: int | None = None
) -> list[Solution]:
    """The solutions of several objectives, which share what the solver learns of the process.

    Raises:
        MDPError: where one of them has no optimum on this process.
    """
    for objective in objectives:
        _check(mdp, objective)
    planner = _planner(mdp, start, points)
    return [_solve(mdp, planner, objective, None) for objective in objectives]


def _utility_of(objective: Objective) -> Utility:
    return cast(Utility, getattr(objective, "utility", objective))


def _solve(mdp: MDP, planner: Planner, objective: Objective, stock: float | np.ndarray | None) -> Solution:
    if _utility_of(objective) is not objective:
        return _outer(planner, cast(Outer, objective), stock)
    return _from(planner, cast(Utility, objective), np.zeros(mdp.dimensions) if stock is None else stock)


def _planner(mdp: MDP, start: int | None, points: int | None) -> Planner:
    if points is not None:
        return OnGrid(mdp, start, points)
    try:
        return Unrolled(mdp, start)
    except TooLargeError:
        return OnGrid(mdp, start)


def _check(mdp: MDP, objective: Objective) -> None:
    utility = _utility_of(objective)
    name = type(objective).__name__
    # Each coordinate of an outer objective's stock obtains the one reward.
    one = utility is not objective or utility.dimensions is None
    wanted = 1 if one else utility.dimensions
    if wanted not in (-1, mdp.dimensions):
        raise MDPError(
            f"{name} takes rewards of {wanted} coordinates, those of the process have {mdp.dimensions}"
        )
    if mdp.horizon is None and not utility.continuous:
        raise MDPError(f"{name} is discontinuous, so it may have no optimum without a horizon; give one")
    kept_in_time = isinstance(utility, Exponential) and utility.perspective
    if mdp.gamma < 1 and not (utility.gamma_indifferent or kept_in_time):
        raise MDPError(
            f"{name} is not indifferent to gamma {mdp.gamma:g}: what is best changes with time; ask for it "
            "with perspective: true, which keeps the time beside the stock"
        )


def _from(planner: Planner, utility: Utility, stock: float | np.ndarray) -> Solution:
    vector = np.atleast_1d(np.asarray(stock, float))
    wanted = {None: 1, -1: planner.returns.shape[1]}.get(utility.dimensions, utility.dimensions)
    if vector.shape != (wanted,) or not np.isfinite(vector).all():
        raise MDPError(f"stock {stock} was given, {wanted} finite numbers are wanted")
    promised, first = planner.values(utility, vector[None])
    law, _ = planner.best(utility, vector)
    given = float(vector[0]) if utility.dimensions is None else vector
    value = law.score(utility, given)
    _check_finite(utility, np.array(value))
    return Solution(value, given, _numbers(first), law, _gap(promised[0] + planner.error(utility), value))


def _check_finite(utility: Utility, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise MDPError(f"{utility} is not finite on the returns of this process; make their unit larger")


def _gap(most: float, value: float) -> float:
    """What the optimum may have over a value; rounding is no gap."""
    return 0.0 if most - value <= SAME * (1 + abs(value)) else most - value


def _numbers(first: np.ndarray) -> list[int]:
    return [int(action) for action in np.flatnonzero(first.any(0))]


def _outer(planner: Planner, objective: Outer, stock: float | np.ndarray | None) -> Solution:
    weights = np.asarray(objective.weights)
    if stock is not None:
        inner = _from(planner, objective.utility, stock)
        value = float(objective.scale * inner.value - weights @ np.atleast_1d(inner.stock))
        return inner._replace(value=value, gap=objective.scale * inner.gap)
    if objective.sense == "min":
        return _by_lot(planner, objective)
    stocks, spacing = _candidates(planner, objective)
    values, first = planner.values(objective.utility, stocks)
    found = objective.scale * values - stocks @ weights
    _check_finite(objective.utility, found)
    # The law at the best stock may be worth more than that stock shows, and names its own.
    polished = [_polished(planner, objective, stocks[peak]) for peak in _peaks(found, len(weights))]
    value, stock, law = max(polished, key=lambda one: one[0])
    _, at_stock = planner.values(objective.utility, np.atleast_1d(stock)[None])
    attained = np.concatenate([first[found >= value - SAME * (1 + abs(value))], at_stock])
    most = found.max() + objective.scale * planner.error(objective.utility)
    if spacing:  # Between two stocks the best may be higher by half a way at the steepest.
        most += spacing / 2 * max(1.0, objective.scale * slope(objective.utility) - 1)
    stock = float(stock) if np.ndim(stock) == 0 else stock
    return Solution(value, stock, _numbers(attained), law, _gap(most, value))


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
    per_level = int((_MOST_STOCKS * (1, 2)[count > 1]) ** (1 / count))
    if len(returns) > per_level:
        returns = returns[np.unique(np.linspace(0, len(returns) - 1, per_level).astype(int))]
        spacing = float(np.diff(returns).max())
    if isinstance(objective.utility, Squared):  # Its best stock need not be less a return.
        spacing = float("nan")
    grid = np.array(list(itertools.product(np.sort(-returns), repeat=count)))
    if count == 1:
        return grid, spacing
    by_level = np.argsort([tau for tau, _ in objective.levels])  # type: ignore[attr-defined]
    return grid[(np.diff(grid[:, by_level], axis=1) <= 0).all(1)], spacing


def _polished(planner: Planner, objective: Outer, stock: np.ndarray) -> tuple[float, np.ndarray, Law]:
    """The statistic, stock and law at a fixed point of: the law's own stock, and the best law from there."""
    law, _ = planner.best(objective.utility, stock)
    value = law.score(objective)
    while True:
        stock = _stock_of(objective, law)
        better, _ = planner.best(objective.utility, np.atleast_1d(stock))
        if (now := better.score(objective)) <= value + SAME * (1 + abs(value)):
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
            if plans[-1].line(here, objective) <= model + SAME * (1 + abs(model)):
                break

    def highest(stock: float) -> float:
        return max(one.line(stock, objective) for one in plans)

    stock = min(tried, key=highest)
    least = highest(stock) - SAME * (1 + abs(highest(stock)))
    active = [one for one in plans if one.line(stock, objective) >= least]
    draws = list(_draws(active, objective, -stock))
    law, firsts = max(draws, key=lambda draw: draw[0].score(objective))
    # The optimum is the least of what can be had by any stock.
    (had,), _ = planner.values(objective.utility, np.array([[stock]]))
    error = objective.scale * planner.error(objective.utility)
    most = min(found.min(), objective.scale * had - stock) + error
    return Solution(law.score(objective), float(stock), firsts, law, _gap(most, law.score(objective)))


def _draws(plans: list[_Plan], objective: Outer, quantile: float) -> Iterator[tuple[Law, list[int]]]:
    """Laws of draws between two plans, with first actions: of the shares, those at which a tail is full.

    A share tau of the returns then lies above the quantile, or at it too.
    """
    tau = objective.tau  # type: ignore[attr-defined]
    for one, other in itertools.combinations_with_replacement(plans, 2):
        shares = {0.0, 1.0}
        for edge in (quantile + SAME, quantile - SAME):
            tails = [float(plan.law.probabilities[plan.law.returns > edge].sum()) for plan in (one, other)]
            if tails[0] != tails[1] and 0 < (share := (tau - tails[1]) / (tails[0] - tails[1])) < 1:
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
