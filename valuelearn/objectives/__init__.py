"""What an agent maximises of the return's law, given what it has already obtained.

A *utility* objective is E f(stock + return), where the stock c carries the reward obtained so far:
c' = (c + r) / gamma. An *outer* objective is reached through a utility by choosing the stock to begin
with; on a law alone it is a statistic. Each class states which of three conditions it meets (Avila Pires
et al., 2025): `mixture_indifferent` and `gamma_indifferent`, with which distributional dynamic
programming improves a policy everywhere at once, and `lipschitz` in 1-Wasserstein distance, with which it
converges on an infinite horizon.

Laws are (returns, probabilities), both [..., N]; returns of vector objectives are [..., N, m]. Everything
takes arrays of JAX, as agents have, and of NumPy, as exact solvers in float64 have.
"""

from typing import Literal

from valuelearn.objectives.interface import Array, Objective, ObjectiveError, Outer, Utility
from valuelearn.objectives.outer import OCE, CVaR, MeanCVaR, OptimisticCVaR, Spectral
from valuelearn.objectives.utilities import (
    Constraint,
    Expected,
    Exponential,
    Mean,
    Norm,
    Squared,
    Threshold,
    TwoSlope,
)

__all__ = [
    "BY_NAME",
    "OCE",
    "Array",
    "CVaR",
    "Constraint",
    "Expected",
    "Exponential",
    "Mean",
    "MeanCVaR",
    "Name",
    "Norm",
    "Objective",
    "ObjectiveError",
    "OptimisticCVaR",
    "Outer",
    "Spectral",
    "Squared",
    "Threshold",
    "TwoSlope",
    "Utility",
    "UtilityName",
]

UtilityName = Literal["mean", "two_slope", "squared", "threshold", "exponential", "norm", "constraint"]
Name = Literal[UtilityName, "cvar", "optimistic_cvar", "mean_cvar", "spectral", "oce"]

BY_NAME: dict[str, type] = {
    "mean": Mean,
    "two_slope": TwoSlope,
    "squared": Squared,
    "threshold": Threshold,
    "exponential": Exponential,
    "norm": Norm,
    "constraint": Constraint,
    "cvar": CVaR,
    "optimistic_cvar": OptimisticCVaR,
    "mean_cvar": MeanCVaR,
    "spectral": Spectral,
    "oce": OCE,
}
"""The objectives by what configs call them."""
