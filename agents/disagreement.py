"""Pessimism where a learnt model's members would have the critics believe different things.

MOBILE (Sun et al., 2023): what is taken off a target is how far apart values are of the states that one
member or another says come next.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field

from agents.critics import Critics
from valuelearn import replay
from valuelearn.config import Section
from valuelearn.types import Params, Transition


class DisagreementConfig(Section):
    """The penalty of values that a model's members do not agree about."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """What is taken off a target for each unit of disagreement (MOBILE's beta; 0.1 to 1.5 for robots)."""
    draws: Annotated[int, Field(gt=0)] = 10
    """Next states drawn of each member."""


def disagreement(
    critics: Critics,
    target_params: Params,
    transition: Transition,
    policy: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    key: jax.Array,
) -> jax.Array:
    """Standard deviation [B] over members of the mean value of the states that each draws.

    It is the unbiased one, as in the authors' code: there are two members or more. The lowest target critic
    counts. Of transitions that were recorded it is 0: what followed them is known.
    """
    assert transition.imagined is not None
    shape = transition.imagined.shape  # [B, L, M, D]
    states = transition.imagined.reshape(-1, shape[-1])
    values = critics.values(target_params, states, policy(states, key)[0]).min(0)
    apart = values.reshape(shape[:-1]).mean(-1).std(-1, ddof=1)
    return jnp.where(replay.was_recorded(transition), 0.0, apart)
