"""Ensembles of critics, and what they say together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelearn import ensembles, heads, networks

MEMBERS, BATCH = 5, 3


@pytest.fixture(scope="module")
def critics():
    head = heads.make("c51", v_min=-2, v_max=2, num_bins=9)
    one = networks.vector(head.size, hidden=(8,), init="lecun_normal")
    return one, ensembles.ensemble(one, MEMBERS)


def test_members_differ_and_answer_as_they_would_alone(critics):
    one, all_of_them = critics
    keys = jax.random.split(jax.random.key(0), 3)
    obs, action = jax.random.normal(keys[0], (BATCH, 4)), jax.random.normal(keys[1], (BATCH, 2))
    params = all_of_them.init(keys[2], obs, action)
    out = all_of_them.apply(params, obs, action)
    assert out.shape == (MEMBERS, BATCH, 9)
    for index in range(MEMBERS):
        alone = one.apply(jax.tree.map(lambda x, index=index: x[index], params), obs, action)
        np.testing.assert_allclose(out[index], alone, rtol=1e-5, atol=1e-6)
    assert np.std(out, axis=0).min() > 0


@pytest.mark.parametrize("name", [name for name in heads.NAMES if name != "iqn"])
def test_the_lowest_is_a_whole_output(name):
    head = heads.make(name, num_quantiles=9, num_bins=9)
    out = 3 * jax.random.normal(jax.random.key(1), (MEMBERS, head.size))
    chosen = ensembles.together(head, out, "lowest")
    assert head.value(chosen) == head.value(out).min()
    assert (out == chosen).all(-1).sum() == 1


def test_the_mean_of_laws_averages_probabilities():
    head = heads.make("c51", v_min=0, v_max=2, num_bins=3)
    out = 20 * jnp.eye(3)[:2]  # One critic is sure of 0, the other of 1.
    returns, probabilities = head.atoms(ensembles.together(head, out, "mean"))
    np.testing.assert_allclose(returns, [0, 1, 2])
    np.testing.assert_allclose(probabilities, [0.5, 0.5, 0], atol=1e-6)


@pytest.mark.parametrize("name", [name for name in heads.NAMES if name != "iqn"])
def test_the_mean_has_the_mean_value(name):
    head = heads.make(name, num_quantiles=9, num_bins=9)
    out = 3 * jax.random.normal(jax.random.key(1), (MEMBERS, head.size))
    found = head.value(ensembles.together(head, out, "mean"))
    np.testing.assert_allclose(found, head.value(out).mean(), atol=1e-4)


def test_a_subset_is_drawn_without_replacement():
    out = jnp.arange(MEMBERS)[:, None, None] * jnp.ones((1, 2, 4))
    counts = np.zeros(MEMBERS)
    for key in jax.random.split(jax.random.key(0), 200):
        members = np.asarray(ensembles.subset(out, 2, key))[:, 0, 0].astype(int)
        assert len(set(members)) == 2
        counts[members] += 1
    assert counts.min() > 50  # 80 are expected, with a standard deviation of 7.
    assert ensembles.subset(out, MEMBERS, jax.random.key(0)) is out


def test_the_highest_quantiles_of_all_are_dropped():
    out = jnp.array([[1.0, 7.0, 8.0, 9.0], [0.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(ensembles.truncated(out, 1), [0, 1, 2, 3, 4, 7])
    np.testing.assert_array_equal(ensembles.truncated(out, 0), [0, 1, 2, 3, 4, 7, 8, 9])
    returns, probabilities = heads.make("qr", num_quantiles=4).atoms(ensembles.truncated(out, 1))
    assert returns.mean() == pytest.approx((returns * probabilities).sum())


def test_alignment_is_the_sum_over_pairs():
    gradients = np.asarray(jax.random.normal(jax.random.key(0), (MEMBERS, BATCH, 4)))
    unit = gradients / np.linalg.norm(gradients, axis=-1, keepdims=True)
    cosines = np.einsum("ibd,jbd->bij", unit, unit)
    wanted = (cosines.sum((1, 2)) - MEMBERS) / (MEMBERS - 1)
    np.testing.assert_allclose(ensembles.alignment(gradients), wanted, atol=1e-5)
    np.testing.assert_allclose(ensembles.alignment(np.ones((MEMBERS, 1, 4))), [MEMBERS], rtol=1e-5)
    np.testing.assert_allclose(ensembles.alignment(np.eye(4)[:, None]), [0.0], atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12])
def test_what_has_no_direction_pushes_nothing(scale):
    gradients = jnp.ones((MEMBERS, 1, 4)).at[0].multiply(scale)
    value, slope = jax.value_and_grad(lambda x: ensembles.alignment(x).sum())(gradients)
    assert value == pytest.approx((MEMBERS - 1) * (MEMBERS - 2) / (MEMBERS - 1))
    assert np.isfinite(slope).all() and (slope[0] == 0).all()
