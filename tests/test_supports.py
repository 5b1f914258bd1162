"""Where bins lie: both conventions, every transform, and what falls outside."""

import typing

import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from hypothesis import given
from hypothesis import strategies as st

from valuelearn import supports

TRANSFORMS = typing.get_args(supports.TransformName)
RETURNS = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(("v_min", "v_max"), [(-10.0, 10.0), (0.0, 100.0), (-3.0, -1.0), (1e-3, 1e5)])
def test_locations_run_from_v_min_to_v_max(v_min, v_max, name):
    points = supports.locations(v_min, v_max, 51, name)
    assert (points[0], points[-1], points.shape) == (v_min, v_max, (51,))
    np.testing.assert_allclose(np.diff(supports.transform(name).forward(points, np), 2), 0, atol=1e-10)
    assert (np.diff(points) > 0).all()


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("num_bins", [2, 5, 51, 128])
def test_conventions(num_bins, name):
    forward = supports.transform(name).forward
    low, high = forward(-2.0, np), forward(30.0, np)
    tiles = supports.edges(-2.0, 30.0, num_bins, "edges", name)
    around = supports.edges(-2.0, 30.0, num_bins, "centers", name)
    assert tiles.shape == around.shape == (num_bins + 1,)
    np.testing.assert_allclose(np.diff(tiles), (high - low) / num_bins)
    np.testing.assert_allclose((tiles[0], tiles[-1]), (low, high))
    centers = (around[:-1] + around[1:]) / 2
    np.testing.assert_allclose(centers, np.linspace(low, high, num_bins), atol=1e-12)
    np.testing.assert_allclose(
        forward(supports.locations(-2.0, 30.0, num_bins, name), np), centers, atol=1e-12
    )


@pytest.mark.parametrize("make", [supports.locations, supports.edges])
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((1.0, 1.0, 51), "v_min 1.0 must lie below v_max 1.0"),
        ((2.0, 1.0, 51), "v_min 2.0 must lie below v_max 1.0"),
        ((float("nan"), 1.0, 51), "v_min nan must lie below"),
        ((0.0, 1.0, 1), "num_bins 1 must be at least 2"),
    ],
)
def test_an_empty_support_is_refused(make, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        make(*arguments)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="transform 'log' is not one of identity, symlog"):
        supports.transform("log")
    with pytest.raises(ValueError, match="convention 'middle' is not one of edges, centers"):
        supports.edges(0.0, 1.0, 5, "middle")


@pytest.mark.parametrize("name", TRANSFORMS)
@given(x=RETURNS, step=st.floats(1e-6, 1e3))
def test_transforms_are_odd_increasing_and_invertible(name, x, step):
    coordinate = supports.transform(name)
    y = coordinate.forward(x, np)
    assert coordinate.forward(-x, np) == -y
    assert coordinate.inverse(-y, np) == -coordinate.inverse(y, np)
    assert coordinate.forward(x + step, np) > y
    np.testing.assert_allclose(coordinate.inverse(y, np), x, rtol=1e-12)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_float32_round_trip_keeps_small_and_large_returns(name):
    coordinate = supports.transform(name)
    x = jnp.concatenate([jnp.geomspace(1e-30, 1e12, 200), jnp.zeros(1)])
    np.testing.assert_allclose(coordinate.inverse(coordinate.forward(x)), x, rtol=5e-6)


@given(x=RETURNS)
def test_signed_hyperbolic_against_rlax(x):
    coordinate = supports.transform("signed_hyperbolic")
    np.testing.assert_allclose(coordinate.forward(x, np), rlax.signed_hyperbolic(x), rtol=1e-5, atol=1e-6)
    y = np.clip(x, -2e3, 2e3)
    # rlax's inverse loses digits to cancellation.
    np.testing.assert_allclose(coordinate.inverse(y, np), rlax.signed_parabolic(y), rtol=1e-3, atol=1e-3)


def test_clipped_mass():
    returns = jnp.asarray([[-3.0, -1.0, 0.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    probabilities = jnp.asarray([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_allclose(supports.clipped_mass(returns, probabilities, -1.0, 1.0), [0.2, 0.35])
    np.testing.assert_allclose(supports.clipped_mass(returns, probabilities, -3.0, 3.0), [0.0, 0.0])


def test_clipped_mass_of_scalars():
    targets = jnp.asarray([-11.0, 0.0, 10.0, 10.5, jnp.inf])[:, None]
    np.testing.assert_allclose(
        supports.clipped_mass(targets, jnp.ones_like(targets), -10.0, 10.0), [0.2, 0.4], rtol=1e-6
    )
