"""Exact dynamic programming on return distributions, with the reward obtained so far in the state."""

from valuelearn.dp.laws import Law, execute
from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.dp.solve import Solution, frontier, solve
from valuelearn.dp.stock_free import stock_free

__all__ = ["MDP", "Law", "MDPError", "Solution", "execute", "frontier", "solve", "stock_free"]
