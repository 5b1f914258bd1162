"""Properties that every projection must have, for every target a float can hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from valuelearn import projections, supports

SIGMA_RATIO = 0.75
EXTREMES = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e10, -1e10, 3.4028235e38, -3.4028235e38, np.inf, -np.inf], np.float32
)
ANY_RETURN = st.floats(width=32, allow_nan=False)
WITHIN = st.floats(-10, 10, width=32)
LAW = st_numpy.arrays(np.float32, 21, elements=st.floats(0.125, 1, width=32)).map(lambda p: p / p.sum())

EDGES = {
    convention: jnp.asarray(supports.edges(-10, 10, 51, convention)) for convention in ("edges", "centers")
}
GRIDS = {
    "uniform": jnp.asarray(supports.locations(-10, 10, 51)),
    "two": jnp.asarray(supports.locations(-10, 10, 2)),
    "symlog": jnp.asarray(supports.locations(-10, 10, 51, "symlog")),
    "signed_hyperbolic": jnp.asarray(supports.locations(-10, 10, 51, "signed_hyperbolic")),
}


def _hl_gauss(edges):
    return lambda targets: projections.hl_gauss(targets, edges, SIGMA_RATIO * (edges[1] - edges[0]))


def _spread(locations):
    """`categorical` of a law around the target."""
    law = jnp.asarray([0.25, 0.5, 0.25])
    return lambda targets: projections.categorical(
        targets[..., None] + jnp.asarray([-1.0, 0.0, 1.0]),
        jnp.broadcast_to(law, (*targets.shape, 3)),
        locations,
    )


# Name to (projection of scalars, where the result is read).
PROJECTIONS = {
    **{f"hl_gauss-{k}": (jax.jit(_hl_gauss(e)), (e[:-1] + e[1:]) / 2) for k, e in EDGES.items()},
    **{f"two_hot-{k}": (jax.jit(lambda y, z=z: projections.two_hot(y, z)), z) for k, z in GRIDS.items()},
    **{f"categorical-{k}": (jax.jit(_spread(z)), z) for k, z in GRIDS.items()},
}
every_projection = pytest.mark.parametrize("name", PROJECTIONS)
categorical = jax.jit(projections.categorical)


@every_projection
@given(target=ANY_RETURN)
def test_a_law_for_every_target(name, target):
    probabilities = PROJECTIONS[name][0](jnp.float32(target))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(), 1, atol=1e-6)


@every_projection
def test_a_law_for_extreme_targets_and_nan_for_nan(name):
    project, locations = PROJECTIONS[name]
    probabilities = project(jnp.asarray(EXTREMES))
    assert probabilities.dtype == jnp.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    far = jnp.abs(EXTREMES) > 100
    expected = jnp.where(EXTREMES[far] > 0, locations[-1], locations[0])
    np.testing.assert_allclose(probabilities[far] @ locations, expected, rtol=1e-6)
    assert jnp.isnan(project(jnp.asarray([jnp.nan]))).any()


@every_projection
@given(a=ANY_RETURN, b=ANY_RETURN)
def test_the_reading_increases_with_the_target(name, a, b):
    project, locations = PROJECTIONS[name]
    low, high = project(jnp.asarray([min(a, b), max(a, b)], jnp.float32)) @ locations
    assert low <= high + 1e-5


@pytest.mark.parametrize("grid", GRIDS)
@given(target=WITHIN)
def test_two_hot_keeps_the_value_on_two_neighbours(grid, target):
    project, locations = PROJECTIONS[f"two_hot-{grid}"]
    probabilities = project(jnp.float32(target))
    np.testing.assert_allclose(probabilities @ locations, target, atol=1e-5)
    hot = np.flatnonzero(probabilities)
    assert len(hot) in (1, 2)
    assert hot[-1] - hot[0] == len(hot) - 1


@pytest.mark.parametrize("grid", GRIDS)
@given(returns=st_numpy.arrays(np.float32, 21, elements=WITHIN), law=LAW)
def test_categorical_keeps_the_mean_within_the_support(grid, returns, law):
    projected = categorical(returns, law, GRIDS[grid])
    np.testing.assert_allclose(projected @ GRIDS[grid], returns @ law, atol=2e-5)
    np.testing.assert_allclose(projected.sum(), 1, atol=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
@given(returns=st_numpy.arrays(np.float32, 21, elements=st.floats(-30, 30, width=32)), law=LAW)
def test_categorical_against_rlax(grid, returns, law):
    expected = rlax.categorical_l2_project(np.sort(returns), law, GRIDS[grid])
    np.testing.assert_allclose(categorical(np.sort(returns), law, GRIDS[grid]), expected, atol=2e-6)


@given(target=st.floats(-12, 12, width=32))
def test_two_hot_against_rlax(target):
    # rlax adds 1e-5 to a denominator.
    expected = rlax.transform_to_2hot(jnp.float32(target), -10.0, 10.0, 51)
    np.testing.assert_allclose(PROJECTIONS["two_hot-uniform"][0](jnp.float32(target)), expected, atol=1e-4)


@given(reward=st.floats(-15, 15, width=32), law=LAW)
def test_a_terminal_step_is_the_two_hot_of_its_reward(reward, law):
    projected = categorical(jnp.full(21, reward), law, GRIDS["uniform"])
    np.testing.assert_allclose(
        projected, projections.two_hot(jnp.float32(reward), GRIDS["uniform"]), atol=1e-6
    )


@pytest.mark.parametrize(
    "name", ["hl_gauss-edges", "hl_gauss-centers", "two_hot-uniform", "categorical-uniform"]
)
@pytest.mark.parametrize("bins", [-3, 1, 4])
@pytest.mark.parametrize("target", [-2.3, 0.0, 0.11, 3.0])
def test_a_shift_by_whole_bins_shifts_the_bins(name, bins, target):
    project, locations = PROJECTIONS[name]
    width = locations[1] - locations[0]
    moved = project(target + bins * width)
    np.testing.assert_allclose(moved, np.roll(project(jnp.asarray(target)), bins), atol=5e-6)


@pytest.mark.parametrize("convention", EDGES)
@given(target=WITHIN)
def test_hl_gauss_without_smoothing_is_one_hot(convention, target):
    edges = EDGES[convention]
    probabilities = projections.hl_gauss(jnp.float32(target), edges, 1e-6 * (edges[1] - edges[0]))
    distance = jnp.abs(target - edges).min()
    if distance > 1e-5:
        assert probabilities[jnp.searchsorted(edges, target) - 1] == 1


@pytest.mark.parametrize("ratio", [1e-3, 0.1, 0.75, 2.0, 50.0, 1e4])
def test_hl_gauss_is_a_law_at_any_smoothing(ratio):
    edges = EDGES["edges"]
    probabilities = projections.hl_gauss(jnp.linspace(-40, 40, 401), edges, ratio * (edges[1] - edges[0]))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)


def test_hl_gauss_interior_spread():
    edges = EDGES["edges"]
    width = edges[1] - edges[0]
    targets = jnp.linspace(-7, 7, 101)
    probabilities = PROJECTIONS["hl_gauss-edges"][0](targets)
    centers = (edges[:-1] + edges[1:]) / 2
    variance = (probabilities * (centers - targets[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose(variance, (SIGMA_RATIO * width) ** 2 + width**2 / 12, rtol=2e-4)


@pytest.mark.parametrize("num_quantiles", [1, 2, 200])
def test_quantile_midpoints(num_quantiles):
    fractions = projections.quantile_midpoints(num_quantiles)
    np.testing.assert_allclose(fractions, (np.arange(num_quantiles) + 0.5) / num_quantiles, rtol=1e-6)
    np.testing.assert_allclose(fractions, 1 - fractions[::-1], atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, -1.0])
def test_a_width_that_is_none_is_refused(sigma):
    with pytest.raises(ValueError, match=f"sigma is {sigma}; a number above 0 is wanted"):
        projections.hl_gauss(0.5, np.arange(3.0), sigma)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("target", [-np.inf, -1e30, -1e3, 1e3, 1e30, np.inf])
def test_hl_gauss_far_from_the_support(sigma, target):
    """From bin to bin the mass grows by the same factor, that of the nearest thousand deviations at most."""
    edges = jnp.linspace(-1.0, 1.0, 5)
    law = np.asarray(projections.hl_gauss(jnp.float32(target), edges, sigma))
    assert law.sum() == pytest.approx(1.0, abs=1e-6)
    factor = np.exp(-min(abs(target) / sigma, 1e3) * 0.5 / sigma)
    assert law[0 if target < 0 else -1] == pytest.approx((1 - factor) / (1 - factor**4), abs=0.005)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ratio", [1e-3, 0.01, 0.3, 0.75, 3.0, 30.0, 1e4])
def test_within_the_support_no_logarithm_is_needed(ratio, dtype):
    with jax.enable_x64(dtype == np.float64):
        edges = jnp.asarray(supports.edges(-10, 10, 51), dtype)
        targets = jnp.linspace(-10, 10, 1001, dtype=dtype)
        sigma = dtype(ratio) * (edges[1] - edges[0])
        found = projections.hl_gauss_within(targets, edges, sigma)
        expected = projections.hl_gauss(targets, edges, sigma)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=200 * np.finfo(dtype).eps, atol=30 * np.finfo(dtype).eps)
    # Tails keep their digits, as far down as floats do.
    at = (np.asarray(expected) > 1e-30) & (np.asarray(expected) < 1e-10)
    np.testing.assert_allclose(found[at], expected[at], rtol=500 * np.finfo(dtype).eps)


def test_beyond_the_support_targets_are_clipped():
    edges = EDGES["edges"]
    found = projections.hl_gauss_within(jnp.asarray([-np.inf, -11, 11, 3.4e38]), edges, 0.3)
    expected = projections.hl_gauss_within(jnp.asarray([-10.0, -10, 10, 10]), edges, 0.3)
    np.testing.assert_array_equal(found, expected)
    assert jnp.isnan(projections.hl_gauss_within(jnp.nan, edges, 0.3)).all()
