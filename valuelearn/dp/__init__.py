"""Exact dynamic programming on return distributions, with the reward obtained so far in the state."""

from valuelearn.dp.laws import Law, execute
from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.dp.solve import Solution, solve

__all__ = ["MDP", "Law", "MDPError", "Solution", "execute", "solve"]
