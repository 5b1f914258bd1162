"""`valuelearn solve` on files, and what it says of wrong ones."""

import importlib.resources

import imageio.v3 as imageio
import numpy as np
import pytest
from test_dp_vectors import VECTORS

from agents.solving import SolveConfig
from tests import commands
from valuelearn import dp, objectives
from valuelearn.config import load

PROCESSES = importlib.resources.files("agents") / "processes"
TWO_STEP = PROCESSES / "two_step.yaml"


def call(*arguments, code=0):
    commands.call("solve", *arguments, code=code)


def printed(capsys):
    """What stands after each label."""
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    return {label: rest.split("  (")[0].strip() for label, rest in lines}


@pytest.mark.parametrize(
    ("tau", "value", "actions"), [(0.1, "-2.75", "1"), (0.2, "-2.5", "0"), (0.5, "0.8", "0")]
)
def test_the_best_tail_of_two_steps(capsys, tau, value, actions):
    call(TWO_STEP, "objective=cvar", f"objective.tau={tau}")
    found = printed(capsys)
    assert (found["value"], found["first"]) == (value, f"actions  {actions}")


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        ("{name: two_slope, above: -1, below: 1}", "-2.75"),
        ("{name: exponential, rate: 1, perspective: true}", "-4.0569"),
        ("{name: mean_cvar, tau: 0.2, weight: 1}", "2.3"),
        ("{name: spectral, levels: [[0.2, 0.5], [1.0, 0.5]]}", "-0.3"),
        ("{name: oce, utility: {name: two_slope, above: 0, below: 5}}", "-2.5"),
    ],
)
def test_objectives_by_name(capsys, objective, value):
    call(TWO_STEP, f"objective={objective}")
    assert float(printed(capsys)["value"]) == pytest.approx(float(value), abs=1e-4)


def test_a_game_of_gymnasium_with_a_picture(tmp_path, capsys):
    lake = PROCESSES / "frozen_lake.yaml"
    small = ("gymnasium=FrozenLake-v1", "options={is_slippery: false}", "points=101")
    call(lake, *small, "objective=cvar", "objective.tau=0.5", "--plot", tmp_path / "law.png")
    assert float(printed(capsys)["value"]) == pytest.approx(0.99**5)
    assert imageio.imread(tmp_path / "law.png").std() > 0


@pytest.mark.parametrize("objective", ["mean", "spectral objective.levels=[[0.1,0.5],[1.0,0.5]]"])
def test_a_gridworld_with_its_policies(tmp_path, objective):
    """Stocks that are vectors have no map; the law is drawn all the same."""
    call(PROCESSES / "cliff.yaml", *f"objective={objective}".split(), "--plot", tmp_path / "cliff.png")
    height, *_ = imageio.imread(tmp_path / "cliff.png").shape
    assert height == (900 if objective == "mean" else 600)


def test_best_actions_follow_the_stock():
    mdp = dp.MDP.from_table([[[(0.5, 1, 4.0), (0.5, 1, -4.0)], [(1.0, 1, -0.5)]], []], 1.0)
    best = dp.best_actions(mdp, objectives.CVaR(0.5), np.array([-5.0, 0.0, 5.0]))
    assert best.shape == (2, 3, 2) and not best[1].any()
    assert best[0].tolist() == [[True, False], [False, True], [True, True]]


def test_vector_rewards(tmp_path, capsys):
    (tmp_path / "feed.yaml").write_text(
        "table: [[[[1.0, 0, [1.0, -1.0]]], [[1.0, 0, [-1.0, 1.0]]]]]\ngamma: 1.0\nhorizon: 3\n"
        "objective: {name: norm}\nstock: [-1.0, 1.0]\n"
    )
    call(tmp_path / "feed.yaml")
    found = printed(capsys)
    assert (float(found["value"]), found["first"]) == (0, "actions  0, 1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["objective=cvr"], "did you mean 'cvar'?"),
        (["objective=cvar"], "argument 'objective.name=cvar': objective.name is \"cvar\"; it needs tau"),
        (["objective=cvar", "objective.tau=2"], "tau 2 was given, more than 0 and at most 1 is wanted"),
        (["objective=mean", "objective.rate=1"], "objective.rate is 1.0; mean has no use for it"),
        (["objective=exponential", "objective.rate=1"], "perspective: true"),
        (["objective=threshold", "horizon=null", "gamma=0.9"], "discontinuous"),
        (["gymnasium=Taxi-v99", "table=null"], "gymnasium does not make Taxi-v99"),
        (["gymnasium=nowhere:X-v0", "table=null"], "No module named 'nowhere'"),
        (["gymnasium=CartPole-v1", "table=null"], "CartPole-v1 has no table of transitions"),
        (["gymnasium=FrozenLake-v1"], "one of table, gymnasium and gridworld is wanted"),
        (["table=[[[[0.9, 0, 1.0]]]]"], "state 0, action 0: probabilities sum to 0.9, 1 is wanted"),
        (["table=[[[[1.0, 3, 1.0]]]]"], "state 0, action 0: it leads to state 3, which is unknown"),
        (["table=[[[[1.0, 0, 1.0]]]]", "horizon=null", "gamma=1.0"], "gamma is 1 and there is no horizon"),
        (["start=9"], "start 9 was given, a state is wanted: 0 to 2"),
        (["gamma=1.5"], "gamma is 1.5"),
        (["--plot", "nowhere/law.png"], "nowhere"),
        (["--plot", "law.txt"], "a name that ends in .png or .pdf or .svg is wanted"),
    ],
)
def test_mistakes_are_one_sentence(capsys, arguments, sentence):
    call(TWO_STEP, *arguments, code=2)
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_a_table_with_nan(tmp_path, capsys):
    (tmp_path / "nan.yaml").write_text("table: [[[[1.0, 0, .nan]]]]\ngamma: 0.9\n")
    call(tmp_path / "nan.yaml", code=2)
    assert "a finite number" in capsys.readouterr().err


def test_the_shipped_table_is_the_reference():
    assert load(SolveConfig, TWO_STEP).table == VECTORS["mdps"]["two_step_half"]["T"]
