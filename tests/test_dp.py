"""Processes that are none, laws of policies, and optima that a reader can work out."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from scipy import optimize

from valuelearn import dp, objectives
from valuelearn.dp import exact, outer
from valuelearn.dp.exact import TooLargeError, Unrolled, choose
from valuelearn.dp.grid import OnGrid
from valuelearn.dp.interface import gap
from valuelearn.dp.laws import rounding
from valuelearn.dp.mdp import MDPError, bound

SURE = [[[(1.0, 1, 2.0)]], []]
COIN = {0: {0: [(0.5, 1, 4.0), (0.5, 1, -4.0)], 1: [(1.0, 1, 0.5)]}, 1: {}}
FOREVER = [[[(1.0, 0, 0.0)], [(1.0, 1, 1.0)]], []]


@pytest.mark.parametrize(
    ("table", "kwargs", "sentence"),
    [
        (
            [[[(0.5, 1, 0.0), (0.4, 1, 0.0)]], []],
            {},
            "state 0, action 0: probabilities sum to 0.9, 1 is wanted",
        ),
        ([[[(1.5, 1, 0.0), (-0.5, 1, 0.0)]], []], {}, "none below 0 is wanted"),
        ([[[(0.5, 1, 0.0), (0.5 + 1e-8, 1, 0.0)]], []], {}, "probabilities sum to 1, 1 is wanted"),
        ([[[(1.0, 1, 0.0), (1.0, 1, 0.0)]], []], {}, "probabilities sum to 2, 1 is wanted"),
        (
            [[[(1.0, 7, 0.0)]], []],
            {},
            "state 0, action 0: it leads to state 7, which is unknown; states are 0 to 1",
        ),
        ([[[(1.0, 1, float("nan"))]], []], {}, "a reward of nan was given, a finite one is wanted"),
        ([[[(1.0, 0.5, 0.0)]], []], {}, "(1.0, 0.5, 0.0) was given, (probability, next state, reward"),
        (
            [[[(1.0, 1)]], []],
            {},
            "(1.0, 1) was given, (probability, next state, reward of 1 numbers) is wanted",
        ),
        (
            [[[(1.0, 1, [1.0, 2.0]), (0.0, 1, [1.0, 2.0, 3.0])]], []],
            {},
            "(probability, next state, reward of 2 numbers) is wanted",
        ),
        (
            [[[(1.0, 1, 0.0, True, {})]], []],
            {},
            "reward of 1 numbers) is wanted, or with whether the episode",
        ),
        ({0: {0: [(1.0, 5, 0.0)]}, 5: {}}, {}, "2 states but none called 1; number them from 0"),
        ([], {}, "the table is empty"),
        (FOREVER, {"gamma": 1}, "a policy can stay in states 0 for ever; give a horizon, or a gamma below 1"),
        (FOREVER, {"gamma": 1.5}, "gamma 1.5 was given"),
        (FOREVER, {"gamma": 0.5, "horizon": -1}, "horizon -1 was given"),
        (FOREVER, {"gamma": 0.5, "start": 2}, "start 2 was given, a state is wanted: 0 to 1"),
    ],
)
def test_what_is_no_process_is_refused(table, kwargs, sentence):
    with pytest.raises(MDPError) as error:
        dp.MDP.from_table(table, **{"gamma": 0.9, **kwargs})
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("objective", "kwargs", "sentence"),
    [
        (objectives.Threshold(), {"gamma": 0.5}, "Threshold is discontinuous"),
        (objectives.Exponential(1.0), {"gamma": 0.5, "horizon": 3}, "ask for it with perspective: true"),
        (objectives.OCE(objectives.Exponential(1.0)), {"gamma": 0.5, "horizon": 3}, "perspective: true"),
        (
            objectives.Constraint(2.0),
            {"gamma": 0.5, "horizon": 3},
            "rewards of 2 coordinates, those of the process have 1",
        ),
    ],
)
def test_objectives_that_a_process_cannot_serve_are_refused(objective, kwargs, sentence):
    mdp = dp.MDP.from_table(FOREVER, **kwargs)
    with pytest.raises(MDPError, match=sentence):
        dp.solve(mdp, objective)
    with pytest.raises(MDPError, match=sentence):
        dp.frontier(mdp, [objectives.Mean(), objective])


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"stock": [1.0, 2.0]}, "stock \\[1.0, 2.0\\] was given, 1 finite numbers are wanted"),
        ({"stock": float("nan")}, "stock nan was given, 1 finite numbers are wanted"),
        ({"start": 7}, "start 7 was given, a state is wanted: 0 to 1"),
        ({"objective": objectives.Exponential(-1e4)}, "is not finite on the returns"),
        ({"objective": objectives.OCE(objectives.Exponential(1e4))}, "is not finite on the returns"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("points", [None, 33])
def test_questions_without_an_answer_are_refused(kwargs, sentence, points):
    with pytest.raises(MDPError, match=sentence):
        dp.solve(dp.MDP.from_table(COIN, 1.0, 1), **{"objective": objectives.Mean(), **kwargs}, points=points)


@pytest.mark.parametrize("stock", [-5.0, -3.0, -1.0, 1.0])
def test_values_that_start_at_nothing_find_their_scale(stock):
    """P12: V = gamma max E V(C') has 0 for a fixed point; what each reward adds to the utility tells more."""
    mdp = dp.MDP.from_table([[[(1.0, 0, 1.0)]]], 0.5)  # A reward of 1 for ever: 2.
    promised, _ = OnGrid(mdp, None, 201).values(objectives.TwoSlope(0.0, 1.0), np.array([[stock]]))
    assert promised[0] == pytest.approx(min(stock + 2, 0), abs=1e-6)


@pytest.mark.parametrize("wait", [1, 2, 5])
def test_what_may_be_put_off_is_never_taken(wait):
    """P15: the chance of a return above 0 is 1 while time is left: with no end, waiting looks as good."""
    found = dp.solve(dp.MDP.from_table(FOREVER, 0.5, wait), objectives.Threshold(strict=True))
    assert found.value == 1 and found.first_actions == ([1] if wait == 1 else [0, 1])
    with pytest.raises(MDPError, match="Threshold is discontinuous"):
        dp.solve(dp.MDP.from_table(FOREVER, 0.5), objectives.Threshold(strict=True))


def test_without_discount_an_exponential_needs_no_perspective():
    mdp = dp.MDP.from_table(COIN, 1.0, 1)
    assert dp.solve(mdp, objectives.Exponential(1.0)).value == pytest.approx(-np.exp(-0.5))


def test_arrays_give_the_process_of_the_table():
    transitions, rewards = np.zeros((2, 1, 2)), np.zeros((2, 1))
    transitions[0, 0, 1], rewards[0, 0] = 1, 2.0
    from_arrays, from_table = dp.MDP.from_arrays(transitions, rewards, 0.9), dp.MDP.from_table(SURE, 0.9)
    mean = objectives.Mean()
    assert dp.solve(from_arrays, mean).value == dp.solve(from_table, mean).value == 2.0


@pytest.mark.parametrize("shape", [(2, 1), (2, 1, 3)])
def test_arrays_of_another_shape_are_refused(shape):
    with pytest.raises(MDPError, match="is wanted"):
        dp.MDP.from_arrays(np.zeros(shape), np.zeros((2, 1)), 0.9)


def test_episodes_that_terminate_end_though_the_table_leads_on():
    newest = max(name for name in gymnasium.registry if name.startswith("Taxi-"))
    taxi = gymnasium.make(newest).unwrapped
    mdp = dp.MDP.from_table(taxi.P, gamma=0.99)
    assert mdp.terminal.sum() == 1
    assert mdp.terminal[-1]
    assert len(mdp.probability) == len(taxi.P) + 1


@pytest.mark.parametrize(("tau", "value", "first"), [(0.5, 0.5, [1]), (1.0, 0.5, [1])])
def test_a_coin_against_a_sure_thing(tau, value, first):
    found = dp.solve(dp.MDP.from_table(COIN, 1.0, 1), objectives.CVaR(tau))
    assert found.value == pytest.approx(value)
    assert found.first_actions == first


def test_the_best_tail_takes_the_coin():
    found = dp.solve(dp.MDP.from_table(COIN, 1.0, 1), objectives.OptimisticCVaR(0.5))
    assert found.value == pytest.approx(4.0)
    assert found.first_actions == [0]
    np.testing.assert_array_equal(found.law.returns, [-4.0, 4.0])


@pytest.mark.parametrize("percent", [11, 22, 44, 50, 89])
def test_a_tail_that_is_just_full_needs_no_draw(percent):
    """The share of the tail is that of the coin's luck, but for rounding."""
    lucky = [(percent / 100, 1, 2.0), (1 - percent / 100, 1, 0.0)]
    mdp = dp.MDP.from_table([[lucky, [(1.0, 1, 2.0 - 1e-6)]], []], 1.0, 1)
    found = dp.solve(mdp, objectives.OptimisticCVaR(percent / 100))
    assert found.value == pytest.approx(2.0, abs=1e-12)
    assert found.first_actions == [0]


def test_a_draw_that_is_better_than_either_action():
    """Lines of two laws cross between two returns, and there the optimum is known without a gap."""
    lucky = [(0.25, 1, 4.0), (0.75, 1, 0.0)]
    mdp = dp.MDP.from_table([[lucky, [(1.0, 1, 1.2)]], []], 1.0, 1)
    found = dp.solve(mdp, objectives.OptimisticCVaR(0.5))
    assert found.value == pytest.approx(1.2 + 1.4 * 2 / 3)  # Two draws of three take the coin.
    assert sorted(found.first_actions) == [0, 1]
    assert found.gap == 0


def frontier_of_coins():
    """Coins for whose tails no stock is best but one between all returns, where many lines nearly meet."""
    touching = np.linspace(0.03, 0.97, 12)
    slope = touching - 0.5
    luck = (1 - slope) / 2.5
    prize = (2 + slope**2 / 2 - slope * touching) / (2.5 * luck)
    return np.stack([luck, 1 - luck], 1), np.stack([prize, 0 * prize], 1)


def random_coins(seed):
    random = np.random.default_rng(seed)
    return random.dirichlet(np.full(2, 0.5), 12), random.uniform(0, 4, (12, 2))


@pytest.mark.parametrize(
    ("chance", "reward"),
    [frontier_of_coins(), *map(random_coins, range(9))],
    ids=["frontier", *map(str, range(9))],
)
def test_draws_against_linear_programming(chance, reward):
    """How likely each action is, and which of its outcomes are in the best tail."""
    tau = 0.4
    table = [[list(zip(p, [1, 1], r, strict=True)) for p, r in zip(chance, reward, strict=True)], []]
    found = dp.solve(dp.MDP.from_table(table, 1.0, 1), objectives.OptimisticCVaR(tau))
    taken = np.hstack([np.eye(24), -np.repeat(np.eye(12), 2, axis=0) * chance.reshape(-1, 1)])  # At most.
    sums = np.kron(np.eye(2), np.ones(24))[:, :36]  # Of outcomes that are taken, and of actions.
    cost = np.append(-reward.reshape(-1) / tau, np.zeros(12))
    best = optimize.linprog(cost, taken, np.zeros(24), sums, [tau, 1.0])
    assert found.value == pytest.approx(-best.fun, abs=1e-9)
    assert found.gap == 0


def test_exactness_is_claimed_where_it_holds():
    mdp = dp.MDP.from_table(COIN, 1.0, 1)
    assert dp.solve(mdp, objectives.CVaR(0.5)).gap == 0
    assert np.isnan(dp.solve(mdp, objectives.OCE(objectives.Squared())).gap)
    certain = dp.solve(mdp, objectives.OCE(objectives.Exponential(2.0)))
    assert certain.gap == 0
    assert certain.value == pytest.approx(0.5 - np.log(2) / 2 - 0.5)  # Of a sure 0.5.


def test_a_gap_is_a_difference_but_for_rounding():
    assert gap(3.0, 1.0) == 2.0 and gap(-1.0, -1.5) == 0.5
    assert gap(1.0 + 1e-10, 1.0) == gap(1e6 + 1e-4, 1e6) == gap(1.0, 3.0) == 0
    assert gap(1.0 + 1e-8, 1.0) == pytest.approx(1e-8) and gap(1e6 + 0.01, 1e6) == pytest.approx(0.01)


def test_wanted_returns_are_had():
    mdp = dp.MDP.from_table(COIN, 1.0, 1)
    assert dp.solve(mdp, objectives.TwoSlope(-1, 1), stock=-0.5).value == 0
    assert dp.solve(mdp, objectives.TwoSlope(-1, 1), stock=-0.5).first_actions == [1]


def test_equally_good_first_actions_are_all_named():
    table = [[[(1.0, 1, 1.0)], [(0.5, 1, 2.0), (0.5, 1, 0.0)], [(1.0, 1, 0.9)]], []]
    assert dp.solve(dp.MDP.from_table(table, 1.0, 1), objectives.Mean()).first_actions == [0, 1]


@pytest.mark.parametrize("size", [1e9, 1e15])
@pytest.mark.parametrize("objective", [objectives.Mean(), objectives.CVaR(0.3)], ids=str)
def test_equally_good_is_relative_to_the_size_of_rewards(objective, size):
    """Sums are rounded, and by more where all is larger."""
    first, second, whole = size / 7, 8 * size / 7, 9 * size / 7
    assert abs(first + second - whole) > 1e-8
    table = [[[(1.0, 1, first)], [(1.0, 2, whole)]], [[(1.0, 2, second)]], []]
    found = dp.solve(dp.MDP.from_table(table, 1.0, 2), objective)
    assert found.value == pytest.approx(whole)
    assert found.first_actions == [0, 1]
    assert found.gap == 0


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e11, 1e200])
def test_rewards_of_any_size(size):
    table = [[[(0.5, 1, 4 * size), (0.5, 1, 2 * size)], [(1.0, 1, 3.1 * size)]], []]
    found = dp.solve(dp.MDP.from_table(table, 1.0, 1), objectives.OptimisticCVaR(0.5))
    assert found.value == pytest.approx(4 * size) and found.first_actions == [0]
    np.testing.assert_allclose(found.law.returns, [2 * size, 4 * size])
    found = dp.solve(dp.MDP.from_table(table, 1.0, 1), objectives.Mean())
    assert found.value == pytest.approx(3.1 * size) and found.first_actions == [1]


def test_a_terminal_start_returns_nothing():
    found = dp.solve(dp.MDP.from_table(COIN, 1.0, 1, start=1), objectives.TwoSlope(0, 1), stock=-2.0)
    assert (found.value, found.first_actions) == (-2.0, [])
    np.testing.assert_array_equal(found.law.returns, [0.0])


def test_more_pairs_than_allowed_are_refused():
    table = [[[(0.5, 0, 0.0), (0.5, 0, 1.0)]]]
    with pytest.raises(TooLargeError, match="more than 100 pairs"):
        Unrolled(dp.MDP.from_table(table, 0.9, horizon=20), max_pairs=100)
    with pytest.raises(TooLargeError, match="can last longer than any number of steps"):
        Unrolled(dp.MDP.from_table(table, 0.9))


def test_the_law_of_a_policy_against_sampled_episodes():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), (4, 2))
    rewards = rng.integers(-3, 4, (4, 2, 3)).astype(float)
    table = [
        [[(weights[s, a, k], (s + k) % 4, rewards[s, a, k]) for k in range(3)] for a in range(2)]
        for s in range(4)
    ]
    mdp = dp.MDP.from_table(table, 0.5, 5, start=2)

    def policy(time, states, stocks):
        return (stocks[:, 0] + time > 1).astype(int)

    law = dp.execute(mdp, policy, stock=1.0)
    returns = np.zeros(40_000)
    for episode in range(len(returns)):
        state, stock = 2, 1.0
        for time in range(5):
            action = int(stock + time > 1)
            outcome = rng.choice(3, p=weights[state, action])
            paid = rewards[state, action, outcome]
            returns[episode] += 0.5**time * paid
            state, stock = (state + outcome) % 4, (stock + paid) / 0.5
        assert 1.0 + returns[episode] == pytest.approx(0.5**5 * stock)  # Nothing is lost on the way.
    assert law.probabilities.sum() == pytest.approx(1)
    for quantile in (0.1, 0.5, 0.9):
        below = law.probabilities[law.returns <= np.quantile(returns, quantile)].sum()
        assert below == pytest.approx(np.mean(returns <= np.quantile(returns, quantile)), abs=0.01)


@pytest.mark.parametrize(("gamma", "value"), [(0.5, 1.0), (0.9, 9.0)])
def test_a_policy_without_end_is_followed_until_nothing_can_come(gamma, value):
    law = dp.execute(dp.MDP.from_table([[[(1.0, 0, gamma)]]], gamma), np.array([0]), tolerance=1e-10)
    np.testing.assert_allclose(law.returns, [value], atol=1e-10)
    assert 0 < law.error <= 1e-10


@pytest.mark.parametrize("action", [-1, 1, 2])
def test_a_policy_cannot_take_an_action_that_is_not_there(action):
    with pytest.raises(MDPError, match=f"action {action}"):
        dp.execute(dp.MDP.from_table(SURE, 1.0), np.array([action, 0]))


def test_rewards_of_another_shape_than_the_transitions_are_refused():
    with pytest.raises(MDPError, match=r"shape \(3,\) were given, \(2, 1\) or \(2, 1, 2\) is wanted"):
        dp.MDP.from_arrays(np.ones((2, 1, 2)) / 2, np.zeros(3), 0.9)


def test_a_policy_that_stops_by_chance_is_followed_until_it_almost_surely_has():
    law = dp.execute(dp.MDP.from_table([[[(0.5, 0, 1.0), (0.5, 1, 1.0)]], []], 1.0), np.array([0]))
    np.testing.assert_allclose(law.probabilities[:10], 0.5 ** np.arange(1, 11))
    assert law.mean == pytest.approx(2.0, abs=1e-8)


@pytest.mark.parametrize(
    ("gamma", "horizon", "most"),
    [(0.9, None, 20.0), (0.5, 3, 3.5), (1.0, 4, 8.0), (0.5, 0, 0.0)],
)
def test_the_most_that_a_return_can_be(gamma, horizon, most):
    mdp = dp.MDP.from_table([[[(0.5, 0, 1.0), (0.5, 0, -2.0), (0.0, 0, 50.0)]]], gamma, horizon)
    assert bound(mdp) == pytest.approx(most, rel=1e-12)


def test_nothing_bounds_a_return_that_may_go_on():
    assert bound(dp.MDP.from_table([[[(0.5, 0, 1.0), (0.5, 1, 1.0)]], []], 1.0)) == np.inf


def test_a_process_does_not_change():
    mdp = dp.MDP.from_table(SURE, 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        mdp.gamma = 0.5
    assert mdp.probability.shape == (2, 1, 1)  # No action beyond those of the table.


def test_the_step_that_reaches_too_many_pairs_is_named():
    mdp = dp.MDP.from_table([[[(0.5, 0, 0.0), (0.5, 0, 1.0)]]], 0.9, horizon=20)
    with pytest.raises(MDPError, match="more than 20 pairs of state and reward are reached after 5 steps"):
        dp.execute(mdp, np.array([0]), max_pairs=20)  # After 4 there are 16.


def test_the_first_wrong_action_is_named():
    mdp = dp.MDP.from_table([[[(0.5, 1, 0.0), (0.5, 2, 0.0)]], [[(1.0, 3, 0.0)]], [[(1.0, 3, 0.0)]], []], 1.0)
    with pytest.raises(MDPError, match="step 1, state 1: action 7 was given"):
        dp.execute(mdp, np.array([0, 7, 8, 0]))


def test_probabilities_are_rounded():
    thirds = [(1 / 3 + 1e-10, 1, reward) for reward in (0.0, 3.0, 6.0)]
    assert dp.solve(dp.MDP.from_table([[thirds], []], 1.0, 1), objectives.Mean()).value == pytest.approx(3.0)


def test_only_what_can_be_reached_is_kept():
    """From 3, which an outcome that never happens would leave for 0."""
    table = [
        [[(1.0, 1, 7.0)]],
        [[(1.0, 2, 8.0)]],
        [],
        [[(1.0, 4, 1.0), (0.0, 0, 9.0)]],
        [[(1.0, 5, 2.0)]],
        [],
    ]
    kept = dp.MDP.from_table(table, 1.0).reachable(3)
    assert kept.start == 0
    np.testing.assert_array_equal(kept.probability[:, 0, 0], [1, 1, 0])
    np.testing.assert_array_equal(kept.next_state[:2, 0, 0], [1, 2])
    np.testing.assert_array_equal(kept.reward[:2, 0, 0, 0], [1, 2])
    assert len(kept.reward) == len(kept.next_state) == 3
    last = dp.MDP.from_table(table, 1.0).reachable(5)
    assert (len(last.probability), last.start, last.terminal.all()) == (1, 0, True)


def test_what_is_the_same_but_for_rounding():
    assert rounding(0.0) == pytest.approx(1e-9) and rounding(-3.0) == pytest.approx(4e-9)
    np.testing.assert_allclose(rounding(np.array([1.0, 1e6])), [2e-9, 1e-3], rtol=1e-5)


def test_of_the_best_the_largest_mean_then_the_first():
    q = np.array([[3.0, 5.0, 5.0 - 1e-10, 5.0, 4.0], [-np.inf, 1.0, 1.0 - 1e-8, 0.0, 1.0]])
    mean = np.array([[9.0, 1.0, 2.0, 2.0 + 1e-10, 9.0], [7.0, 2.0, 8.0, 9.0, 2.0]])
    best, good = choose(q, mean)
    np.testing.assert_array_equal(good, [[0, 1, 1, 1, 0], [0, 1, 0, 0, 1]])
    np.testing.assert_array_equal(best, [2, 1])


def test_first_actions_of_all_stocks_that_serve():
    """Each of two laws of the same CVaR has its own best stock, from which the other is worse."""
    wide = [(0.25, 1, 0.0), (0.25, 1, 2.0), (0.5, 1, 5.0)]
    for actions, wanted in (([wide, [(1.0, 1, 1.0)]], [0, 1]), ([wide, [(1.0, 1, 0.9)]], [0])):
        found = dp.solve(dp.MDP.from_table([actions, []], 1.0, 1), objectives.CVaR(0.5))
        assert found.value == pytest.approx(1.0)
        assert found.first_actions == wanted
        assert found.gap == 0


def test_stocks_are_sought_in_parts(monkeypatch):
    """Of many stocks only so many at a time fit in memory."""
    mdp, stocks = dp.MDP.from_table(COIN, 1.0, 1), np.linspace(-5, 5, 7)[:, None]
    whole = Unrolled(mdp).values(objectives.TwoSlope(0, 1), stocks)
    monkeypatch.setattr(exact, "_CELLS", 9)  # Of 4 outcomes of 2 actions, two at a time.
    for found, wanted in zip(Unrolled(mdp).values(objectives.TwoSlope(0, 1), stocks), whole, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_stocks_of_a_spectral_objective_descend():
    """As quantiles ascend: of three returns six pairs, each less two of them."""
    planner = Unrolled(dp.MDP.from_table([[[(0.5, 1, 1.0), (0.25, 1, 2.0), (0.25, 1, 4.0)]], []], 1.0, 1))
    stocks, spacing = outer._candidates(planner, objectives.Spectral([(0.2, 0.5), (0.7, 0.5)]))
    assert sorted(map(tuple, stocks)) == [(-4, -4), (-2, -4), (-2, -2), (-1, -4), (-1, -2), (-1, -1)]
    assert spacing == 0


@pytest.mark.parametrize(("levels", "most", "kept"), [(1, 5, 5), (2, 16, 4)])
def test_of_many_returns_some_are_tried(monkeypatch, levels, most, kept):
    """Evenly chosen, both ends among them; how far they are apart is said."""
    outcomes = [(0.01, 1, float(reward)) for reward in range(100)]
    planner = Unrolled(dp.MDP.from_table([[outcomes], []], 1.0, 1))
    monkeypatch.setattr(outer, "_MOST_STOCKS", most)
    objective = objectives.CVaR(0.5) if levels == 1 else objectives.Spectral([(0.2, 0.5), (0.7, 0.5)])
    stocks, spacing = outer._candidates(planner, objective)
    one = np.unique(stocks[:, 0])
    assert len(one) == kept and (one[0], one[-1]) == (-99, 0)
    assert spacing == np.diff(one).max() == np.ceil(99 / (kept - 1))
    gap = dp.solve(planner.mdp, objective).gap
    assert gap > 0 if levels == 1 else np.isnan(gap)  # Of vectors no slope is known.


def test_peaks_are_the_highest_first():
    """No plateau counts twice, and neighbours of a higher one not at all."""
    found = np.array([1.0, 0.0, 3.0, 3.0, 2.0, 5.0, 4.0, 6.0])
    assert outer._peaks(found, 1).tolist() == [7, 5, 3, 0]
    assert outer._peaks(found, 2).tolist() == [7, 5, 6, 2, 3, 4, 0, 1]
    assert outer._peaks(np.arange(20.0), 2).tolist() == list(range(19, 11, -1))


@pytest.mark.parametrize(
    ("rewards", "strict", "stock", "wanted"),
    [
        ([(1.0, 0.1)] * 8, False, -0.8, 1.0),  # In floats eight times 0.1 is less than 0.8,
        ([(1.0, 0.1)] * 8, True, -0.8, 0.0),
        ([(0.5, 0.1), (0.5, 0.2)] * 3, True, -0.3, 0.875),  # and three times more than 0.3.
    ],
)
def test_a_threshold_is_met_but_for_rounding(rewards, strict, stock, wanted):
    width = int(1 / rewards[0][0])
    steps = [rewards[index : index + width] for index in range(0, len(rewards), width)]
    table = {at: {0: [(p, at + 1, reward) for p, reward in each]} for at, each in enumerate(steps)}
    mdp = dp.MDP.from_table(table | {len(steps): {}}, 1.0, len(steps))
    assert dp.solve(mdp, objectives.Threshold(strict), stock=stock).value == pytest.approx(wanted)


def test_without_a_step_to_make_nothing_is_obtained():
    mdp = dp.MDP.from_table(FOREVER, 0.5, 0)
    assert dp.stock_free(mdp, objectives.CVaR(0.5)).value == dp.solve(mdp, objectives.Mean()).value == 0


def test_stocks_of_vectors_are_not_scalars():
    mdp = dp.MDP.from_table({0: {0: [(1.0, 1, (1.0, 2.0))]}, 1: {}}, 1.0, 1)
    with pytest.raises(MDPError, match="stocks of 2 coordinates are wanted; scalar ones were given"):
        dp.best_actions(mdp, objectives.Norm(), np.zeros(3))
