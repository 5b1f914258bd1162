"""Asking a trained stock agent for an objective: the stock to begin with, and what episodes then bring."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import stock_dqn
from agents.objective_config import ObjectiveConfig
from agents.stock_dqn import StockDQNConfig
from valuelearn import objectives, stats
from valuelearn.config import Misfit
from valuelearn.dp.conditions import utility_of
from valuelearn.evaluate import Returns
from valuelearn.stocks import Stocks
from valuelearn.types import EnvSpec, Params, Stocked

_GRID = 2_001  # First stocks that the network gives its account of,
_PROPOSALS = 3  # and that are played.
_REPLICATIONS = 1_000  # Of the bootstrap.


class Question(NamedTuple):
    """An objective put to a network."""

    name: str
    objective: Any  # A utility, or an outer objective.
    stocks: Stocks  # With which every episode begins alike.


class _Match(NamedTuple):
    """How an objective's utility is had from the one that a network was trained for."""

    scale: float  # Times the network's own.
    angle: float | None  # Of the slopes to ask for, where the network is shown them.


def check(
    agent: StockDQNConfig, config: ObjectiveConfig, stock: float | tuple[float, ...] | None, section: str
) -> None:
    """Refuse an objective that a network of that config does not serve; `section` holds both keys.

    Raises:
        Misfit: where the utility is another one, or the stock is missing, or not the network's to choose.
    """
    objective = config.make()
    if _match(agent, objective) is None:
        has = agent.utility.model_dump(exclude_none=True)
        mend = "train with its own agent.utility, or with agent.stock.any_slopes for all of two_slope"
        reason = f"the network was trained for the utility {has}; {mend}"
        raise Misfit(f"{section}.objective.name", config.name, reason)
    if not _outer(objective) and stock is None and not objective.linear:
        reason = f"{config.name} needs the stock to begin with, less the return that is wanted; give stock"
        raise Misfit(f"{section}.objective.name", config.name, reason, f"{section}.stock")
    coordinates = np.atleast_1d(0.0 if stock is None else stock)
    low, high = agent.stock.low, agent.stock.high
    if not (low <= coordinates.min() and coordinates.max() <= high):
        reason = f"the network was trained from stocks between {low:g} and {high:g}"
        raise Misfit(f"{section}.stock", stock, reason)


def question(
    agent: StockDQNConfig,
    config: ObjectiveConfig,
    stock: float | tuple[float, ...] | None,
    spec: EnvSpec,
    params: Params,
    first_obs: jax.Array,
    play: Callable[[Question], Returns],
) -> Question:
    """The objective with the stock to begin with: the given one, or the one that serves it best.

    An outer objective is scanned for, never climbed to: -stock + scale E f(stock + return) may have several
    maxima. The network's own account proposes the few highest; episodes, which `play` plays, decide among
    them, and whether the quantile of what the best of them brings serves better still. `first_obs` are
    observations [B, ...] that episodes begin with.

    Raises:
        Misfit: for a stock of another length than the environment's.
    """
    objective = config.make()
    found = _match(agent, objective)
    assert found is not None  # As `check` has made sure.
    stocks = agent.stocks(spec)

    def at(stock: float | tuple[float, ...]) -> Question:
        return Question(config.name, objective, _fixed(stocks, stock, found.angle))

    if stock is not None and np.size(stock) not in (1, stocks.dimensions):
        reason = f"{stocks.dimensions} numbers are wanted, one for each that the environment pays"
        raise Misfit("evaluation.stock", stock, reason)
    if stock is not None or not _outer(objective):
        return at(0.0 if stock is None else stock)
    tried = []
    for proposed in _proposals(agent, objective, found, spec, params, first_obs):
        law = _law(play(at(proposed)))
        tried.append((objective.score(*law), proposed, objective.stock(*law)))
    score, best, quantile = max(tried)
    polished = objective.score(*_law(play(at(float(quantile)))))
    return at(float(quantile) if polished >= score else best)


def _law(returns: Returns) -> tuple[np.ndarray, np.ndarray]:
    """What was obtained, in float64, each equally likely: nothing of it comes from the network."""
    obtained = returns.discounted.astype(np.float64)
    return obtained, np.full(len(obtained), 1 / len(obtained))


def scored(question: Question, returns: Returns) -> str:
    """What those returns, of episodes so begun, are worth by the objective; intervals are of 95 %."""
    obtained, _ = _law(returns)
    stock = np.asarray(question.stocks.low)
    start = f"from stock {np.array2string(stock, precision=4)}"
    if not _outer(question.objective):
        return f"{question.name} {_mean(question.objective(stock + obtained))} {start}"

    def score(matrix: np.ndarray) -> np.ndarray:
        law = matrix[..., 0]
        return question.objective.score(law, np.full(law.shape[-1], 1 / law.shape[-1]))

    interval = ""
    if len(obtained) >= stats.LEAST_RUNS:
        _, low, high = stats.interval(score, obtained[:, None], replications=_REPLICATIONS)
        interval = f" [{low:.4g}, {high:.4g}]"
    return f"{question.name} {score(obtained[:, None]):.4g}{interval} {start}, mean {_mean(obtained)}"


def _mean(values: np.ndarray) -> str:
    error = f" +- {values.std(ddof=1) / len(values) ** 0.5:.2g}" if len(values) > 1 else ""
    return f"{values.mean():.4g}{error}"


def as_trained(agent: StockDQNConfig, returns: Returns) -> str:
    """What those returns are worth by the utility that the network was trained for."""
    worth = np.asarray(stock_dqn.obtained(agent, returns))
    return f"utility {_mean(worth)} from stocks {agent.stock.low:g} to {agent.stock.high:g}"


def _outer(objective: objectives.Objective) -> bool:
    return utility_of(objective) is not objective


def _slopes(utility: Any) -> tuple[float, float] | None:
    """Above and below zero; None for other utilities."""
    match utility:
        case objectives.Mean():
            return 1.0, 1.0
        case objectives.TwoSlope(above, below):
            return float(above), float(below)
    return None


def _match(agent: StockDQNConfig, objective: Any) -> _Match | None:
    utility, trained = utility_of(objective), agent.utility.make()
    wanted, has = _slopes(utility), _slopes(trained)
    if wanted is None or has is None:
        return _Match(1.0, None) if utility == trained else None
    if agent.stock.any_slopes:
        return _Match(math.hypot(*wanted), math.atan2(*wanted))
    if math.isclose(math.atan2(*wanted), math.atan2(*has), abs_tol=1e-9):
        return _Match(math.hypot(*wanted) / math.hypot(*has), None)
    return None


def _fixed(stocks: Stocks, stock: float | tuple[float, ...], angle: float | None) -> Stocks:
    """The stocks with every episode beginning with that one, and its slopes at that angle."""
    return dataclasses.replace(
        stocks, low=stock, high=stock, angles=None if angle is None else (angle, angle)
    )


def _proposals(
    agent: StockDQNConfig,
    objective: objectives.Outer,
    found: _Match,
    spec: EnvSpec,
    params: Params,
    first_obs: jax.Array,
) -> list[float]:
    """The first stocks at which the outer problem has its best few maxima, by the network's own account."""
    value = stock_dqn.values(agent, spec)
    grid = np.linspace(agent.stock.low, agent.stock.high, _GRID)
    stocks = agent.stocks(spec)
    beginning = _fixed(stocks, 0.0, found.angle).first(jnp.zeros(stocks.num_draws))

    def worth(stock: jax.Array) -> jax.Array:
        carried = jnp.tile(beginning.at[0].set(stock), (len(first_obs), 1))
        return -stock + objective.scale * found.scale * value(params, Stocked(first_obs, carried)).mean()

    worths = np.asarray(jax.jit(lambda stocks: jax.lax.map(worth, stocks, batch_size=64))(jnp.asarray(grid)))
    worths = worths if objective.sense == "max" else -worths
    around = np.pad(worths, 1, constant_values=-np.inf)
    peaks = np.flatnonzero((worths >= around[:-2]) & (worths > around[2:]))
    return [float(grid[index]) for index in peaks[np.argsort(-worths[peaks])][:_PROPOSALS]]
