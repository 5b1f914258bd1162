"""Actions drawn from what networks say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelearn.policies import epsilon_greedy, tanh_gaussian
from valuelearn.types import EnvSpec

DISCRETE = EnvSpec((1,), np.dtype(np.float32), 4, 1)
CONTINUOUS = EnvSpec((1,), np.dtype(np.float32), 0, 1, action_size=3)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-0.4, 2.0)])
def test_the_density_is_that_of_the_actions(mean, std):
    """Among many draws each bin's share is its mass by the density that came with them."""
    draws = 200_000
    action, log_density = tanh_gaussian(
        jnp.full((draws, 1), mean), jnp.full((draws, 1), np.log(std)), jax.random.key(0)
    )
    action, density = np.asarray(action[:, 0]), np.exp(np.asarray(log_density))
    share, edges = np.histogram(action, bins=20, range=(-0.95, 0.95), density=False)
    for index in np.flatnonzero(share > 2_000):
        inside = (action > edges[index]) & (action < edges[index + 1])
        mass = (edges[index + 1] - edges[index]) / (1 / density[inside]).mean()
        assert mass == pytest.approx(share[index] / draws, rel=0.1)


def test_the_density_is_finite_where_the_tanh_is_flat():
    def log_density(mean):
        return tanh_gaussian(mean, jnp.zeros(2), jax.random.key(0))[1]

    for mean in (-100.0, 100.0):
        value, slope = jax.value_and_grad(log_density)(jnp.full(2, mean))
        assert np.isfinite(value) and np.isfinite(slope).all()


def test_coordinates_are_independent():
    key, mean, log_std = jax.random.key(0), jnp.array([0.5, -1.0]), jnp.array([0.1, -0.3])
    noise = jax.random.normal(key, (2,))
    raw = mean + jnp.exp(log_std) * noise
    gaussian = jax.scipy.stats.norm.logpdf(raw, mean, jnp.exp(log_std))
    wanted = (gaussian - jnp.log1p(-(jnp.tanh(raw) ** 2))).sum()
    action, log_density = tanh_gaussian(mean, log_std, key)
    np.testing.assert_allclose(action, jnp.tanh(raw), rtol=1e-6)
    np.testing.assert_allclose(log_density, wanted, rtol=1e-5)


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_a_share_of_actions_is_uniform(spec):
    chosen = jnp.full((40_000, *spec.action_shape), 1, spec.action_dtype)
    action = np.asarray(epsilon_greedy(chosen, 0.5, spec, jax.random.key(0)))
    assert action.dtype == spec.action_dtype
    kept = (action == 1) if spec.num_actions else (action == 1).all(-1)
    by_chance = 0.5 / spec.num_actions if spec.num_actions else 0.0
    assert kept.mean() == pytest.approx(0.5 + by_chance, abs=0.01)
    if spec.action_size:
        others = action[~kept]
        assert np.abs(others.mean(0)).max() < 0.02 and np.abs(others.std(0) - 3**-0.5).max() < 0.01
        assert np.abs(np.corrcoef(others.T) - np.eye(3)).max() < 0.03
