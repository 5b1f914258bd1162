"""Optima from a grid of stocks against those of every reachable pair, and on processes without end."""

import gymnasium
import jax
import numpy as np
import pytest
from test_dp_vectors import EXACT, UTILITIES, VECTORS, mdp_of

from valuelearn import dp, objectives
from valuelearn.dp import grid
from valuelearn.dp.mdp import MDPError

TAUS = (0.02, 0.05, 0.1, 0.25, 0.5)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("name", ["cliff", "cliff_095"])
def test_cvar_on_the_cliff(name, tau):
    exact = dp.solve(mdp_of(name), objectives.CVaR(tau))
    found = dp.solve(mdp_of(name), objectives.CVaR(tau), points=2001)
    assert found.value == pytest.approx(exact.value, abs=0.01)
    assert found.first_actions == exact.first_actions
    assert exact.gap == 0
    assert found.gap >= exact.value - found.value - EXACT


@pytest.mark.parametrize("stock", [3.0, 1.5, -0.5, -2.25, -4.0, -6.0])
def test_wanted_returns_of_coins(stock):
    exact = dp.solve(mdp_of("coin"), UTILITIES["abs"], stock=stock)
    found = dp.solve(mdp_of("coin"), UTILITIES["abs"], stock=stock, points=2001)
    assert -0.02 < found.value - exact.value < EXACT
    assert found.gap >= exact.value - found.value - EXACT


@pytest.mark.parametrize(
    ("name", "objective", "stock"),
    [
        ("rand39", objectives.Exponential(1, perspective=True), None),
        ("rand39", objectives.Squared(), -1.0),
        ("rand39", objectives.OCE(objectives.Squared()), None),
        ("rand39", objectives.OptimisticCVaR(0.25), None),
        ("rand39", objectives.MeanCVaR(0.25, 0.5), None),
        ("rand39", objectives.Spectral([(0.2, 0.5), (0.7, 0.5)]), None),
        ("rand39", objectives.Spectral([(0.1, 0.3), (0.5, 0.3), (1.0, 0.4)]), None),
        ("cliff", objectives.Threshold(), 3.0),
        ("homeo", objectives.Norm(1), np.array([2.0, -3.0])),
        ("homeo", objectives.Constraint(10), np.array([0.0, 1.0])),
    ],
    ids=repr,
)
def test_every_objective(name, objective, stock):
    exact = dp.solve(mdp_of(name), objective, stock=stock)
    found = dp.solve(mdp_of(name), objective, stock=stock, points=5000)
    assert found.value == pytest.approx(exact.value, abs=0.02)
    assert found.value <= exact.value + EXACT


@pytest.mark.parametrize("tau", [0.25, 0.6])
def test_a_coarse_grid_says_what_it_may_lack(tau):
    objective = objectives.OptimisticCVaR(tau)
    exact = dp.solve(mdp_of("rand39"), objective)
    coarse, fine = (dp.solve(mdp_of("rand39"), objective, points=points) for points in (9, 41))
    assert exact.value - coarse.value > 0.1
    for found in (coarse, fine):
        assert found.gap >= exact.value - found.value
    assert fine.gap < coarse.gap / 3  # Stocks lie five times as close.


def test_a_stationary_policy_against_value_iteration_on_a_lattice():
    """Rewards are whole and 1 / gamma is too, so no stock of the lattice is between others."""
    case = next(case for case in VECTORS["cases"] if case["objective"]["type"] == "policy_iteration")
    table = VECTORS["mdps"]["loop3"]
    mdp = dp.MDP.from_table(table["T"], table["gamma"])
    planner = grid.OnGrid(mdp, points=17, tolerance=1e-12)
    # The lattice of the case, which is wider than the returns.
    planner.low, planner.high = np.array([-8.0]), np.array([8.0])
    values, _ = planner.values(UTILITIES["neg"], np.array([[0.0], [-2.0]]))
    *_, (limit, _) = case["answer"]["history_V_at_s0_c0_0_and_minus2_and_policy_row_s0"]
    np.testing.assert_allclose(values, limit, atol=EXACT)


def test_twice_the_grid_changes_nothing_on_a_lattice():
    table = VECTORS["mdps"]["loop3"]
    mdp = dp.MDP.from_table(table["T"], table["gamma"])
    stocks = np.linspace(-8, 8, 17)[:, None]
    found = []
    for reach, points in ((8.0, 17), (16.0, 33)):
        planner = grid.OnGrid(mdp, points=points, tolerance=1e-12)
        assert -reach <= planner.low[0] <= planner.high[0] <= reach
        planner.low, planner.high = np.array([-reach]), np.array([reach])
        found.append(planner.values(UTILITIES["neg"], stocks))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=EXACT)
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_all_slopes_in_one_call():
    planner = grid.OnGrid(mdp_of("rand39"), points=65)
    ends = (-planner.high, -planner.low, 65)
    with jax.enable_x64(True):
        process = grid.Process.of(planner.mdp)
        above, below = np.array([1.0, 0.0, -1.0]), np.array([1.0, 1.0, 1.0])

        def values(above, below):
            step = (ends[1] - ends[0]) / 64
            return grid.by_steps(process, ends[0], step, 65, objectives.TwoSlope(above, below), 4)

        together = jax.vmap(values)(above, below)
        for one, slopes in zip(together, zip(above, below, strict=True), strict=True):
            np.testing.assert_allclose(one, values(*slopes), atol=1e-12)


def value_iteration(mdp):
    value = np.zeros(len(mdp.probability))
    for _ in range(10_000):
        q = (mdp.probability * (mdp.reward[..., 0] + mdp.gamma * value[mdp.next_state])).sum(2)
        new = np.where(mdp.terminal, 0, np.where(mdp.legal, q, -np.inf).max(1))
        if np.abs(new - value).max() < 1e-14:
            break
        value = new
    return new


@pytest.mark.parametrize("name", ["FrozenLake8x8", "Taxi"])
def test_the_mean_is_that_of_value_iteration(name):
    newest = max(found for found in gymnasium.registry if found.startswith(f"{name}-"))
    mdp = dp.MDP.from_table(gymnasium.make(newest).unwrapped.P, 0.99, start=1)
    found = dp.solve(mdp, objectives.Mean())
    assert found.value == pytest.approx(value_iteration(mdp)[1], abs=EXACT)


def test_the_frontier_of_a_lake_rises():
    mdp = dp.MDP.from_table(gymnasium.make("FrozenLake-v1").unwrapped.P, 0.95)
    found = dp.frontier(mdp, [objectives.CVaR(tau) for tau in (0.1, 0.5, 1.0)], points=501)
    values = [one.value for one in found]
    assert 0 <= values[0] < values[1] < values[2] == pytest.approx(value_iteration(mdp)[0], abs=1e-6)


def test_returns_without_bound_are_refused():
    walk = dp.MDP.from_table([[[(0.5, 0, -1.0), (0.5, 1, -1.0)]], []], 1.0)
    with pytest.raises(MDPError, match="no bound without a horizon"):
        dp.solve(walk, objectives.CVaR(0.1))


def test_values_by_time_that_do_not_fit_are_refused():
    loop = dp.MDP.from_table([[[(0.5, 0, -1.0), (0.5, 0, 1.0)]]], 0.999)
    with pytest.raises(MDPError, match="fewer points"):
        dp.solve(loop, objectives.Squared(), points=1_000_000)


@pytest.mark.parametrize(
    ("table", "gamma", "horizon", "low", "high"),
    [
        ([[[(1.0, 1, 2.0)]], []], 1.0, None, 0, 2),
        ([[[(1.0, 1, -3.0)], [(1.0, 2, 1.0)]], [[(1.0, 2, -1.0)]], []], 1.0, None, -4, 1),
        ([[[(1.0, 0, 1.0)]]], 0.9, None, 0, 10),
        ([[[(1.0, 0, 1.0)]]], 0.9, 2, 0, 1.9),
        ([[[(0.5, 0, 1.0), (0.5, 1, -1.0)]], [[(1.0, 1, -2.0)]]], 0.5, None, -4, 2),
    ],
)
def test_the_range_of_returns(table, gamma, horizon, low, high):
    found = grid.range_of_returns(dp.MDP.from_table(table, gamma, horizon))
    np.testing.assert_allclose(found, [[low], [high]], atol=3e-8)
    assert found[0] <= low and found[1] >= high - 1e-9  # No wider than what the last sweep left.


def paid_first(paid, one, other, gamma=1.0, horizon=3):
    """After a first reward there is a choice of what follows, paid a step later."""
    table = [[[(1.0, 1, paid)]], [[(1.0, 2, paid * 0)], [(1.0, 3, paid * 0)]], [[(1.0, 4, one)]]]
    return dp.MDP.from_table([*table, [[(1.0, 4, other)]], []], gamma, horizon)


@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize(
    ("objective", "stock"),
    [
        (objectives.Squared(), 0.0),
        (objectives.Squared(), -3.0),
        (objectives.Threshold(), -4.999),
        (objectives.Exponential(0.5, perspective=True), 1.0),
        (UTILITIES["abs"], 2.0),
    ],
    ids=repr,
)
def test_what_is_obtained_may_lie_beyond_every_return(objective, stock, gamma):
    """Ten are paid, more than any return, and then five or ten taken away."""
    mdp = paid_first(10.0, -10.0 / gamma**2, -5.0 / gamma**2, gamma)
    exact = dp.solve(mdp, objective, stock=stock)
    found = dp.solve(mdp, objective, stock=stock, points=2001)
    assert found.value == pytest.approx(exact.value, abs=EXACT)


@pytest.mark.parametrize(("gamma", "horizon"), [(1.0, 3), (1.0, None), (0.5, 3)])
def test_levels_may_lie_beyond_every_return_and_the_first_stock(gamma, horizon):
    """From (15, 10) it is best to lose ten of the first; from (10, 10) it would be of the second."""
    one, other = (np.array(lost) / gamma**2 for lost in ([-10.0, 0.5], [0.0, -10.0]))
    mdp = paid_first(np.array([5.0, 10.0]), one, other, gamma, horizon)
    found = dp.solve(mdp, objectives.Norm(), stock=np.array([10.0, 0.0]), points=2001)
    assert found.value == pytest.approx(-np.hypot(5, 10.5), abs=EXACT)


@pytest.mark.parametrize(
    ("gamma", "steps", "low", "high"),
    [
        (1.0, 0, [0, 0], [0, 0]),
        (1.0, 2, [0, -10], [5, 0]),
        (1.0, 3, [-5, -20], [6, 0]),
        (0.5, 3, [0, -12.5], [5.25, 0]),
        (0.5, 9, [0, -12.5], [5.25, 0]),
    ],
)
def test_the_range_of_what_is_obtained(gamma, steps, low, high):
    mdp = paid_first(np.array([5.0, -10.0]), np.array([-10.0, 1.0]), np.array([1.0, -10.0]), gamma)
    np.testing.assert_allclose(grid.range_of_obtained(mdp, steps), [low, high])


def test_how_far_apart_returns_are():
    returns = grid.OnGrid(dp.MDP.from_table([[[(1.0, 1, 2.0)]], []], 1.0), points=5)
    np.testing.assert_allclose(returns.returns[:, 0], [0.0, 0.5, 1.0, 1.5, 2.0])
    assert returns.spacing == 0.5


@pytest.mark.parametrize(
    ("gamma", "horizon", "steps"), [(1.0, 3, 3), (0.5, None, 1), (0.5, 2, 0.5 * 0.75 / 0.5)]
)
def test_the_error_of_interpolation_grows_with_the_steps(gamma, horizon, steps):
    """A spacing a step, discounted, times the slope; and the tolerance, a share of the range."""
    mdp = dp.MDP.from_table([[[(1.0, 0, 1.0)]]], gamma, horizon)
    found = grid.OnGrid(mdp, points=101)
    utility, width = objectives.TwoSlope(0, 2), (found.high - found.low).item()
    assert found.error(utility) == pytest.approx(width * (2 * steps / 100 + 1e-6), rel=1e-12)
    assert 0 < found.error(objectives.Mean()) <= 1e-9 * max(width, 1)


def test_no_error_is_known_of_vectors_or_without_end():
    vector = dp.MDP.from_table([[[(1.0, 1, [1.0, 2.0])]], []], 1.0, 1)
    assert np.isnan(grid.OnGrid(vector, points=11).error(objectives.Norm()))


def test_a_mean_without_end_is_as_near_as_it_says():
    mdp = dp.MDP.from_table([[[(1.0, 0, 1.0)]]], 0.99)  # 1 for ever, worth 100.
    planner = grid.OnGrid(mdp, points=101)
    (value,), _ = planner.values(objectives.Mean(), np.zeros((1, 1)))
    assert abs(value - 100) <= planner.error(objectives.Mean())


@pytest.mark.parametrize("gamma", [0.99, 0.3])
def test_values_without_an_end_are_as_near_as_was_asked_for(gamma):
    """Of 1 for ever a sweep adds gamma ** k, and the look ahead one more."""
    planner = grid.OnGrid(dp.MDP.from_table([[[(1.0, 0, 1.0)]]], gamma), points=3, tolerance=1e-3)
    allowed = 1e-3 * (planner.high - planner.low).item()
    (value,), _ = planner.values(objectives.TwoSlope(1, 1), np.zeros((1, 1)))
    assert gamma**3 * allowed < 1 / (1 - gamma) - value <= gamma**2 * allowed * (1 + 1e-9)


def test_values_by_steps_to_go():
    """Of 1 a step, without a discount: as many as there are steps, from 0; a square looks at all before."""
    process, low, step = (
        grid.Process.of(dp.MDP.from_table([[[(1.0, 0, 1.0)]]], 1.0, 4)),
        np.zeros(1),
        np.ones(1),
    )
    with jax.enable_x64(True):
        linear = grid.by_steps(process, low, step, 9, objectives.TwoSlope(1, 1), 4)
        square = grid.by_time(process, low, step, 9, objectives.Squared(), 4)
    to_go, stocks = np.arange(4)[:, None], np.arange(9)
    assert linear.shape == square.shape == (4, 1, 9)
    np.testing.assert_allclose(linear[:, 0, :5], np.broadcast_to(to_go, (4, 5)), atol=1e-12)
    wanted = stocks**2 - (stocks + to_go) ** 2
    np.testing.assert_allclose(square[:, 0, :5], wanted[:, :5], atol=1e-12)  # Beyond these the grid ends.


def test_what_is_paid_early_weighs_more_by_time():
    """Each step has its own discount: 1 at 0, 1/2 at 1, 1/4 at 2."""
    process, low, step = (
        grid.Process.of(dp.MDP.from_table([[[(1.0, 0, 1.0)]]], 0.5, 3)),
        np.zeros(1),
        np.ones(1),
    )
    with jax.enable_x64(True):
        found = grid.by_time(process, low, step / 4, 17, objectives.Squared(), 3)[:, 0, 0]
    np.testing.assert_allclose(found, [0, -(0.25**2), -(0.75**2)], atol=1e-12)


@pytest.mark.parametrize("stock", [[8.0, -9.0], [-20.0, 0.5]])
def test_stocks_beyond_the_returns(stock):
    """A norm of several coordinates is nowhere a plane, so the grid reaches out to them."""
    exact = dp.solve(mdp_of("homeo"), objectives.Norm(), stock=np.array(stock))
    planner = grid.OnGrid(mdp_of("homeo"), points=5000)
    promised, first = planner.values(objectives.Norm(), np.array([stock]))
    assert promised[0] == pytest.approx(exact.value, abs=0.05)
    assert np.flatnonzero(first[0]).tolist() == exact.first_actions


@pytest.mark.parametrize(("tau", "between"), [(1.0, 0.5), (0.5, 0.5), (0.25, 1.5)])
def test_what_a_grid_of_stocks_may_lack(tau, between):
    """A step of interpolation, and half the way to the next stock at the steepest: 1, or 1 / tau - 1."""
    coin = [(0.5, 1, 4.0), (0.5, 1, -4.0)]
    mdp = dp.MDP.from_table([[coin, [(1.0, 1, 1.0)]], []], 1.0, 1)
    found = dp.solve(mdp, objectives.CVaR(tau), points=9)  # Whole stocks; that of the sure 1 is one.
    assert found.value == pytest.approx(1.0, abs=1e-12)
    assert found.gap == pytest.approx((1 + 8e-6) / tau + between, rel=1e-9)


def test_the_grid_holds_what_fewer_steps_can_bring():
    """With one step to go 5 may follow, which no whole episode ends on: -100 comes after."""
    table = {
        0: {0: [(1.0, 1, -10.0)], 1: [(1.0, 3, -11.5)]},
        1: {0: [(0.5, 2, 5.0), (0.5, 2, -5.0)]},
        2: {0: [(1.0, 2, -100.0)]},
        3: {},
    }
    mdp = dp.MDP.from_table(table, 1.0, 2)
    exact, found = (
        dp.solve(mdp, objectives.TwoSlope(0.0, 1.0), 7.0, points=points) for points in (None, 2001)
    )
    assert found.value == pytest.approx(exact.value, abs=0.01) and exact.value == pytest.approx(-4.0)
