"""The best that can be had of a process for an objective, whichever solver serves."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from valuelearn import checks
from valuelearn.dp.conditions import check, check_finite, utility_of
from valuelearn.dp.exact import TooLargeError, Unrolled
from valuelearn.dp.grid import OnGrid
from valuelearn.dp.interface import Planner, Solution, gap, numbers
from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.dp.outer import from_the_best_stock
from valuelearn.objectives import Objective, Outer, Utility


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
    check(mdp, objective)
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
        check(mdp, objective)
    planner = _planner(mdp, start, points)
    return [_solve(mdp, planner, objective, None) for objective in objectives]


def best_actions(mdp: MDP, objective: Objective, stocks: np.ndarray, points: int | None = None) -> np.ndarray:
    """Which first actions bool[S, C, A] are best in each state from scalar stocks [C]; none at a terminal.

    Raises:
        MDPError: where the objective has no optimum on this process, or for stocks that are none.
    """
    check(mdp, objective)
    utility = utility_of(objective)
    if utility.dimensions == -1 and mdp.dimensions > 1:
        raise MDPError(f"stocks of {mdp.dimensions} coordinates are wanted; scalar ones were given")
    at = checks.array("stocks", stocks, "C", error=MDPError).astype(float)[:, None]
    if not np.isfinite(at).all():
        raise MDPError(f"stocks {stocks} were given, finite numbers are wanted")
    return np.array([_planner(mdp, state, points).values(utility, at)[1] for state in range(len(mdp.legal))])


def _solve(mdp: MDP, planner: Planner, objective: Objective, stock: float | np.ndarray | None) -> Solution:
    utility = utility_of(objective)
    if utility is objective:
        return _from(planner, utility, np.zeros(mdp.dimensions) if stock is None else stock)
    outer = cast(Outer, objective)
    if stock is None:
        return from_the_best_stock(planner, outer)
    inner = _from(planner, utility, stock)
    value = float(outer.scale * inner.value - np.asarray(outer.weights) @ np.atleast_1d(inner.stock))
    return inner._replace(value=value, gap=outer.scale * inner.gap)


def _planner(mdp: MDP, start: int | None, points: int | None) -> Planner:
    if points is not None:
        return OnGrid(mdp, start, points)
    try:
        return Unrolled(mdp, start)
    except TooLargeError:
        return OnGrid(mdp, start)


def _from(planner: Planner, utility: Utility, stock: float | np.ndarray) -> Solution:
    vector = np.atleast_1d(checks.array("stock", stock, ..., error=MDPError).astype(float))
    wanted = {None: 1, -1: planner.returns.shape[1]}.get(utility.dimensions, utility.dimensions)
    if vector.shape != (wanted,) or not np.isfinite(vector).all():
        raise MDPError(f"stock {stock} was given, {wanted} finite numbers are wanted")
    promised, first = planner.values(utility, vector[None])
    law, _ = planner.best(utility, vector)
    given = float(vector[0]) if utility.dimensions is None else vector
    value = law.score(utility, given)
    check_finite(utility, np.array(value))
    return Solution(value, given, numbers(first), law, gap(promised[0] + planner.error(utility), value))
