"""Optima of dynamic programming on return distributions against brute force made outside this code."""

import json
import pathlib

import numpy as np
import pytest

from valuelearn import dp, objectives

VECTORS = json.loads((pathlib.Path(__file__).parent / "vectors/stock_dp.json").read_text())
EXACT = 1e-9
UTILITIES = {
    "mean": objectives.Mean(),
    "abs": objectives.TwoSlope(-1, 1),
    "square": objectives.Squared(),
    "ge0": objectives.Threshold(),
    "gt0": objectives.Threshold(strict=True),
    "loss": objectives.TwoSlope(1, 2.25),
    "neg": objectives.TwoSlope(0, 1),
    "pos": objectives.TwoSlope(1, 0),
    "l1": objectives.Norm(1),
    "l2": objectives.Norm(2),
    "penalty": objectives.Constraint(10),
    "-exp(-x)": objectives.Exponential(1, perspective=True),
}


def mdp_of(name):
    found = VECTORS["mdps"][name]
    return dp.MDP.from_table(found["T"], found["gamma"], found["horizon"], found["s0"])


def cases(kind):
    """The cases of one kind that ask for an optimum; others have a test of their own."""
    found = [
        case
        for case in VECTORS["cases"]
        if case["objective"]["type"] == kind
        and {"value", "value_randomised", "V_n"} & set(case["answer"])
        and {"law", "c0_star_min", "value_randomised", "V_n"} & set(case["answer"])
    ]
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in found])


@cases("expected_utility")
def test_expected_utility(case):
    objective, answer = case["objective"], case["answer"]
    found = dp.solve(mdp_of(case["mdp"]), UTILITIES[objective["f"]], stock=objective["c0"])
    assert found.value == pytest.approx(answer["value"], abs=EXACT)
    assert found.first_actions == answer.get("first_actions", found.first_actions)
    assert found.law.probabilities.sum() == pytest.approx(1, abs=EXACT)


@cases("cvar")
def test_cvar(case):
    answer = case["answer"]
    found = dp.solve(mdp_of(case["mdp"]), objectives.CVaR(case["objective"]["tau"]))
    assert found.value == pytest.approx(answer["value"], abs=EXACT)
    assert found.first_actions == answer["first_actions"]
    assert answer["c0_star_min"] - EXACT <= found.stock <= answer["c0_star_max"] + EXACT


@cases("optimistic_cvar")
def test_optimistic_cvar(case):
    answer = case["answer"]
    found = dp.solve(mdp_of(case["mdp"]), objectives.OptimisticCVaR(case["objective"]["tau"]))
    assert found.value == pytest.approx(answer["value_randomised"], abs=EXACT)
    assert found.stock == pytest.approx(answer["c0_star"], abs=1e-6)  # Given to six places.


@cases("spectral")
def test_spectral(case):
    answer = case["answer"]
    found = dp.solve(mdp_of(case["mdp"]), objectives.Spectral(case["objective"]["weights"]))
    assert found.value == pytest.approx(answer["value"], abs=EXACT)
    assert found.first_actions == answer["first_actions"]
    np.testing.assert_allclose(found.law.returns, [x for x, _ in answer["law"]], atol=EXACT)
    np.testing.assert_allclose(found.law.probabilities, [p for _, p in answer["law"]], atol=EXACT)


@cases("value_iteration")
def test_value_iteration(case):
    objective, answer = case["objective"], case["answer"]
    table = VECTORS["mdps"][case["mdp"]]
    for horizon, (value, first) in enumerate(zip(answer["V_n"], answer["first_actions_n"], strict=True), 1):
        mdp = dp.MDP.from_table(table["T"], table["gamma"], horizon)
        found = dp.solve(mdp, UTILITIES[objective["f"]], stock=objective["c0"])
        assert found.value == pytest.approx(value, abs=EXACT)
        assert found.first_actions == first
