"""Asking a trained stock agent for an objective: the stock to begin with, and what episodes then bring."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import stock_dqn
from agents.objective_config import ObjectiveConfig
from agents.stock_dqn import StockDQNConfig
from valuelearn import objectives, stats
from valuelearn.config import Misfit
from valuelearn.evaluate import Returns
from valuelearn.stocks import Stocks
from valuelearn.types import EnvSpec, Params, Stocked

_GRID = 2_001  # First stocks tried.
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
    outer = hasattr(objective, "utility")
    if not outer and stock is None and not objective.linear:
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
) -> Question:
    """The objective with the stock to begin with: the given one, or the best by the network's own account.

    `first_obs` are observations [B, ...] that episodes begin with.
    """
    objective = config.make()
    found = _match(agent, objective)
    assert found is not None  # As `check` has made sure.
    if stock is None:
        stock = (
            _best(agent, objective, found, spec, params, first_obs) if hasattr(objective, "utility") else 0.0
        )
    return Question(config.name, objective, _fixed(agent.stocks(spec), stock, found.angle))


def polished(question: Question, returns: Returns) -> Question:
    """The question from the stock at which the law of those returns has its value.

    For an exact policy that can only raise the objective; here it puts right what the network's account of
    the tail has got wrong.
    """
    if not hasattr(question.objective, "utility"):
        return question
    obtained = returns.discounted.astype(np.float64)
    stock = float(question.objective.stock(obtained, np.full(len(obtained), 1 / len(obtained))))
    return question._replace(stocks=dataclasses.replace(question.stocks, low=stock, high=stock))


def scored(question: Question, returns: Returns) -> str:
    """What those returns, of episodes so begun, are worth by the objective; intervals are of 95 %."""
    # The law of what was obtained, in float64: nothing here comes from the network.
    obtained = returns.discounted.astype(np.float64)
    stock = np.asarray(question.stocks.low)
    start = f"from stock {np.array2string(stock, precision=4)}"
    if not hasattr(question.objective, "utility"):
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


def as_trained(agent: StockDQNConfig, spec: EnvSpec, returns: Returns) -> str:
    """What those returns are worth by the utility that the network was trained for."""
    worth = np.asarray(stock_dqn.obtained(agent, spec, returns))
    return f"utility {_mean(worth)} from stocks {agent.stock.low:g} to {agent.stock.high:g}"


def _utility(objective: Any) -> Any:
    return objective.utility if hasattr(objective, "utility") else objective


def _slopes(utility: Any) -> tuple[float, float] | None:
    """Above and below zero; None for other utilities."""
    match utility:
        case objectives.Mean():
            return 1.0, 1.0
        case objectives.TwoSlope(above, below):
            return float(above), float(below)
    return None


def _match(agent: StockDQNConfig, objective: Any) -> _Match | None:
    utility, trained = _utility(objective), agent.utility.make()
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


def _best(
    agent: StockDQNConfig,
    objective: objectives.Outer,
    found: _Match,
    spec: EnvSpec,
    params: Params,
    first_obs: jax.Array,
) -> float:
    """The first stock at which the objective's outer problem is solved, by the network's own account.

    A scan, never a local search: -stock + scale E f(stock + return) may have several maxima.
    """
    value = stock_dqn.values(agent, spec)
    grid = jnp.linspace(agent.stock.low, agent.stock.high, _GRID)
    stocks = agent.stocks(spec)
    beginning = _fixed(stocks, 0.0, found.angle).first(jnp.zeros(stocks.num_draws))

    def worth(stock: jax.Array) -> jax.Array:
        carried = jnp.tile(beginning.at[0].set(stock), (len(first_obs), 1))
        return -stock + objective.scale * found.scale * value(params, Stocked(first_obs, carried)).mean()

    worths = jax.jit(lambda: jax.lax.map(worth, grid, batch_size=64))()
    index = worths.argmax() if objective.sense == "max" else worths.argmin()
    return float(grid[index])
