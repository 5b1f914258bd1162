"""Distributional value and policy iteration: a law of the return for every state and stock of a grid.

The return's law is categorical on a grid of returns, and what falls between two of them is shared so that
the mean is kept. On a lattice that rewards and 1 / gamma respect (whole rewards and gamma 1, 1/2, 1/3, ...)
no stock falls between, and values of an f that bends on the lattice alone are exact; where gamma is 1 the
laws are, too.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn import checks
from valuelearn.dp.conditions import check_on_laws
from valuelearn.dp.exact import choose, evaluate
from valuelearn.dp.grid import Grid, Process, points_of
from valuelearn.dp.laws import rounding
from valuelearn.dp.mdp import MDP, MDPError, exist, settled
from valuelearn.objectives import Utility
from valuelearn.types import Array

_BLOCK = 8  # Returns that are read at once.


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
        """The same as a grid of one coordinate.

        Raises:
            MDPError: where these are no two numbers or more, in their order.
        """
        checks.count("points", self.points, 2, error=MDPError)
        for name, end in (("low", self.low), ("high", self.high)):
            checks.number(name, end, "a finite number", math.isfinite, MDPError)
        if not self.low < self.high:
            raise MDPError(f"low {self.low:g} was given, less than high {self.high:g} is wanted")
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
    """What each distinct reward does to stocks and returns.

    Laws lie [C, S, L], as a step reads the laws of few stocks for each; L is N and zeros on both sides, so
    that reading _BLOCK returns from any that lies less than a block before the first stays within a law.
    """

    number: Array  # i64[R, C, 2]: the stocks around that which follows.
    weight: Array  # f64[R, C, 2]
    first: Array  # i64[R, L / _BLOCK]: the place in a law from which on a block gets its mass.
    share: Array  # f64[R, L / _BLOCK, E, _BLOCK]: what [b] of a block gets of [first + e + b].
    beyond: Array | None  # f64[2, L, R]: 1 where a return goes below or above the grid, if any does.
    ends: Array  # f64[2, L / _BLOCK, _BLOCK]: 1 at the least and at the largest return.
    source: Array  # i64[V]: the stock whose laws are scored.
    score: Array  # f64[V, M, L]
    row: Array  # i64[R, C, 2]: in V, where the stocks around were scored.
    column: Array  # i64[R, 4, C, 2]: in M, their E f, mean, mass times way moved, and mass beyond.
    utility: Array  # f64[C, L]: E f(stock + .).
    nothing: Array  # f64[L]: the law of the return 0.


def value_iteration(
    mdp: MDP,
    utility: Utility,
    stocks: Lattice,
    returns: Lattice,
    tolerance: float = 1e-9,
    max_sweeps: int = 10_000,
) -> Laws:
    """Laws under greedy choices: for the horizon, or until none has more than `tolerance` to move in W1.

    Where gamma is 1 without a horizon, until a sweep moves none by a thousandth of it.

    Raises:
        MDPError: for rewards or stocks that are vectors, for a utility of no degree where gamma is below 1,
            for a discontinuous one without a horizon, or where `max_sweeps` do not converge.
    """
    process, tables = _prepared(mdp, utility, stocks, returns)
    limit = tolerance * settled(mdp) / returns.step
    with jax.enable_x64(True):
        laws, before = (_certain(tables, len(mdp.probability)) for _ in range(2))
        steps: list[_Greedy] = []
        while len(steps) < (max_sweeps if mdp.horizon is None else mdp.horizon):
            steps.append(_greedy(process, tables, laws))
            before, laws = laws, _step(process, tables, laws, before, steps[-1].actions)
            if mdp.horizon is None and _change(laws, before, limit) <= limit:
                break
        else:
            if mdp.horizon is None:
                raise _still_moving(laws, before, returns, max_sweeps)
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
        MDPError: as `value_iteration` does, for a process with a horizon, and for actions that do not exist.
    """
    if mdp.horizon is not None:
        raise MDPError("policy iteration is of stationary policies; give no horizon")
    process, tables = _prepared(mdp, utility, stocks, returns)
    shape = len(mdp.probability), stocks.points
    actions = checks.array("actions", actions, *shape, kind=np.integer, error=MDPError)
    missing = ~exist(mdp.legal, np.arange(shape[0])[:, None], actions) & ~mdp.terminal[:, None]
    if missing.any():
        raise MDPError(
            f"state {missing.any(1).argmax()}: an action that does not exist was given; a legal one is wanted"
        )
    limit = tolerance * settled(mdp) / returns.step
    history: list[Laws] = []
    with jax.enable_x64(True):
        chosen = jnp.asarray(actions)
        while True:
            laws, before = (_certain(tables, len(mdp.probability)) for _ in range(2))
            sweeps, still = 0, False
            while not still:
                if sweeps == max_sweeps:
                    raise _still_moving(laws, before, returns, max_sweeps)
                before, laws = laws, _step(process, tables, laws, before, chosen)
                sweeps, still = sweeps + 1, bool(_change(laws, before, limit) <= limit)
            better = _greedy(process, tables, laws, chosen)
            evaluated = better._replace(actions=chosen)
            history.append(_described(tables, laws, [evaluated], sweeps, stocks, returns))
            if (better.actions == chosen).all():
                return history
            chosen = better.actions


def _still_moving(laws: jax.Array, before: jax.Array, returns: Lattice, sweeps: int) -> MDPError:
    change = float(_change(laws, before, math.inf)) * returns.step
    return MDPError(f"laws still move by {change:.3g} after {sweeps} sweeps")


def _prepared(mdp: MDP, utility: Utility, stocks: Lattice, returns: Lattice) -> tuple[Process, _Tables]:
    check_on_laws(mdp, utility)
    process = Process.of(mdp)
    with jax.enable_x64(True):
        return process, _tables(process, utility, stocks, returns)


def _tables(process: Process, utility: Utility, stocks: Lattice, returns: Lattice) -> _Tables:
    grid, line, count = stocks.grid(), returns.grid(), returns.points
    points, values = np.asarray(points_of(grid))[:, 0], np.asarray(points_of(line))[:, 0]
    rewards, gamma = np.asarray(process.rewards), float(process.gamma)
    blocks = 1 + math.ceil((count + _BLOCK - 1) / _BLOCK)

    def padded(table: np.ndarray) -> np.ndarray:
        """A table [..., N] as [..., L]."""
        ends = (_BLOCK, (blocks - 1) * _BLOCK - count)
        return np.pad(table, [(0, 0)] * (table.ndim - 1) + [ends])

    number, weight = grid.corners(((points + rewards) / gamma)[..., None])
    image = rewards + gamma * values  # [R, N]
    below, part = line.corners(image[..., None])
    margin = rounding(max(abs(returns.low), abs(returns.high)))
    beyond = np.stack([image < returns.low - margin, image > returns.high + margin])  # [2, R, N]
    outside = np.asarray(beyond.any(0))
    first, share = _shares(below, np.where(outside[..., None], 0.0, part), blocks)
    table = np.asarray(evaluate(utility, jnp.asarray(points[:, None] + values)[..., None]))  # [C, N]
    worth = (table[:, below] * part).sum(-1).swapaxes(0, 1)  # [R, C, N]
    moved = (np.abs(values[below] - image[..., None]) * part).sum(-1)
    others = np.stack([(values[below] * part).sum(-1), moved, outside])
    source, score, row, column = _scores(number, weight, padded(worth), padded(others))
    at_zero, chance = line.corners(np.zeros(1))
    tables = _Tables(
        number=number,
        weight=weight,
        first=first,
        share=share,
        beyond=padded(beyond * 1.0).swapaxes(1, 2) if beyond.any() else None,
        ends=padded(np.eye(count)[[0, -1]]).reshape(2, blocks, _BLOCK),
        source=source,
        score=score,
        row=row,
        column=column,
        utility=padded(table),
        nothing=padded(chance @ np.eye(count)[at_zero]),
    )
    return jax.tree.map(jnp.asarray, tables)


def _shares(below: np.ndarray, part: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """`first` and `share` of the tables for what returns [R, N] give to the two [R, N, 2] from `below`.

    Neighbours get from neighbours, or nearly so where gamma is below 1: near 1, E is 2 or 3.
    """
    reward, source, corner = np.nonzero(part)
    block, place = np.divmod(_BLOCK + below[reward, source, corner], _BLOCK)
    start = _BLOCK + source - place
    first = np.full((len(part), blocks), blocks * _BLOCK)
    np.minimum.at(first, (reward, block), start)
    ahead = (start - first[reward, block]).max(initial=0) + 1
    first = np.minimum(first, (blocks - 1) * _BLOCK - ahead + 1)
    share = np.zeros((*first.shape, ahead, _BLOCK))
    share[reward, block, start - first[reward, block], place] = part[reward, source, corner]
    return first, share


def _scores(
    number: np.ndarray, weight: np.ndarray, worth: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`source`, `score`, `row` and `column` of the tables for E f [R, C, L] and what has no stock [3, R, L].

    Scoring laws before they are mixed is one product for each stock. As stocks grow by 1 / gamma, at most 2 R
    mix in the laws of one, but for the ends of the grid: these are scored as often as it takes.
    """
    rewards = len(worth)
    reward, stock, corner = np.nonzero(weight)
    near = number[reward, stock, corner]
    order = np.argsort(near, kind="stable")
    reward, stock, corner, near = (index[order] for index in (reward, stock, corner, near))
    turn, place = np.divmod(np.arange(len(near)) - np.searchsorted(near, near), 2 * rewards)
    (source, _), at = np.unique(np.stack([near, turn]), axis=1, return_inverse=True)
    score = np.zeros((len(source), 5 * rewards, worth.shape[-1]))
    score[at, place] = worth[reward, stock]
    score[:, 2 * rewards :] = others.reshape(3 * rewards, -1)
    row, column = np.zeros_like(number), np.zeros((rewards, 4, *number.shape[1:]), int)
    row[reward, stock, corner] = at
    column[reward, 0, stock, corner] = place
    column[:, 1:] = np.arange(2 * rewards, 5 * rewards).reshape(3, rewards).T[..., None, None]
    return source, score, row, column


@functools.partial(jax.jit, static_argnames="states")
def _certain(tables: _Tables, states: int) -> jax.Array:
    """Laws [C, S, L] of the return 0."""
    return jnp.broadcast_to(tables.nothing, (len(tables.utility), states, len(tables.nothing)))


class _Greedy(NamedTuple):
    """The best actions, and what a step with them loses at most in any state and stock."""

    actions: jax.Array  # i64[S, C]
    moved: jax.Array | float = 0.0
    clipped: jax.Array | float = 0.0


@jax.jit
def _greedy(process: Process, tables: _Tables, laws: jax.Array, kept: jax.Array | None = None) -> _Greedy:
    """The best actions: `kept` where it is one, then the largest mean, then the first."""
    scores = jax.lax.map(lambda of: of[1] @ laws[of[0]].T, (tables.source, tables.score))  # [V, M, S]

    def mixed(of: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        row, column, weight = of
        return sum(weight[:, at, None] * scores[row[:, at], column[..., at]] for at in range(2))

    # Loops keep XLA from mixing, and turning about, one number at a time and for each use anew.
    after = jax.lax.map(mixed, (tables.row, tables.column, tables.weight)).swapaxes(2, 3)  # [R, 4, S, C]

    def term(probability: jax.Array, next_state: jax.Array, number: jax.Array) -> jax.Array:
        return probability[..., None, None] * after[number, :, next_state]

    expected = _summed(process, term, (*process.number.shape[:2], 4, len(laws)), 1)
    q, mean, moved, clipped = jnp.moveaxis(expected, 2, 0)
    best, good = choose(jnp.where(process.probability.any(-1)[..., None], q, -jnp.inf), mean)
    if kept is not None:
        best = jnp.where(jnp.take_along_axis(good, kept[:, None], 1)[:, 0], kept, best)
    return _Greedy(best, *(jnp.take_along_axis(lost, best[:, None], 1).max() for lost in (moved, clipped)))


def _summed(
    process: Process, term: Callable[..., jax.Array], shape: tuple[int, ...], at_once: int
) -> jax.Array:
    """The sum of a term over the outcomes of a process, so many in a pass."""

    def add(total: jax.Array, outcome: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        return total + term(*outcome), None

    outcomes = process.probability, process.next_state, process.number
    by_outcome = tuple(jnp.moveaxis(of, -1, 0) for of in outcomes)
    return jax.lax.scan(add, jnp.zeros(shape), by_outcome, unroll=at_once)[0]


# Laws are written over those before the last: new memory takes half as long as the step does.
@functools.partial(jax.jit, donate_argnames="spare", keep_unused=True)
def _step(
    process: Process, tables: _Tables, laws: jax.Array, spare: jax.Array, actions: jax.Array
) -> jax.Array:
    """Laws a step earlier."""
    chosen = jnp.arange(laws.shape[1]), actions.T
    stocks = jnp.arange(len(laws))[:, None]
    window = jax.lax.GatherDimensionNumbers((3,), (0, 1), (0, 1, 2))
    lost = None if tables.beyond is None else [laws @ side for side in tables.beyond]  # Of [C, S, R].

    def term(probability: jax.Array, next_state: jax.Array, number: jax.Array) -> jax.Array:
        new: Array = 0.0  # [C, S, L / _BLOCK, _BLOCK]
        for corner in range(2):
            stock = tables.number[number, stocks, corner]
            mass: Array = 0.0
            for ahead in range(tables.share.shape[2]):
                place = tables.first[number] + ahead
                start = jnp.stack(jnp.broadcast_arrays(stock[..., None], next_state[..., None], place), -1)
                block = jax.lax.gather(laws, start, window, (1, 1, _BLOCK), mode="promise_in_bounds")
                mass += block * tables.share[number, :, ahead]
            if lost is not None:
                for side, end in zip(lost, tables.ends, strict=True):
                    mass += side[stock, next_state, number][..., None, None] * end
            new += (probability * tables.weight[number, stocks, corner])[..., None, None] * mass
        return new

    following = process._replace(  # [C, S, K]
        probability=process.probability[chosen],
        next_state=process.next_state[chosen],
        number=process.number[chosen],
    )
    # Two at once: each pass goes over all laws, and more are slow to compile.
    new = _summed(following, term, (*laws.shape[:2], *tables.ends.shape[1:]), 2)
    terminal = ~process.probability.any((1, 2))
    return jnp.where(terminal[:, None], tables.nothing, new.reshape(laws.shape))


@jax.jit
def _change(laws: jax.Array, before: jax.Array, enough: float) -> jax.Array:
    """The most that a law moved, in steps of the grid of returns (W1), or the first found above `enough`."""

    def go_on(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        return (carry[0] < len(laws)) & (carry[1] <= enough)

    def look(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        stock, most = carry
        moved = jnp.abs(jnp.cumsum(laws[stock] - before[stock], -1)).sum(-1)
        return stock + 1, jnp.maximum(most, moved.max())

    return jax.lax.while_loop(go_on, look, (jnp.array(0), jnp.array(0.0)))[1]


def _described(
    tables: _Tables, laws: jax.Array, steps: list[_Greedy], sweeps: int, stocks: Lattice, returns: Lattice
) -> Laws:
    return Laws(
        stocks.values(),
        returns.values(),
        np.asarray(laws)[..., _BLOCK : _BLOCK + returns.points].swapaxes(0, 1),
        np.asarray([step.actions for step in steps]),
        np.asarray(jnp.einsum("csl,cl->sc", laws, tables.utility)),
        sweeps,
        max((float(step.moved) for step in steps), default=0.0),
        max((float(step.clipped) for step in steps), default=0.0),
    )
