"""Distributional value and policy iteration: a law of the return for every state and stock of a grid.

The return's law is categorical on a grid of returns, and what falls between two of them is shared so that
the mean is kept. On a lattice that rewards and 1 / gamma respect (whole rewards and gamma 1, 1/2, 1/3, ...)
nothing falls between, and laws are exact.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.dp.exact import evaluate
from valuelearn.dp.grid import Grid, Process, points_of
from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.objectives import Utility

_SAME = 1e-10


class Lattice(NamedTuple):
    """Equally spaced numbers."""

    low: float
    high: float
    points: int

    @property
    def step(self) -> float:
        """Their distance."""
        return (self.high - self.low) / (self.points - 1)

    def grid(self) -> Grid:
        """The same as a grid of one coordinate."""
        return Grid(np.array([self.low]), np.array([self.step]), self.points)

    def values(self) -> np.ndarray:
        """The numbers f64[points]."""
        return np.linspace(self.low, self.high, self.points)


class Laws(NamedTuple):
    """Laws of the return by state and stock, and how they came about."""

    stocks: np.ndarray  # f64[C]
    returns: np.ndarray  # f64[N]
    probabilities: np.ndarray  # f64[S, C, N]
    actions: np.ndarray  # i64[T, S, C]: greedy, by steps to go from 1, or T = 1 where stationary.
    value: np.ndarray  # f64[S, C]: E f(stock + return).
    sweeps: int
    moved: float
    """How far the projection of a sweep moved the mass of a law, on average over it, at most."""
    clipped: float
    """The most mass of a law that a sweep found beyond the grid of returns."""


class _Tables(NamedTuple):
    """What each distinct reward does to stocks and returns."""

    number: jax.Array  # i64[R, C, 2]: the stocks around that which follows.
    weight: jax.Array  # f64[R, C, 2]
    share: jax.Array  # f64[R, N, N]: of a return's mass, where it goes.
    worth: jax.Array  # f64[R, C, N]: E f(stock + .) of that.
    mean: jax.Array  # f64[R, N]
    moved: jax.Array  # f64[R, N]: how far a return's mass goes to the grid, on average over it.
    clipped: jax.Array  # f64[R, N]: 1 where the return lies beyond the grid.
    utility: jax.Array  # f64[C, N]


def value_iteration(
    mdp: MDP,
    utility: Utility,
    stocks: Lattice,
    returns: Lattice,
    tolerance: float = 1e-9,
    max_sweeps: int = 10_000,
) -> Laws:
    """Laws under greedy choices: for the horizon, or until a sweep moves none by `tolerance` in W1.

    Raises:
        MDPError: for vector rewards, for utilities that are not of a scalar of degree one, or where
            `max_sweeps` do not converge.
    """
    process, tables = _prepared(mdp, utility, stocks, returns)
    with jax.enable_x64(True):
        laws = _certain(len(mdp.probability), stocks, returns)
        steps: list[_Greedy] = []
        change = math.inf
        while len(steps) < (max_sweeps if mdp.horizon is None else mdp.horizon):
            steps.append(_greedy(process, tables, laws))
            laws, moved = _step(process, tables, laws, steps[-1].actions)
            change = float(moved) * returns.step
            if mdp.horizon is None and change <= tolerance * (1 - mdp.gamma):
                break
        if mdp.horizon is None and change > tolerance * (1 - mdp.gamma):
            raise MDPError(f"laws still move by {change:.3g} after {max_sweeps} sweeps")
        kept = steps if mdp.horizon is not None else steps[-1:]
        return _described(tables, laws, kept, len(steps), stocks, returns)


def policy_iteration(
    mdp: MDP,
    utility: Utility,
    stocks: Lattice,
    returns: Lattice,
    actions: np.ndarray,
    tolerance: float = 1e-12,
    max_sweeps: int = 10_000,
) -> list[Laws]:
    """Laws of each policy from `actions` i64[S, C] on to one that is greedy for its own laws.

    Raises:
        MDPError: as `value_iteration` does, and for a process with a horizon.
    """
    if mdp.horizon is not None:
        raise MDPError("policy iteration is of stationary policies; give no horizon")
    process, tables = _prepared(mdp, utility, stocks, returns)
    history: list[Laws] = []
    with jax.enable_x64(True):
        chosen = jnp.asarray(actions)
        while True:
            laws = _certain(len(mdp.probability), stocks, returns)
            sweeps, change = 0, math.inf
            while change > tolerance * (1 - mdp.gamma):
                if sweeps == max_sweeps:
                    raise MDPError(f"laws still move by {change:.3g} after {max_sweeps} sweeps")
                laws, moved = _step(process, tables, laws, chosen)
                sweeps, change = sweeps + 1, float(moved) * returns.step
            better = _greedy(process, tables, laws, chosen)
            evaluated = better._replace(actions=chosen)
            history.append(_described(tables, laws, [evaluated], sweeps, stocks, returns))
            if (better.actions == chosen).all():
                return history
            chosen = better.actions


def _prepared(mdp: MDP, utility: Utility, stocks: Lattice, returns: Lattice) -> tuple[Process, _Tables]:
    if mdp.dimensions > 1 or utility.dimensions is not None:
        raise MDPError("laws on a grid are of scalar rewards")
    if mdp.gamma < 1 and utility.degree is None:
        raise MDPError(f"{type(utility).__name__} is not indifferent to gamma {mdp.gamma:g}")
    process = Process.of(mdp)
    with jax.enable_x64(True):
        return process, _tables(process, utility, stocks, returns)


@functools.partial(jax.jit, static_argnames=("stocks", "returns"))
def _tables(process: Process, utility: Utility, stocks: Lattice, returns: Lattice) -> _Tables:
    grid, line = stocks.grid(), returns.grid()
    number, weight = grid.corners((points_of(grid) + process.rewards[:, None]) / process.gamma)
    values = points_of(line)[:, 0]
    image = process.rewards + process.gamma * values  # [R, N]
    below, part = line.corners(image[..., None])
    share = (jax.nn.one_hot(below, returns.points, dtype=float) * part[..., None]).sum(2)
    table = evaluate(utility, (points_of(grid) + values)[..., None])  # [C, N]
    worth = jnp.einsum("rjn,cn->rcj", share, table)
    moved = (jnp.abs(values[below] - image[..., None]) * part).sum(-1)
    margin = _SAME * max(abs(returns.low), abs(returns.high))
    clipped = (image < returns.low - margin) | (image > returns.high + margin)
    return _Tables(number, weight, share, worth, share @ values, moved, clipped * 1.0, table)


@functools.partial(jax.jit, static_argnames=("states", "stocks", "returns"))
def _certain(states: int, stocks: Lattice, returns: Lattice) -> jax.Array:
    """Laws [S, C, N] of the return 0."""
    number, weight = returns.grid().corners(jnp.zeros(1))
    law = jnp.zeros(returns.points).at[number].add(weight)
    return jnp.broadcast_to(law, (states, stocks.points, returns.points))


def _ahead(tables: _Tables, laws: jax.Array, of: Callable[[jax.Array, jax.Array], Any]) -> Any:
    """`of` the laws [S, C, N] that follow each reward, and the reward's number, [R, ...]."""

    def one(index: jax.Array) -> Any:
        rows = laws[:, tables.number[index]]  # [S, C, 2, N]
        return of((rows * tables.weight[index][..., None]).sum(2), index)

    return jax.lax.map(one, jnp.arange(len(tables.share)))


def _expected(process: Process, of: jax.Array) -> jax.Array:
    """Expectation [S, A, C] of what is known [R, S, C] by the reward and the state that follow."""
    return (process.probability[..., None] * of[process.number, process.next_state]).sum(2)


class _Greedy(NamedTuple):
    """The best actions, and what a step with them loses at most in any state and stock."""

    actions: jax.Array  # i64[S, C]
    moved: jax.Array | float = 0.0
    clipped: jax.Array | float = 0.0


@jax.jit
def _greedy(process: Process, tables: _Tables, laws: jax.Array, kept: jax.Array | None = None) -> _Greedy:
    """The best actions: `kept` where it is one, then the largest mean, then the first."""

    def scores(after: jax.Array, index: jax.Array) -> tuple[jax.Array, ...]:
        per_return = tables.mean, tables.moved, tables.clipped
        return (after * tables.worth[index]).sum(-1), *(after @ table[index] for table in per_return)

    q, mean, moved, clipped = (_expected(process, of) for of in _ahead(tables, laws, scores))
    good = _near_the_top(jnp.where(process.probability.any(-1)[..., None], q, -jnp.inf))
    best = _near_the_top(jnp.where(good, mean, -jnp.inf)).argmax(1)
    if kept is not None:
        best = jnp.where(jnp.take_along_axis(good, kept[:, None], 1)[:, 0], kept, best)
    return _Greedy(best, *(jnp.take_along_axis(lost, best[:, None], 1).max() for lost in (moved, clipped)))


def _near_the_top(q: jax.Array) -> jax.Array:
    """Which actions [S, A, C] are best but for rounding."""
    top = q.max(1, keepdims=True)
    return q >= top - _SAME * (1 + jnp.abs(top))


@jax.jit
def _step(
    process: Process, tables: _Tables, laws: jax.Array, actions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Laws a step earlier, and the most that one moved, in steps of the grid of returns (W1)."""
    states = jnp.arange(len(laws))[:, None]
    number, next_state = process.number[states, actions], process.next_state[states, actions]  # [S, C, K]
    probability = process.probability[states, actions]

    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        """What comes with one of the rewards."""
        chance = jnp.where(number == index, probability, 0.0)
        mixed = jnp.zeros_like(total)
        for outcome in range(number.shape[2]):
            for corner in range(2):
                rows = laws[next_state[..., outcome], tables.number[index, :, corner]]
                mixed += (chance[..., outcome] * tables.weight[index, :, corner])[..., None] * rows
        return total + mixed @ tables.share[index]

    new = jax.lax.fori_loop(0, len(tables.share), add, jnp.zeros_like(laws))
    terminal = ~process.probability.any((1, 2))
    new = jnp.where(terminal[:, None, None], laws, new)
    return new, jnp.abs(jnp.cumsum(new - laws, -1)).sum(-1).max()


def _described(
    tables: _Tables, laws: jax.Array, steps: list[_Greedy], sweeps: int, stocks: Lattice, returns: Lattice
) -> Laws:
    return Laws(
        stocks.values(),
        returns.values(),
        np.asarray(laws),
        np.asarray([step.actions for step in steps]),
        np.asarray((laws * tables.utility).sum(-1)),
        sweeps,
        max((float(step.moved) for step in steps), default=0.0),
        max((float(step.clipped) for step in steps), default=0.0),
    )
