"""Exact dynamic programming on return distributions, with the reward obtained so far in the state."""

from valuelearn.dp.interface import Solution
from valuelearn.dp.laws import Law, execute
from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.dp.quantile import by_quantiles
from valuelearn.dp.solve import best_actions, frontier, solve
from valuelearn.dp.stock_free import stock_free

__all__ = [
    "MDP",
    "Law",
    "MDPError",
    "Solution",
    "best_actions",
    "by_quantiles",
    "execute",
    "frontier",
    "solve",
    "stock_free",
]
