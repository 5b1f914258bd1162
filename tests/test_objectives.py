"""Objectives against sorted samples, and what they say of themselves."""

import dataclasses
import math
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from valuelearn import objectives

OBJECTIVES = (
    objectives.Mean(),
    objectives.TwoSlope(1.0, 2.0),
    objectives.Squared(),
    objectives.Threshold(),
    objectives.Exponential(1.0),
    objectives.Norm(),
    objectives.Constraint(2.0),
    objectives.Spectral([(0.2, 0.5), (0.7, 0.5)]).utility,
    objectives.CVaR(0.5),
    objectives.OptimisticCVaR(0.5),
    objectives.MeanCVaR(0.5, 0.5),
    objectives.Spectral([(0.2, 0.5), (0.7, 0.5)]),
    objectives.OCE(objectives.Squared()),
)
SAMPLES = st_numpy.arrays(np.float32, 20, elements=st.floats(-100, 100, width=32))


@given(returns=SAMPLES, worst=st.integers(1, 20))
def test_cvar_is_the_mean_of_the_worst_samples(returns, worst):
    score = objectives.CVaR(worst / 20).score(jnp.asarray(returns), jnp.full(20, 1 / 20))
    np.testing.assert_allclose(score, np.sort(returns)[:worst].mean(), rtol=1e-4, atol=1e-3)


@given(
    returns=SAMPLES, counts=st_numpy.arrays(np.int64, 20, elements=st.integers(1, 5)), tau=st.floats(0.05, 1)
)
def test_cvar_of_unequal_probabilities(returns, counts, tau):
    total = counts.sum()
    score = objectives.CVaR(tau).score(jnp.asarray(returns), jnp.asarray(counts / total, jnp.float32))
    fine = np.sort(np.repeat(returns, counts)).astype(np.float64)
    share = np.clip(tau * total - np.arange(total), 0, 1)  # The last sample may count in part.
    np.testing.assert_allclose(score, share @ fine / share.sum(), rtol=1e-3, atol=1e-3)


@given(returns=SAMPLES)
def test_cvar_of_everything_is_the_mean(returns):
    law = jnp.asarray(returns), jnp.full(20, 1 / 20)
    np.testing.assert_allclose(objectives.Mean().score(*law), returns.mean(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(objectives.CVaR(1.0).score(*law), returns.mean(), rtol=1e-4, atol=1e-3)


@given(returns=SAMPLES, small=st.floats(0.05, 1), large=st.floats(0.05, 1))
def test_cvar_increases_with_tau(returns, small, large):
    small, large = sorted((small, large))
    law = jnp.asarray(returns), jnp.full(20, 1 / 20)
    assert objectives.CVaR(small).score(*law) <= objectives.CVaR(large).score(*law) + 1e-3


@pytest.mark.parametrize("objective", [objectives.Mean(), objectives.CVaR(0.3)])
def test_leading_axes(objective):
    returns = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 20)))
    score = objective.score(returns, jnp.full(20, 1 / 20))
    assert score.shape == (4, 3)
    np.testing.assert_allclose(score[2, 1], objective.score(returns[2, 1], jnp.full(20, 1 / 20)), rtol=1e-6)


def test_only_the_mean_is_linear():
    assert objectives.Mean.linear
    assert not objectives.CVaR.linear


def test_every_name_has_an_objective():
    assert get_args(objectives.Name) == tuple(objectives.BY_NAME)


def test_utilities_are_named_apart():
    utilities = [name for name, of in objectives.BY_NAME.items() if hasattr(of, "degree")]
    assert get_args(objectives.UtilityName) == tuple(utilities)


@pytest.mark.parametrize(
    ("utility", "slope"),
    [
        (objectives.Mean(), 1.0),
        (objectives.TwoSlope(-3, 1), 3.0),
        (objectives.CVaR(0.1).utility, 1.0),
        (objectives.Squared(), np.nan),
        (objectives.Norm(), np.nan),
    ],
)
def test_the_largest_slope(utility, slope):
    np.testing.assert_equal(utility.slope, slope)


def test_only_an_exponential_may_need_the_time():
    assert objectives.Exponential(1.0, perspective=True).perspective
    assert not objectives.Exponential(1.0).perspective
    assert not objectives.Mean().perspective


def test_levels_are_in_the_order_of_tau():
    spectral = objectives.Spectral([(1.0, 0.25), (0.2, 0.75)])
    assert spectral == objectives.Spectral([(0.2, 0.75), (1.0, 0.25)])
    assert spectral.weights == (0.75, 0.25)
    law = np.arange(10.0), np.full(10, 0.1)
    np.testing.assert_allclose(spectral.stock(*law), [-1, -9])
    np.testing.assert_allclose(spectral.score(*law), 0.75 * 0.5 + 0.25 * 4.5)


@pytest.mark.parametrize("of", [objectives.CVaR, objectives.OptimisticCVaR])
def test_a_share_that_is_none_is_refused_by_name(of):
    name = {kind: name for name, kind in objectives.BY_NAME.items()}[of]
    with pytest.raises(objectives.ObjectiveError, match=f"^{name}: tau 0 was given"):
        of(0.0)


@pytest.mark.parametrize("of", OBJECTIVES, ids=str)
def test_objectives_are_values(of):
    """Compiled functions are kept by their hash, and nobody changes one under them."""
    again = dataclasses.replace(of)
    assert again == of and hash(again) == hash(of)
    with pytest.raises(dataclasses.FrozenInstanceError):
        of.tau = 0.5


def test_a_level_of_one_is_reached_by_many_equal_chances():
    """Twenty thousand times 1 / 20,000 rounds to less than 1."""
    returns, chances = np.arange(20_000.0), np.full(20_000, 1 / 20_000)
    assert objectives.CVaR(1.0).stock(returns, chances) == -19_999


@pytest.mark.parametrize(
    "of",
    [
        objectives.CVaR(0.3),
        objectives.OptimisticCVaR(0.3),
        objectives.MeanCVaR(0.3, 0.2),
        objectives.Spectral([(0.2, 0.7), (0.6, 0.3)]),
        objectives.OCE(objectives.TwoSlope(0.4, 3.0)),
        objectives.OCE(objectives.Exponential(0.5)),
        objectives.OCE(objectives.Squared()),
    ],
    ids=str,
)
def test_an_outer_objective_is_its_utility_at_the_best_stock(of):
    random = np.random.default_rng(0)
    returns, probabilities = random.normal(size=20), random.dirichlet(np.ones(20))
    worth = returns if of.utility.dimensions is None else np.repeat(returns[:, None], 2, 1)

    def at(stock):
        value = of.scale * of.utility.score(worth, probabilities, stock)
        return value - np.asarray(of.weights) @ np.atleast_1d(stock)

    best = of.stock(returns, probabilities)
    np.testing.assert_allclose(of.score(returns, probabilities), at(best), rtol=1e-12)
    sign = 1 if of.sense == "max" else -1
    for moved in random.normal(size=(50, *np.shape(best))):
        assert sign * at(best + moved) <= sign * at(best)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: objectives.CVaR(-0.1), "cvar: tau -0.1 was given, more than 0 and at most 1 is wanted"),
        (lambda: objectives.CVaR(1.1), "cvar: tau 1.1 was given"),
        (lambda: objectives.MeanCVaR(0.5, -0.1), "mean_cvar: weight -0.1 was given, 0 to 1 is wanted"),
        (lambda: objectives.MeanCVaR(0.5, 1.1), "mean_cvar: weight 1.1 was given"),
        (
            lambda: objectives.Spectral([(0.2, -0.5), (0.7, 1.5)]),
            "weight -0.5 was given, at least 0 is wanted",
        ),
        (lambda: objectives.Spectral([(0.2, 0.5), (0.7, 0.6)]), "do not sum to 1"),
        (lambda: objectives.OCE(objectives.TwoSlope(1.1, 2.0)), "above <= 1 <= below"),
        (lambda: objectives.OCE(objectives.TwoSlope(0.5, 0.9)), "above <= 1 <= below"),
        (lambda: objectives.OCE(objectives.Exponential(-1.0)), "a positive rate"),
        (lambda: objectives.Exponential(0.0), "prefers nothing"),
        (lambda: objectives.Norm(0.5), "order 0.5 was given, at least 1 is wanted"),
    ],
)
def test_objectives_that_are_none_are_refused(make, sentence):
    with pytest.raises(objectives.ObjectiveError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("utility", "wanted"),
    [
        (objectives.Mean(), lambda x, y: x),
        (objectives.TwoSlope(0.5, 3.0), lambda x, y: 0.5 * max(x, 0) + 3 * min(x, 0)),
        (objectives.Squared(), lambda x, y: -(x**2)),
        (objectives.Threshold(), lambda x, y: float(x >= 0)),
        (objectives.Threshold(strict=True), lambda x, y: float(x > 0)),
        (objectives.Norm(1), lambda x, y: -abs(x) - abs(y)),
        (objectives.Norm(2), lambda x, y: -math.hypot(x, y)),
        (objectives.Constraint(3.0), lambda x, y: x + 3 * min(y, 0)),
        (
            objectives.Spectral([(0.2, 0.25), (0.5, 0.75)]).utility,
            lambda x, y: 1.25 * min(x, 0) + 1.5 * min(y, 0),
        ),
    ],
)
def test_utilities_are_their_formulas(utility, wanted):
    points = [(x, y) for x in (-2.0, -0.5, 0.0, 0.5, 3.0) for y in (-1.5, 0.0, 2.5)]
    given = np.array(
        points
        if utility.dimensions == 2 or isinstance(utility, objectives.Norm)
        else [[x] for x, _ in points]
    )
    given = given if given.shape[-1] == 2 else given[:, 0]
    np.testing.assert_allclose(utility(given), [wanted(x, y) for x, y in points], rtol=1e-12)


@pytest.mark.parametrize("of", OBJECTIVES, ids=str)
def test_utilities_go_into_compiled_functions(of):
    """What is a number there may be traced; the rest is part of the function."""
    utility = getattr(of, "utility", of)
    x = np.array([[-1.5, 0.5], [2.0, -0.25]])
    found = jax.jit(lambda utility, x: utility(x))(utility, x)
    np.testing.assert_allclose(found, utility(x), rtol=1e-6)
    assert hash(utility) == hash(jax.tree.unflatten(*reversed(jax.tree.flatten(utility))))


def test_slopes_of_a_utility_are_traced_together():
    below = jnp.array([0.5, 1.0, 2.0])
    found = jax.vmap(lambda slope: objectives.TwoSlope(0.0, slope)(jnp.array(-2.0)))(below)
    np.testing.assert_allclose(found, -2 * below)


@pytest.mark.parametrize(
    ("utility", "shape"),
    [(objectives.Mean(), ()), (objectives.Norm(), (2,)), (objectives.Constraint(3.0), (2,))],
)
def test_each_law_has_its_stock(utility, shape):
    """Laws [2, 3] at stocks [2], with a coordinate more for vectors."""
    random = np.random.default_rng(0)
    returns, stocks = random.normal(size=(2, 3, *shape)), random.normal(size=(2, *shape))
    chances = random.dirichlet(np.ones(3), 2)
    found = utility.score(returns, chances, stocks)
    wanted = [chances[i] @ utility(stocks[i] + returns[i]) for i in range(2)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_certainty_equivalents_of_large_returns_are_finite():
    oce = objectives.OCE(objectives.Exponential(1.0))
    for start in (-1e4, -100.0, 0.0, 110.0, 1e4):
        law = np.float32(start) + np.array([0, 1], np.float32), np.full(2, 0.5, np.float32)
        # max_b b - E exp(b - G) is -log(E exp(-G)) - 1.
        expected = start - np.log(np.mean(np.exp(-np.array([0.0, 1.0])))) - 1
        np.testing.assert_allclose(oce.score(*law), expected, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(oce.stock(*law), -1 - expected, rtol=1e-6, atol=1e-5)
    # What has no mass does not count, however bad.
    returns, probabilities = np.array([-1e6, 3.0]), np.array([0.0, 1.0])
    assert oce.score(returns, probabilities) == pytest.approx(2.0)


def test_certainty_equivalents_are_what_their_utilities_are():
    assert not objectives.OCE(objectives.Exponential(1.0)).gamma_indifferent
    assert not objectives.OCE(objectives.Squared()).lipschitz
    assert objectives.OCE(objectives.TwoSlope(0.4, 3.0)).lipschitz
    assert objectives.CVaR(0.1).gamma_indifferent


def test_no_quantile_is_without_mass():
    returns, probabilities = np.linspace(-10, 10, 51, dtype=np.float32), np.zeros(51, np.float32)
    probabilities[[30, 40]] = 0.5
    for tau in (1e-7, 5e-6, 0.1):
        assert objectives.CVaR(tau).stock(returns, probabilities) == -returns[30]
