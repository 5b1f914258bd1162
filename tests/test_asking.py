"""Asking a trained stock agent, by the command line and against laws known in advance."""

import jax.numpy as jnp
import numpy as np
import pytest

from agents import asking, stock_dqn
from agents.objective_config import ObjectiveConfig
from agents.stock_dqn import StockDQNConfig
from valuelearn import cli, objectives
from valuelearn.config import Misfit
from valuelearn.evaluate import Returns
from valuelearn.stocks import Stocks
from valuelearn.types import EnvSpec

UTILITY = {"name": "two_slope", "above": 0.0, "below": 1.0}
TAIL = StockDQNConfig(utility=UTILITY, stock={"low": -6.0, "high": 6.0})
ANY = StockDQNConfig(utility=UTILITY, stock={"low": -6.0, "high": 6.0, "any_slopes": True})
SPEC = EnvSpec((2,), np.dtype(np.float32), 2, num_envs=1, stock_size=1)


def asked(**options):
    return ObjectiveConfig.model_validate(options)


@pytest.mark.parametrize(
    ("agent", "objective", "stock", "sentence"),
    [
        (TAIL, asked(name="optimistic_cvar", tau=0.1), None, "trained for the utility .*'below': 1.0"),
        (TAIL, asked(name="two_slope", above=1.0, below=-1.0), 0.0, "trained for the utility"),
        (TAIL, asked(name="two_slope", above=0.0, below=2.0), None, "needs the stock to begin with"),
        (TAIL, asked(name="cvar", tau=0.1), 7.0, "trained from stocks between -6 and 6"),
        (ANY, asked(name="threshold"), 0.0, "trained for the utility"),
        (ANY, asked(name="spectral", levels=[(0.1, 0.5), (1.0, 0.5)]), None, "trained for the utility"),
    ],
)
def test_what_a_network_cannot_answer(agent, objective, stock, sentence):
    with pytest.raises(Misfit, match=sentence):
        asking.check(agent, objective, stock, "evaluation")


@pytest.mark.parametrize(
    ("agent", "objective", "stock"),
    [
        (TAIL, asked(name="cvar", tau=0.1), None),
        (TAIL, asked(name="cvar", tau=0.1), -2.0),
        (ANY, asked(name="mean"), None),
        (ANY, asked(name="mean_cvar", tau=0.2, weight=0.5), None),
        (ANY, asked(name="two_slope", above=-1.0, below=1.0), 3.0),
    ],
)
def test_what_a_network_can_answer(agent, objective, stock):
    asking.check(agent, objective, stock, "evaluation")


def test_the_best_stock_is_sought_everywhere(monkeypatch):
    """P7: a sure 0 against +10 or, rarely, -35: a search that climbs from 0 stays there, and the tail of a
    tenth is best served from -10."""

    def value(params, obs):
        stock = obs.stock[:, 0]
        gamble = 0.98 * jnp.minimum(stock + 10, 0) + 0.02 * jnp.minimum(stock - 35, 0)
        return jnp.maximum(jnp.minimum(stock, 0), gamble)

    monkeypatch.setattr(stock_dqn, "values", lambda agent, spec: value)
    agent = StockDQNConfig(utility=UTILITY, stock={"low": -20.0, "high": 20.0})
    played = []

    def play(question):
        played.append(question.stocks.low)
        return returns([10.0] * 98 + [-35.0] * 2 if played[-1] < -5 else [0.0] * 100)

    cvar = asked(name="cvar", tau=0.1)
    found = asking.question(agent, cvar, None, SPEC, None, jnp.zeros((3, 2)), play)
    assert played[:2] == pytest.approx([-10, 0], abs=0.02)  # Both peaks, and
    assert found.stocks.low == found.stocks.high == -10.0  # the quantile of the better.


def returns(values):
    return Returns(np.zeros(len(values), np.float32), np.asarray(values, np.float32), None)


def test_an_objective_is_that_of_what_was_obtained():
    """Neither the network's own account nor the stock enters the figure."""
    question = asking.Question("cvar", objectives.CVaR(0.5), Stocks(1.0, 1, 2.0, 2.0, 20.0))
    assert asking.scored(question, returns([-1.0, 0.0, 1.0, 2.0])).startswith("cvar -0.5 [")
    near = asking.Question("two_slope", objectives.TwoSlope(-1.0, 1.0), Stocks(1.0, 1, -1.0, -1.0, 20.0))
    assert asking.scored(near, returns([1.0, 2.0, 0.0])).startswith("two_slope -0.6667 +- 0.33 from stock -1")


def call(*arguments):
    cli.app([str(argument) for argument in arguments], standalone_mode=False)


def test_train_and_ask(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    small = (
        "agent.network.hidden=[16]",
        "agent.head_options.num_quantiles=4",
        "agent.replay.warmup_steps=200",
    )
    config = "agents/configs/grid/stock_dqn_cliff.yaml"
    call(
        "train",
        config,
        "train.env_frames=400",
        *small,
        "train.seeds=2",
        "evaluation.episodes=9",
        "--run",
        run,
    )
    assert "seed 1: utility" in capsys.readouterr().out
    call("evaluate", run, "objective=cvar", "objective.tau=0.25", "--episodes", 40)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("cvar" in line and "from stock" in line for line in lines)
    call("evaluate", run, "objective=cvar", "objective.tau=0.25", "stock=1.5", "--episodes", 2)
    assert "from stock 1.5" in capsys.readouterr().out
