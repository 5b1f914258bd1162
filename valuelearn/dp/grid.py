"""Optima from values on a grid of stocks, for processes too large or too long to unroll.

The values are scalars in a dense form (rewards f(c + r) - f(c)), not laws; the policy looks one step
ahead from its true stock, and its return's law is exact.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn import checks
from valuelearn.dp.exact import best_of, evaluate
from valuelearn.dp.laws import Law, execute
from valuelearn.dp.mdp import MDP, MDPError, bound, settled
from valuelearn.objectives import Utility

_MOST_BYTES = 4 * 2**30
_LINEAR_TOLERANCE = 1e-12  # Of the range of returns: two stocks are enough, so sweeps cost little.


class Process(NamedTuple):
    """An MDP with its distinct rewards by number."""

    probability: jax.Array  # f64[S, A, K]
    next_state: jax.Array  # i64[S, A, K]
    number: jax.Array  # i64[S, A, K]: of the reward.
    rewards: jax.Array  # f64[R, m]
    gamma: jax.Array  # f64[]

    @classmethod
    def of(cls, mdp: MDP) -> "Process":
        """The process as arrays of JAX."""
        rewards, number = np.unique(mdp.reward.reshape(-1, mdp.dimensions), axis=0, return_inverse=True)
        arrays = mdp.probability, mdp.next_state, number.reshape(mdp.next_state.shape), rewards, mdp.gamma
        with jax.enable_x64(True):
            return cls(*map(jnp.asarray, arrays))


class Grid(NamedTuple):
    """Stocks at equal distances, C = size^m of them in all."""

    low: np.ndarray  # f64[m]
    step: np.ndarray  # f64[m]
    size: int  # A coordinate.

    def corners(self, x: Any) -> tuple[Any, Any]:
        """Of stocks [..., m], moved into the grid, the numbers and weights [..., 2^m] of those around."""
        xp = x.__array_namespace__()
        place = xp.clip((x - self.low) / self.step, 0.0, self.size - 1.0)
        below = xp.clip(xp.floor(place), 0.0, self.size - 2.0)
        part = place - below
        numbers, weights = [], []
        for corner in itertools.product((0, 1), repeat=len(self.low)):
            number, weight = 0.0, 1.0
            for axis, above in enumerate(corner):
                number = number * self.size + below[..., axis] + above
                weight = weight * (part[..., axis] if above else 1 - part[..., axis])
            numbers.append(number)
            weights.append(weight)
        return xp.stack(numbers, axis=-1).astype(int), xp.stack(weights, axis=-1)


def range_of_returns(mdp: MDP, tolerance: float = 1e-9) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest return [m] that any outcome of any policy gives from any state, and with a
    horizon from any step.

    Raises:
        MDPError: where there is no horizon, gamma is 1 and returns are not bounded.
    """
    real = (mdp.probability > 0)[..., None]
    ends = []
    for sign in (-1, 1):
        most = np.zeros((len(mdp.probability), mdp.dimensions))
        furthest = np.zeros(mdp.dimensions)  # With however many steps to go.
        sweeps = mdp.horizon if mdp.horizon is not None else _sweeps(mdp, tolerance)
        for _ in range(sweeps):
            ahead = np.where(real, sign * mdp.reward + mdp.gamma * most[mdp.next_state], -np.inf)
            new = np.where(mdp.terminal[:, None], 0, ahead.max((1, 2)))
            if (new == most).all():
                break
            most, furthest = new, np.maximum(furthest, new.max(0))
        else:
            if mdp.horizon is None and mdp.gamma == 1:
                raise MDPError("returns have no bound without a horizon where gamma is 1; give either")
        ends.append(sign * (most.max(0) if mdp.horizon is None else furthest))
    # What is still to come after the last sweep.
    slack = bound(mdp) * mdp.gamma**sweeps if mdp.gamma < 1 and mdp.horizon is None else 0.0
    return np.minimum(ends[0], 0) - slack, np.maximum(ends[1], 0) + slack


def range_of_obtained(mdp: MDP, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest discounted reward [m] that is obtained from the start within so many steps.

    An episode can lose later what it has obtained, so the range of returns need not hold it.
    """
    real = mdp.probability > 0
    state, *_ = np.nonzero(real)
    ends = []
    for sign in (-1, 1):
        furthest = np.zeros(mdp.dimensions)
        most = np.full((len(real), mdp.dimensions), -np.inf)  # Where each state cannot be reached yet.
        most[mdp.start] = 0
        for time in range(steps):
            after = most[state] + sign * mdp.gamma**time * mdp.reward[real]
            most = np.full_like(most, -np.inf)
            np.maximum.at(most, mdp.next_state[real], after)
            furthest = np.maximum(furthest, most.max(0))
        ends.append(sign * furthest)
    return ends[0], ends[1]


def _sweeps(mdp: MDP, tolerance: float) -> int:
    """Steps after which no more than `tolerance` of return can come; S where gamma is 1."""
    if mdp.gamma == 1:
        return len(mdp.probability)
    return max(int(np.ceil(np.log(tolerance / max(bound(mdp), tolerance)) / np.log(mdp.gamma))), 1)


def _sweep(process: Process, gain: jax.Array, factor: Any, place: tuple, h: jax.Array) -> jax.Array:
    """One step of dynamic programming on h [S, C]; gain [R, C], place the stocks that follow."""
    number, weight = place  # Both [R, C, J].
    ahead = (weight * h[:, number]).sum(-1)  # [S, R, C]
    outcome = gain[process.number] + factor * ahead[process.next_state, process.number]  # [S, A, K, C]
    q = (process.probability[..., None] * outcome).sum(2)
    legal = process.probability.any(-1)
    best = jnp.where(legal[..., None], q, -jnp.inf).max(1)
    return jnp.where(legal.any(-1)[:, None], best, 0.0)


@functools.partial(jax.jit, static_argnames="count")
def stationary(
    process: Process, low: Any, step: Any, count: int, utility: Utility, tolerance: Any
) -> jax.Array:
    """h [S, C] for a utility of degree one, gamma below 1 or every episode ending: its fixed point."""
    gain, place = _by_stock(process, Grid(low, step, count), utility)

    def go_on(carry: tuple) -> jax.Array:
        return carry[1] > tolerance

    def sweep(carry: tuple) -> tuple:
        new = _sweep(process, gain, process.gamma, place, carry[0])
        return new, jnp.abs(new - carry[0]).max()

    start = jnp.zeros((len(process.probability), gain.shape[1]))
    return jax.lax.while_loop(go_on, sweep, (start, jnp.inf))[0]


@functools.partial(jax.jit, static_argnames=("count", "sweeps"))
def by_steps(process: Process, low: Any, step: Any, count: int, utility: Utility, sweeps: int) -> jax.Array:
    """h [sweeps, S, C] for a utility of degree one, by steps to go, from 0."""
    gain, place = _by_stock(process, Grid(low, step, count), utility)

    def sweep(h: jax.Array, _: None) -> tuple:
        return _sweep(process, gain, process.gamma, place, h), h

    return jax.lax.scan(sweep, jnp.zeros((len(process.probability), gain.shape[1])), length=sweeps)[1]


@functools.partial(jax.jit, static_argnames=("count", "sweeps"))
def by_time(process: Process, low: Any, step: Any, count: int, utility: Utility, sweeps: int) -> jax.Array:
    """h [sweeps, S, C] for any utility, by steps to go, on what is obtained in all."""
    grid = Grid(low, step, count)
    stocks = points_of(grid)

    def sweep(h: jax.Array, time: jax.Array) -> tuple:
        after = stocks + process.gamma**time * process.rewards[:, None]  # [R, C, m]
        gain = evaluate(utility, after) - evaluate(utility, stocks)
        return _sweep(process, gain, 1.0, grid.corners(after), h), h

    start = jnp.zeros((len(process.probability), len(stocks)))
    return jax.lax.scan(sweep, start, jnp.arange(sweeps - 1, -1, -1))[1]


def _by_stock(process: Process, grid: Grid, utility: Utility) -> tuple[jax.Array, tuple]:
    """Gains [R, C] and the places of the stocks that follow (c + r) / gamma."""
    stocks = points_of(grid)
    after = stocks + process.rewards[:, None]  # [R, C, m]
    return evaluate(utility, after) - evaluate(utility, stocks), grid.corners(after / process.gamma)


def points_of(grid: Grid) -> jax.Array:
    """Every stock f64[C, m] of a grid whose ends may be traced."""
    axes = jnp.meshgrid(
        *(grid.low[axis] + grid.step[axis] * jnp.arange(grid.size) for axis in range(len(grid.low))),
        indexing="ij",
    )
    return jnp.stack([axis.ravel() for axis in axes], -1)


class OnGrid:
    """The best policies from one state by values on about `points` stocks.

    Where f is of degree one the stocks are c, and values are stationary or by steps to go. Otherwise, and
    for norms where there is a horizon, the grid is of what has been obtained, c0 + sum gamma^k r, which keeps
    bounds, and values are by time.
    """

    def __init__(
        self, mdp: MDP, start: int | None = None, points: int = 2001, tolerance: float = 1e-6
    ) -> None:
        """Number the rewards and find the range of returns; `tolerance` is a share of it.

        Raises:
            MDPError: where returns have no bound, or for fewer than two points.
        """
        checks.count("points", points, 2, error=MDPError)
        self.mdp = mdp = mdp.reachable(mdp.state(start))
        self.start, self.points, self.tolerance = mdp.start, points, tolerance
        self.low, self.high = range_of_returns(mdp)
        self._process = Process.of(mdp)
        self._solved: dict[tuple, tuple[Grid, np.ndarray]] = {}

    @property
    def returns(self) -> np.ndarray:
        """Returns [points, m] from the least to the largest."""
        return np.linspace(self.low, self.high, self.points)

    @property
    def spacing(self) -> float:
        """The distance of neighbouring returns."""
        return self._width / (self.points - 1)

    @property
    def _width(self) -> float:
        """Of the range of returns, at the widest."""
        return float((self.high - self.low).max())

    def _of_stocks(self, utility: Utility) -> bool:
        """Whether the grid is of stocks."""
        return utility.degree == 1 and (utility.dimensions != -1 or self.mdp.horizon is None)

    @property
    def _steps(self) -> int:
        """Of values by time."""
        return self.mdp.horizon or _sweeps(self.mdp, self.tolerance)

    @functools.cached_property
    def _obtained(self) -> tuple[np.ndarray, np.ndarray]:
        """The range [m] of what is obtained from the start."""
        return range_of_obtained(self.mdp, self._steps)

    def error(self, utility: Utility) -> float:
        """How far values may be off by interpolation; NaN where no bound is known.

        Each step ahead adds the spacing times the slope of f (Avila Pires et al., 2025, in kind; the
        constant is ours).
        """
        gamma, horizon = self.mdp.gamma, self.mdp.horizon
        unending = horizon is None and gamma == 1 and self.mdp.endless[self.start]
        if unending or self.mdp.dimensions > 1:
            return float("nan")
        if utility.linear:
            return _LINEAR_TOLERANCE * self._width
        if not self._of_stocks(utility):
            low, high = self._obtained
            spacing = (high - low).max() / (self.points - 1)
            return float(self._steps * spacing * utility.slope) + self.tolerance * self._width
        if gamma == 1:
            steps = float(len(self.mdp.probability) if horizon is None else horizon)
        else:
            steps = gamma * (1 - (gamma**horizon if horizon is not None else 0)) / (1 - gamma)
        return steps * self.spacing * utility.slope + self.tolerance * self._width

    def values(self, utility: Utility, stocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What can be had [C] from stocks [C, m], and which first actions bool[C, A] attain it."""
        if self.mdp.terminal[self.start] or self.mdp.horizon == 0:
            return evaluate(utility, stocks), np.zeros((len(stocks), self.mdp.legal.shape[1]), bool)
        q = self._q(utility, self._table(utility, stocks), 0, np.full(len(stocks), self.start), stocks)
        return q.max(1) + evaluate(utility, stocks), best_of(q)

    def best(self, utility: Utility, stock: np.ndarray) -> tuple[Law, int]:
        """The law of the return under what is best from a stock [m], and the first action."""
        table = self._table(utility, stock[None])

        def policy(time: int, states: np.ndarray, stocks: np.ndarray) -> np.ndarray:
            return best_of(self._q(utility, table, time, states, stocks)).argmax(1)

        law = execute(self.mdp, policy, self.start, stock)
        if self.mdp.terminal[self.start] or self.mdp.horizon == 0:
            return law, 0
        return law, int(policy(0, np.array([self.start]), stock[None])[0])

    def _reached(self, stocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ends [m] of what is obtained in all from stocks [C, m]."""
        low, high = self._obtained
        return low + stocks.min(0), high + stocks.max(0)

    def _table(self, utility: Utility, stocks: np.ndarray) -> tuple[Grid, np.ndarray]:
        """The grid, and h [T, S, C] by steps to go; T is 1 where it is stationary."""
        width = max(len(stocks[0]), len(self.low))
        # Beyond these an f that only bends at 0 is linear, and what is best no longer changes.
        low, high = np.broadcast_to(-self.high, width), np.broadcast_to(-self.low, width)
        if not self._of_stocks(utility):
            low, high = self._reached(stocks)
        elif utility.dimensions == -1:
            # Norms bend everywhere. Below gamma 1 their stocks have no bound, and are moved into the grid.
            least, most = self._reached(stocks)
            low, high = np.minimum(low, least), np.maximum(high, most)
        # What is linear is best alike from every stock.
        count = 2 if utility.linear else max(round(self.points ** (1 / width)), 2)
        step = np.where(high > low, high - low, 1.0) / (count - 1)
        key = (utility, tuple(low), tuple(high))
        if key not in self._solved:
            ends = (low, step, count)
            with jax.enable_x64(True):
                self._solved[key] = Grid(*ends), np.asarray(self._solve(utility, ends))
        return self._solved[key]

    def _solve(self, utility: Utility, ends: tuple) -> jax.Array:
        horizon, of_stocks = self.mdp.horizon, self._of_stocks(utility)
        if of_stocks and horizon is None:
            share = _LINEAR_TOLERANCE if utility.linear else self.tolerance
            return stationary(self._process, *ends, utility, share * settled(self.mdp) * self._width)[None]
        steps = horizon if of_stocks and horizon is not None else self._steps
        low, _, count = ends
        points = count ** len(low)
        if (size := 8 * steps * len(self.mdp.probability) * points) > _MOST_BYTES:
            raise MDPError(
                f"values by time take {size / 2**30:.1f} GiB on {points} points, at most "
                f"{_MOST_BYTES / 2**30:.0f} are had; give a shorter horizon or fewer points"
            )
        return (by_steps if of_stocks else by_time)(self._process, *ends, utility, steps)

    def _q(
        self,
        utility: Utility,
        table: tuple[Grid, np.ndarray],
        time: int,
        states: np.ndarray,
        stocks: np.ndarray,
    ) -> np.ndarray:
        """Values f64[n, A] of actions less f(stock), a step ahead from the true stocks [n, m]."""
        grid, h = table
        reward = self.mdp.reward[states]  # [n, A, K, m]
        if self._of_stocks(utility):
            now, after, factor = stocks, stocks[:, None, None] + reward, self.mdp.gamma
            following = after / self.mdp.gamma
        else:
            scale = self.mdp.gamma**time
            now, after, factor = scale * stocks, scale * (stocks[:, None, None] + reward), 1.0
            following = after
        to_go = max(len(h) - 1 - time, 0)
        number, weight = grid.corners(following)
        ahead = (weight * h[to_go, self.mdp.next_state[states][..., None], number]).sum(-1)
        gain = evaluate(utility, after) - evaluate(utility, now)[:, None, None]
        q = (self.mdp.probability[states] * (gain + factor * ahead)).sum(-1)
        return np.where(self.mdp.legal[states], q, -np.inf)
