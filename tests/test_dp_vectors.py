"""Optima of dynamic programming on return distributions against brute force made outside this code."""

import dataclasses
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


def named(suffix):
    return next(case for case in VECTORS["cases"] if case["id"].endswith(suffix))


def test_baselines_without_stock():
    case = named("two_step_half/CVaR/0.2/baselines")
    mdp, cvar, answer = mdp_of(case["mdp"]), objectives.CVaR(0.2), case["answer"]
    greedy, nested = dp.stock_free(mdp, cvar), dp.stock_free(mdp, cvar, "nested")
    assert greedy.value == pytest.approx(answer["greedy_cvar_static_value"], abs=EXACT)
    assert nested.value == pytest.approx(answer["nested_cvar_static_value"], abs=EXACT)
    assert greedy.first_actions == [answer["greedy_first"]]
    assert nested.first_actions == [answer["nested_first"]]
    assert dp.solve(mdp, cvar).value > max(greedy.value, nested.value) + 0.2  # P6: not the static optimum.


@pytest.mark.parametrize(("rule", "value"), [("law", 0.587), ("nested", -12.0)])
def test_baselines_fall_off_the_cliff(rule, value):
    cvar = objectives.CVaR(0.02)
    assert dp.stock_free(mdp_of("cliff"), cvar, rule).value == pytest.approx(value, abs=5e-4)


def test_the_best_mean_has_a_bad_tail():
    best = dp.stock_free(mdp_of("cliff"), objectives.Mean())
    assert best.value == pytest.approx(2.1382563643, abs=EXACT)
    assert best.law.score(objectives.CVaR(0.02)) == pytest.approx(-14.0, abs=5e-4)


def test_a_wrong_stock_costs():
    """P1: the reward is added first, then the sum is divided by gamma."""
    case = named("two_step_half/stock_update_forms")
    mdp, answer = mdp_of(case["mdp"]), case["answer"]["static_cvar_by_update"]
    stock, cvar = case["objective"]["c0"], objectives.CVaR(case["objective"]["tau"])
    one_step = dataclasses.replace(mdp, horizon=1)
    forms = {
        "c'=(c+r)/gamma": lambda c, r: (c + r) / mdp.gamma,
        "c'=c+r": lambda c, r: c + r,
        "c'=c/gamma+r": lambda c, r: c / mdp.gamma + r,
        "c'=gamma*(c+r)": lambda c, r: mdp.gamma * (c + r),
    }
    for form, follow in forms.items():

        def policy(time, states, stocks, follow=follow):
            if time == 0:
                return np.full(len(states), case["objective"]["first_action"])
            # Of the true stock the reward, of that the stock by this form; then the best second action.
            kept = follow(stock, mdp.gamma * stocks[:, 0] - stock)
            second = [
                dp.solve(one_step, cvar.utility, stock=one, start=state).first_actions[:1] or [0]
                for one, state in zip(kept, states, strict=True)
            ]
            return np.array(second)[:, 0]

        law = dp.execute(mdp, policy, stock=stock)
        assert law.score(cvar) == pytest.approx(answer[form], abs=EXACT), form


def test_cvar_is_not_indifferent_to_mixtures():
    """What is better of two laws may be worse once both are mixed with a third."""
    answer, cvar = named("mixture_counterexample")["answer"], objectives.CVaR(0.5)
    laws = {name: np.array(law).T for name, law in answer["laws"].items() if name != "weight"}
    assert cvar.score(*laws["nu"]) == pytest.approx(answer["cvar_nu"])
    assert cvar.score(*laws["nu_prime"]) == pytest.approx(answer["cvar_nu_prime"])
    for name, value in (("nu", answer["cvar_mix_nu"]), ("nu_prime", answer["cvar_mix_nu_prime"])):
        mixed = np.concatenate([laws[name], laws["common"]], 1)
        mixed[1] *= answer["laws"]["weight"]
        assert cvar.score(*mixed) == pytest.approx(value)
    assert not cvar.mixture_indifferent


def test_the_best_stock_is_sought_everywhere():
    """P7: what the stock's own value is made of has two peaks."""
    case = named("outer_bimodal/phi")
    mdp, cvar = mdp_of(case["mdp"]), objectives.CVaR(0.1)
    for stock, value in case["answer"]["phi"].items():
        assert dp.solve(mdp, cvar, stock=float(stock)).value == pytest.approx(value, abs=EXACT)
    assert dp.solve(mdp, cvar).stock == -10


def test_an_exponential_as_if_gamma_did_not_matter():
    """P13: a stationary policy of the stock takes the safe arm."""
    answer = named("entropic/not_gamma_indifferent")["answer"]
    mdp, best = mdp_of("entropic"), objectives.Exponential(1, perspective=True)
    one_step = dataclasses.replace(mdp, gamma=1.0, horizon=1)
    # From the second state the discount of one step is left out, as by a policy without the time.
    naive = dp.solve(one_step, objectives.Exponential(1), start=1).first_actions
    assert naive == [answer["naive_second_action"]]
    law = dp.execute(mdp, np.array([[0, 0, 0], [0, naive[0], 0]]))
    assert law.score(best) == pytest.approx(answer["naive_value"], abs=EXACT)
    assert dp.solve(mdp, best).value == pytest.approx(answer["value"], abs=EXACT)
