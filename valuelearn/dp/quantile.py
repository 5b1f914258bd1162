"""Distributional value iteration on quantiles: N returns, equally likely, by state and stock of a grid.

It takes no grid of returns. An event rarer than 1 / 2 N is lost in a step back, so an answer is what the
executed policy obtains, not what its quantiles promise.
"""

import functools
import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn import checks
from valuelearn.dp.categorical import Lattice
from valuelearn.dp.conditions import check_finite, check_on_laws, utility_of
from valuelearn.dp.exact import choose
from valuelearn.dp.grid import Process
from valuelearn.dp.interface import Solution, numbers
from valuelearn.dp.laws import SAME, Law, execute
from valuelearn.dp.mdp import MDP, MDPError, settled
from valuelearn.dp.outer import from_the_best_stock
from valuelearn.objectives import Objective, Outer, Utility
from valuelearn.projections import quantile_midpoints

_CELLS = 1_000_000  # Of returns at a time: 8 MB a copy.
_MOST_BYTES = 4 * 2**30


class Laws(NamedTuple):
    """Laws of the return by state and stock, as quantiles at (2 i + 1) / 2 N, and what is best for them."""

    stocks: np.ndarray  # f64[C]
    returns: np.ndarray  # f64[S, C, N]: ascending.
    ahead: list[np.ndarray]  # [T] of f64[S, C, N]: what `actions` look ahead to.
    actions: np.ndarray  # i64[T, S, C]: greedy, by steps to go from 1, or T = 1 where stationary.
    value: np.ndarray  # f64[S, C]: E f(stock + return).
    sweeps: int


def by_quantiles(
    mdp: MDP,
    objective: Objective,
    stocks: Lattice,
    quantiles: int = 200,
    stock: float | None = None,
    start: int | None = None,
) -> Solution:
    """What the policy obtains that is greedy for laws of so many quantiles; no bound of its gap is known.

    What follows with a stock beyond the grid is read at the nearest of it. Without a `stock` a utility
    starts from 0, and an outer objective from the stock that serves it best.

    Raises:
        MDPError: as `value_iteration` does, and for a stock that is not finite.
    """
    utility, outer = utility_of(objective), cast(Outer, objective)
    check_on_laws(mdp, utility)
    planner = OnQuantiles(mdp, stocks, quantiles, start)
    if utility is not objective and stock is None:
        return from_the_best_stock(planner, outer)
    if stock is not None:
        checks.number("stock", stock, error=MDPError)
    given = float(stock or 0)
    if not math.isfinite(given):
        raise MDPError(f"stock {stock} was given, a finite number is wanted")
    _, first = planner.values(utility, np.array([[given]]))
    law, _ = planner.best(utility, np.array([given]))
    value = law.score(utility, given)
    check_finite(utility, np.array(value))
    if utility is not objective:
        value = outer.scale * value - outer.weights[0] * given
    return Solution(value, given, numbers(first), law, math.nan)


def value_iteration(
    mdp: MDP,
    utility: Utility,
    stocks: Lattice,
    quantiles: int,
    tolerance: float = 1e-9,
    max_sweeps: int = 10_000,
) -> Laws:
    """Laws under greedy choices: for the horizon, or until no quantile moves by `tolerance` * (1 - gamma).

    Where gamma is 1 without a horizon, by a thousandth of it.

    Raises:
        MDPError: for rewards or stocks that are vectors, for a utility of no degree where gamma is below 1,
            for a discontinuous one without a horizon, for no quantiles or more than fit in memory, or where
            `max_sweeps` do not converge.
    """
    check_on_laws(mdp, utility)
    checks.count("quantiles", quantiles, None, error=MDPError)
    if quantiles < 1:
        raise MDPError(f"{quantiles} quantiles were asked for, at least 1 is wanted")
    states, process = len(mdp.probability), Process.of(mdp)
    if (size := 8 * ((mdp.horizon or 1) + 1) * states * stocks.points * quantiles) > _MOST_BYTES:
        raise MDPError(
            f"laws take {size / 2**30:.1f} GiB, at most {_MOST_BYTES / 2**30:.0f} are had; give fewer "
            "stocks or quantiles"
        )
    pairs = np.repeat(np.arange(states), stocks.points), np.tile(stocks.values(), states)
    sweeps, change, limit = 0, math.inf, tolerance * settled(mdp)
    steps: list[tuple[np.ndarray, np.ndarray]] = []
    with jax.enable_x64(True):
        laws = jnp.zeros((states, stocks.points, quantiles))
        while sweeps < (max_sweeps if mdp.horizon is None else mdp.horizon):
            q, mean = map(np.asarray, _scores(process, utility, stocks, laws, *pairs))
            actions = choose(q, mean)[0].reshape(states, stocks.points)
            steps = [*(steps if mdp.horizon is not None else []), (np.asarray(laws), actions)]
            laws = backup(process, stocks, laws, actions)
            sweeps, change = sweeps + 1, float(jnp.abs(laws - steps[-1][0]).max())
            if mdp.horizon is None and change <= limit:
                break
        else:
            if mdp.horizon is None:
                raise MDPError(f"laws still move by {change:.3g} after {max_sweeps} sweeps")
        value = utility(jnp.asarray(stocks.values())[:, None] + laws).mean(-1)
    return Laws(
        stocks.values(),
        np.asarray(laws),
        [ahead for ahead, _ in steps],
        np.array([actions for _, actions in steps]),
        np.asarray(value),
        sweeps,
    )


@functools.partial(jax.jit, static_argnames="stocks")
def backup(process: Process, stocks: Lattice, laws: jax.Array, actions: jax.Array) -> jax.Array:
    """Quantiles [S, C, N] a step before `laws` [S, C, N] under actions [S, C]; terminal states keep theirs.

    Of a fixed policy a contraction by gamma in W-infinity (Dabney et al., 2018, proposition 2).
    """
    levels = quantile_midpoints(laws.shape[-1])

    def one(pair: tuple[Any, Any, Any]) -> jax.Array:
        returns, chance = _law(process, stocks, laws, *pair)
        chances = jnp.broadcast_to(chance[..., None], returns.shape)
        ordered, chances = jax.lax.sort((returns.ravel(), chances.ravel()), num_keys=1)
        below = jnp.cumsum(chances)
        # All between the two returns beside a level are as near in W1; the lower would lose a little mean
        # in every step back.
        first = jnp.searchsorted(below, levels - SAME)
        last = jnp.searchsorted(below, levels + SAME, "right")
        return (ordered[first] + ordered[last]) / 2

    states, values = jnp.arange(len(laws))[:, None], jnp.asarray(stocks.values())
    pairs = [part.ravel() for part in jnp.broadcast_arrays(states, values, actions)]
    new = jax.lax.map(one, (pairs[0], pairs[1], pairs[2]), batch_size=_batch(process, laws, 1))
    terminal = ~process.probability.any((1, 2))
    return jnp.where(terminal[:, None, None], laws, new.reshape(laws.shape))


def _law(process: Process, stocks: Lattice, laws: jax.Array, state: Any, stock: Any, action: Any) -> tuple:
    """Returns [K, 2, N] that an action leads to, and the chance [K, 2] of each of N of them.

    Between two stocks lies the mixture of their laws: that of their quantiles would be no policy's law.
    """
    reward = process.rewards[process.number[state, action], 0]
    number, weight = stocks.grid().corners((stock + reward)[:, None] / process.gamma)
    after = laws[process.next_state[state, action][:, None], number]
    chance = process.probability[state, action][:, None] * weight / laws.shape[-1]
    return reward[:, None, None] + process.gamma * after, chance


def _batch(process: Process, laws: jax.Array, actions: int) -> int:
    """Pairs of state and stock at a time."""
    return max(_CELLS // (2 * actions * process.number.shape[2] * laws.shape[-1]), 1)


@functools.partial(jax.jit, static_argnames="stocks")
def _scores(
    process: Process, utility: Utility, stocks: Lattice, laws: Any, states: Any, at: Any
) -> tuple[jax.Array, jax.Array]:
    """E f(stock + return) and the mean return [n, A] of actions in states [n] with stocks `at` [n]."""
    legal = process.probability.any(-1)

    def one(pair: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
        state, stock = pair

        def score(action: jax.Array) -> tuple[jax.Array, jax.Array]:
            returns, chance = _law(process, stocks, laws, state, stock, action)
            return (utility(stock + returns).sum(-1) * chance).sum(), (returns.sum(-1) * chance).sum()

        q, mean = jax.vmap(score)(jnp.arange(legal.shape[1]))
        return jnp.where(legal[state], q, -jnp.inf), mean

    return jax.lax.map(one, (states, at), batch_size=_batch(process, laws, legal.shape[1]))


class OnQuantiles:
    """The best policies from one state by quantile laws on a grid of stocks."""

    spacing: float

    def __init__(self, mdp: MDP, stocks: Lattice, quantiles: int, start: int | None = None) -> None:
        """Keep the states that can be reached."""
        stocks.grid()  # Refuses what is no lattice.
        self.mdp = mdp.reachable(mdp.state(start))
        self.stocks, self.quantiles, self.spacing = stocks, quantiles, stocks.step
        self._process = Process.of(self.mdp)
        self._solved: dict[Utility, Laws] = {}

    @property
    def returns(self) -> np.ndarray:
        """Less the stocks of the grid, [C, 1]."""
        return -self.stocks.values()[::-1, None]

    def error(self, utility: Utility) -> float:
        """No bound on how far values may be off that is of use."""
        return math.nan

    def values(self, utility: Utility, stocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What can be had [C] from stocks [C, 1], and which first actions bool[C, A] attain it."""
        if self.mdp.terminal[self.mdp.start] or self.mdp.horizon == 0:
            return utility(stocks[:, 0]), np.zeros((len(stocks), self.mdp.legal.shape[1]), bool)
        q, mean = self._look_ahead(utility, 0, np.full(len(stocks), self.mdp.start), stocks)
        return q.max(1), choose(q, mean)[1]

    def best(self, utility: Utility, stock: np.ndarray) -> tuple[Law, int]:
        """The exact law of the return under what is best from a stock [1], and the first action."""

        def policy(time: int, states: np.ndarray, stocks: np.ndarray) -> np.ndarray:
            q, mean = self._look_ahead(utility, time, states, stocks)
            return choose(q, mean)[0]

        law = execute(self.mdp, policy, stock=stock)
        if self.mdp.terminal[self.mdp.start] or self.mdp.horizon == 0:
            return law, 0
        return law, int(policy(0, np.array([self.mdp.start]), stock[None])[0])

    def _look_ahead(
        self, utility: Utility, time: int, states: np.ndarray, stocks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and means [n, A] of actions in states [n], a step ahead from the true stocks [n, 1]."""
        if utility not in self._solved:
            self._solved[utility] = value_iteration(self.mdp, utility, self.stocks, self.quantiles)
        ahead = self._solved[utility].ahead
        count = len(states)
        size = 1 << (count - 1).bit_length()  # Few lengths, that few be compiled.
        padded = np.resize(states, size), np.resize(stocks[:, 0], size)
        with jax.enable_x64(True):
            laws = ahead[max(len(ahead) - 1 - time, 0)]
            q, mean = _scores(self._process, utility, self.stocks, laws, *padded)
        return np.asarray(q)[:count], np.asarray(mean)[:count]
