"""No update with a number that is not finite is made: what agents ask before they make one.

An agent computes what an update would come to, asks whether all of it is `finite`, and has it `made` only
where it is; else its learner comes back as it was, which is how the training loop knows that it must stop.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from valuelearn.types import LearnerState, Trajectory, Transition

Agree = Callable[[jax.Array], jax.Array]
"""Whether something holds of all seeds that are trained at once, of whether it holds of one: bool[]."""


def alone(holds: jax.Array) -> jax.Array:
    """The agreement of one seed with itself."""
    return holds


def experienced(experience: Transition | Trajectory) -> Any:
    """What environments and datasets gave, as far as it could be other than finite."""
    if isinstance(experience, Trajectory):
        return experience.obs, experience.step.next_obs, experience.step.reward
    return experience.obs, experience.next_obs, experience.reward


def finite(*trees: Any) -> jax.Array:
    """Whether every number is, bool[]; integers always are."""
    leaves = [x for x in jax.tree.leaves(trees) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(x).all() for x in leaves]).all()


def made(
    agree: Agree, good: jax.Array, update: Callable[[], LearnerState], before: LearnerState
) -> LearnerState:
    """The learner that `update` makes where all seeds are good, else the one before.

    As a branch and not a selection, so that an optimiser still steps in place.
    """
    return jax.lax.cond(agree(good), update, lambda: before)
