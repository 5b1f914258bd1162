"""Which objectives can be had on which processes."""

from typing import cast

import numpy as np

from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.objectives import Objective, Utility


def utility_of(objective: Objective) -> Utility:
    """The utility through which an outer objective is reached; any other objective is one itself."""
    return cast(Utility, getattr(objective, "utility", objective))


def check(mdp: MDP, objective: Objective) -> None:
    """Refuse an objective that has no optimum on a process, or none that looks at the stock alone.

    Raises:
        MDPError: with the first condition that is not met.
    """
    utility = utility_of(objective)
    # Each coordinate of an outer objective's stock obtains the one reward.
    one = utility is not objective or utility.dimensions is None
    wanted = 1 if one else utility.dimensions
    if wanted not in (-1, mdp.dimensions):
        raise MDPError(
            f"{_name(objective)} takes rewards of {wanted} coordinates, those of the process have "
            f"{mdp.dimensions}"
        )
    _check_attained(mdp, objective)
    if _changes_with_time(mdp, utility) and not utility.perspective:
        raise MDPError(
            f"{_name(objective)} is not indifferent to gamma {mdp.gamma:g}: what is best changes with time; "
            "ask for it with perspective: true, which keeps the time beside the stock"
        )


def check_on_laws(mdp: MDP, utility: Utility) -> None:
    """Refuse a utility for which laws on a grid, kept by scalar stock and not by time, cannot be compared.

    Raises:
        MDPError: with the first condition that is not met.
    """
    if mdp.dimensions > 1 or utility.dimensions is not None:
        raise MDPError("laws on a grid are of scalar rewards")
    _check_attained(mdp, utility)
    if _changes_with_time(mdp, utility):
        raise MDPError(f"{_name(utility)} is not indifferent to gamma {mdp.gamma:g}")


def check_finite(utility: Utility, values: np.ndarray) -> None:
    """Refuse a utility whose values [...] on a process are not finite.

    Raises:
        MDPError: where one is not.
    """
    if not np.isfinite(values).all():
        raise MDPError(f"{utility} is not finite on the returns of this process; make their unit larger")


def _check_attained(mdp: MDP, objective: Objective) -> None:
    if mdp.horizon is None and not utility_of(objective).continuous:
        raise MDPError(
            f"{_name(objective)} is discontinuous, so it may have no optimum without a horizon; give one"
        )


def _changes_with_time(mdp: MDP, utility: Utility) -> bool:
    return mdp.gamma < 1 and not utility.gamma_indifferent


def _name(objective: Objective) -> str:
    return type(objective).__name__
