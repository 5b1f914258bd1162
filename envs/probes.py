"""Probe environments: decision processes so small that every return is known in closed form.

Each isolates one thing that value learning must get right, so that a failure names its cause. They
are tables of the same shape: two states, two actions, two outcomes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import tabular
from envs.registry import unknown
from envs.tabular import Table
from valuelearn.types import FunctionalEnv, Timestep

_GEOMETRIC_TERMS = 64  # The rest of a geometric series of 1/2 is below float64's rounding.


class Law(NamedTuple):
    """The law of a return: where its mass lies."""

    returns: np.ndarray  # f64[M]
    probabilities: np.ndarray  # f64[M]


class Probe(NamedTuple):
    """A decision process and what is true of it."""

    table: Table
    laws: Callable[[float], dict[tuple[int, int], Law]]  # gamma -> law of (state, action), optimal after.


def _table(
    reward: object = 0.0,
    *,
    first_probability: float = 1.0,
    following: object = 0,
    terminates: object = True,
    start: tuple[float, float] = (1.0, 0.0),
    limit: int = 100,
) -> Table:
    """A table from values that are broadcast over states, actions and outcomes."""
    shape = (2, 2, 2)
    return Table(
        np.asarray(start, np.float32),
        np.broadcast_to(np.asarray([first_probability, 1 - first_probability], np.float32), shape),
        np.broadcast_to(np.asarray(reward, np.float32), shape),
        np.broadcast_to(np.asarray(following, np.int32), shape),
        np.broadcast_to(np.asarray(terminates, bool), shape),
        np.asarray(limit, np.int32),
    )


def _certain(returns: dict[tuple[int, int], float]) -> dict[tuple[int, int], Law]:
    return {place: Law(np.asarray([value]), np.ones(1)) for place, value in returns.items()}


def _both_actions(state: int, value: float) -> dict[tuple[int, int], float]:
    return {(state, 0): value, (state, 1): value}


def _geometric(gamma: float) -> dict[tuple[int, int], Law]:
    steps = np.arange(1, _GEOMETRIC_TERMS + 1)
    law = Law((1 - gamma**steps) / (1 - gamma), 0.5**steps)
    return {(0, 0): law, (0, 1): law}


PROBES = {
    # One state, reward 1, no end but a time limit: a truncation must bootstrap.
    "truncation": Probe(
        _table(1.0, terminates=False, limit=4), lambda gamma: _certain(_both_actions(0, 1 / (1 - gamma)))
    ),
    # One state, reward 1, the end: a termination must not.
    "termination": Probe(_table(1.0), lambda gamma: _certain(_both_actions(0, 1.0))),
    # The reward comes one state later.
    "discount": Probe(
        _table(
            np.reshape([0.0, 1.0], (2, 1, 1)),
            following=1,
            terminates=np.reshape([False, True], (2, 1, 1)),
        ),
        lambda gamma: _certain(_both_actions(0, gamma) | _both_actions(1, 1.0)),
    ),
    # The reward depends on the action,
    "action": Probe(
        _table(np.reshape([-1.0, 1.0], (1, 2, 1))), lambda gamma: _certain({(0, 0): -1.0, (0, 1): 1.0})
    ),
    # or on the observation.
    "observation": Probe(
        _table(np.reshape([-1.0, 1.0], (2, 1, 1)), start=(0.5, 0.5)),
        lambda gamma: _certain(_both_actions(0, -1.0) | _both_actions(1, 1.0)),
    ),
    # A reward of 2 with probability 1/4, else 0.
    "two_point": Probe(
        _table(np.asarray([2.0, 0.0]), first_probability=0.25),
        lambda gamma: {
            (0, action): Law(np.asarray([2.0, 0.0]), np.asarray([0.25, 0.75])) for action in (0, 1)
        },
    ),
    # Reward 1 and each time the end with probability 1/2: a geometric mixture of returns.
    "geometric": Probe(_table(1.0, first_probability=0.5, terminates=np.asarray([True, False])), _geometric),
}
NAMES = tuple(PROBES)
_ALL = jax.tree.map(lambda *tables: np.stack(tables), *(probe.table for probe in PROBES.values()))


def check(name: str) -> None:
    """Refuse a name that is not one of `NAMES`.

    Raises:
        UnknownEnvironmentError: naming the nearest one that is.
    """
    if name not in PROBES:
        raise unknown("probe", name, list(NAMES))


def make(name: str, num_envs: int) -> FunctionalEnv:
    """`num_envs` copies of the probe of that name, one that `check` accepts."""
    return number(NAMES.index(name), num_envs)


def number(index: jax.Array | int, num_envs: int) -> FunctionalEnv:
    """`num_envs` copies of the probe `NAMES[index]`.

    Only `init` reads `index`, which may be traced: under `vmap` over it, every probe is trained at once.
    """

    return tabular.make(lambda: jax.tree.map(lambda x: jnp.asarray(x)[index], _ALL), 2, 2, num_envs)


def signed(env: FunctionalEnv) -> FunctionalEnv:
    """A probe whose action is one number, of which the sign alone counts: above 0 is action 1."""

    def step(state: Any, action: jax.Array, key: jax.Array) -> tuple[Any, Timestep]:
        return env.step(state, (action[:, 0] > 0).astype(jnp.int32), key)

    return FunctionalEnv(env.spec._replace(num_actions=0, action_size=1), env.init, step)
