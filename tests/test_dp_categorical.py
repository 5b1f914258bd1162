"""Laws on a grid of stocks and returns against those of the reference vectors."""

import dataclasses

import numpy as np
import pytest
from test_dp_vectors import EXACT, UTILITIES, VECTORS, mdp_of, named

from benchmarks.peers.numpy_dp import random_process, scatter
from benchmarks.peers.numpy_dp import value_iteration as in_numpy
from valuelearn import dp, objectives
from valuelearn.dp.categorical import Lattice, policy_iteration, value_iteration
from valuelearn.dp.mdp import MDPError


def endless(name):
    return dataclasses.replace(mdp_of(name), horizon=None)


def test_value_iteration_on_the_cliff_is_exact():
    case = named("cliff/grid_solver")
    lattice = Lattice(*case["objective"]["cgrid"])
    found = value_iteration(mdp_of("cliff"), UTILITIES["neg"], lattice, Lattice(*case["objective"]["zgrid"]))
    for tau, value in case["answer"]["cvar_by_tau"].items():
        best = (found.value[mdp_of("cliff").start] / float(tau) - found.stocks).max()
        assert best == pytest.approx(value, abs=EXACT)
    assert (found.sweeps, found.moved, found.clipped) == (16, 0, 0)
    np.testing.assert_allclose(found.probabilities.sum(-1), 1, atol=EXACT)


# Of 61 points the stock 2.25 lies between two, which the reference reads in a way of its own; 481 take long.
@pytest.mark.parametrize("points", [121, 241])
def test_a_finer_grid_is_nearer(points):
    error = named("grid_solver_refinement")["answer"]["max_abs_error_by_points"][str(points)]
    mdp, lattice = mdp_of("coin"), Lattice(-15, 15, points)
    found = value_iteration(mdp, UTILITIES["abs"], lattice, lattice)
    errors = []
    for case in VECTORS["cases"]:
        if case["mdp"] == "coin" and case["objective"]["type"] == "expected_utility":
            (at,) = np.flatnonzero(np.isclose(found.stocks, case["objective"]["c0"]))
            errors.append(case["answer"]["value"] - found.value[mdp.start, at])
    assert min(errors) >= -EXACT  # A lower bound, for f is concave.
    assert 0.7 * error < max(errors) <= error  # The reference breaks ties in another way.
    assert found.clipped == 0
    assert 0 < found.moved <= lattice.step / 2


def test_policy_iteration():
    case = named("loop3/PI/neg")
    lattice = Lattice(*case["objective"]["c_lattice"])
    start = np.zeros((3, lattice.points), int)
    history = policy_iteration(endless("loop3"), UTILITIES["neg"], lattice, lattice, start)
    wanted = case["answer"]["history_V_at_s0_c0_0_and_minus2_and_policy_row_s0"]
    at = [lattice.points // 2, lattice.points // 2 - 2]
    for laws, (values, policy) in zip(history, wanted, strict=False):
        np.testing.assert_allclose(laws.value[0, at], values, atol=EXACT)
        np.testing.assert_array_equal(laws.actions[0, 0], policy)
    np.testing.assert_array_equal(history[-1].actions[0], case["answer"]["converged_policy"])


def test_values_of_an_endless_loop():
    case = named("loop3/PI/neg")
    lattice = Lattice(*case["objective"]["c_lattice"])
    found = value_iteration(endless("loop3"), UTILITIES["neg"], lattice, lattice, tolerance=1e-11)
    assert found.value[0, 8] == pytest.approx(case["answer"]["V_inf_s0_c0_0"], abs=EXACT)
    assert len(found.actions) == 1  # Of all sweeps only the last chose for ever.


@pytest.mark.parametrize("tolerance", [1.0, 1e-3])
@pytest.mark.parametrize("gamma", [0.99, 0.3])
def test_values_without_an_end_are_as_near_as_was_asked_for(gamma, tolerance):
    """Of 1 for ever a sweep adds gamma ** k: the last adds no more than was allowed, the one before did."""
    mdp, most = dp.MDP.from_table([[[(1.0, 0, 1.0)]]], gamma), 1 / (1 - gamma)
    stocks, returns = Lattice(-100, 100, 3), Lattice(0, most, 101)
    found = value_iteration(mdp, objectives.Mean(), stocks, returns, tolerance)
    assert gamma**2 * tolerance < most - found.value[0, 1] <= gamma * tolerance * (1 + 1e-9)
    (evaluated,) = policy_iteration(mdp, objectives.Mean(), stocks, returns, np.zeros((1, 3), int), tolerance)
    assert evaluated.value[0, 1] == pytest.approx(found.value[0, 1], abs=1e-12)
    assert evaluated.sweeps == found.sweeps


def test_a_grid_too_small_is_seen():
    """P5: mass beyond the grid is lost, and said to be."""
    mdp = mdp_of("cliff")
    found = value_iteration(mdp, UTILITIES["neg"], Lattice(-40, 40, 81), Lattice(-5, 5, 11))
    assert found.clipped > 0.5


def test_the_mean_is_kept_where_nothing_is_clipped():
    mdp = mdp_of("rand39")
    stocks, returns = Lattice(-16, 16, 65), Lattice(-16, 16, 65)
    found = value_iteration(mdp, objectives.Mean(), stocks, returns)
    best = dp.solve(mdp, objectives.Mean()).value
    assert found.clipped == 0
    np.testing.assert_allclose(found.probabilities[mdp.start] @ found.returns, best, atol=1e-12)


def test_stocks_are_mixed_by_probability():
    """P14: between the stocks of two laws lies their mixture, which has both of their returns."""
    table = [[[(1.0, 1, 0.5)]], [[(1.0, 2, 0.0)], [(1.0, 2, 1.0)]], []]
    mdp = dp.MDP.from_table(table, 1.0, 2)
    found = value_iteration(mdp, objectives.TwoSlope(-1, 1), Lattice(-2, 2, 5), Lattice(-2, 2, 9))
    law = found.probabilities[0, list(found.stocks).index(-1)]  # Half a step from both -1 and 0.
    assert dict(zip(found.returns[law > 0], law[law > 0], strict=True)) == {0.5: 0.5, 1.5: 0.5}


@pytest.mark.parametrize("points", [(2, 3), (17, 40)])
@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.4])
def test_laws_are_those_of_numpy_in_loops(gamma, points):
    """Of more outcomes than are summed at once, on grids that are left on both sides."""
    process = random_process(5, {"seed": 0, "actions": [2, 4], "outcomes": 5, "rewards": [-2, -1, 0, 1, 2]})
    stocks, returns = Lattice(-3, 4, points[0]), Lattice(-5, 3, points[1])
    found = value_iteration(dp.MDP.from_table(process, gamma, 4), objectives.TwoSlope(0, 1), stocks, returns)
    laws = in_numpy(process, gamma, stocks.values(), returns.values(), 4, scatter)
    np.testing.assert_allclose(found.probabilities, laws, atol=1e-12)
    assert found.clipped > 0 or gamma < 0.5


@pytest.mark.parametrize("strict", [False, True])
def test_a_step_without_a_horizon_is_refused_as_solve_refuses_it(strict):
    utility, lattice, mdp = objectives.Threshold(strict), Lattice(-2, 2, 5), endless("loop3")
    sentence = "Threshold is discontinuous, so it may have no optimum without a horizon; give one"
    with pytest.raises(MDPError, match=sentence):
        dp.solve(mdp, utility)
    with pytest.raises(MDPError, match=sentence):
        value_iteration(mdp, utility, lattice, lattice)
    with pytest.raises(MDPError, match=sentence):
        policy_iteration(mdp, utility, lattice, lattice, np.zeros((3, 5), int))


@pytest.mark.parametrize("utility", [objectives.Threshold(), objectives.Squared()], ids=repr)
def test_utilities_of_another_degree_than_one(utility):
    """Three whole rewards and gamma 1/2: every stock reached is whole, every return a whole of quarters."""
    mdp = dataclasses.replace(mdp_of("loop3"), horizon=3)
    found = value_iteration(mdp, utility, Lattice(-64, 64, 129), Lattice(-8, 8, 65))
    assert (found.moved, found.clipped) == (0, 0)
    for stock in (-3, -1, 0, 2):
        best = dp.solve(mdp, utility, stock=stock).value
        assert found.value[mdp.start, 64 + stock] == pytest.approx(best, abs=EXACT)


def test_what_cannot_be_had_is_refused():
    lattice = Lattice(-1, 1, 3)
    with pytest.raises(MDPError, match="scalar rewards"):
        value_iteration(mdp_of("homeo"), objectives.Norm(), lattice, lattice)
    with pytest.raises(MDPError, match="not indifferent to gamma"):
        value_iteration(mdp_of("entropic"), objectives.Exponential(1), lattice, lattice)
    with pytest.raises(MDPError, match="give no horizon"):
        policy_iteration(mdp_of("cliff"), UTILITIES["neg"], lattice, lattice, np.zeros((24, 3), int))
    with pytest.raises(MDPError, match="after 3 sweeps"):
        value_iteration(endless("loop3"), UTILITIES["neg"], lattice, lattice, max_sweeps=3)


@pytest.mark.parametrize("sweeps", [1, 2, 5])
def test_how_far_laws_still_move_is_said(sweeps):
    mdp = dp.MDP.from_table([[[(1.0, 0, 2.0)]]], 0.5)  # After k sweeps worth 4 - 2 ** (2 - k).
    lattice = Lattice(-4, 4, 257)
    with pytest.raises(MDPError, match=f"move by {2.0 ** (2 - sweeps):.3g} after {sweeps} sweeps"):
        value_iteration(mdp, objectives.Mean(), lattice, lattice, max_sweeps=sweeps)
    with pytest.raises(MDPError, match=f"move by {2.0 ** (2 - sweeps):.3g} after {sweeps} sweeps"):
        policy_iteration(mdp, objectives.Mean(), lattice, lattice, np.zeros((1, 257), int), max_sweeps=sweeps)


def test_laws_settle_where_gamma_is_one():
    mdp = dp.MDP.from_table({0: {0: [(0.97, 0, 0.0), (0.03, 1, 1.0)]}, 1: {}}, 1.0)
    lattice = Lattice(-2, 2, 5)
    found = value_iteration(
        mdp, objectives.TwoSlope(1.0, 2.0), lattice, lattice, tolerance=1e-6, max_sweeps=2000
    )
    assert found.value[0, 2] == pytest.approx(1.0, abs=1e-6)
