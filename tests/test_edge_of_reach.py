"""The plane with a distant goal: its optimum, its edge of reach, and telling true values there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import edge_of_reach as plane

GAMMA = 0.97


def test_the_optimum_is_that_of_value_iteration():
    """On the lattice of whole steps, in float64; moves of whole steps are best from there."""
    side = np.arange(-4, 14)
    place = np.stack(np.meshgrid(side, side, indexing="ij"), -1)
    paid = np.exp(-((place - plane.GOAL) ** 2).sum(-1) / (2 * plane.WIDTH**2))
    value, total, whole = np.zeros_like(paid), np.zeros_like(paid), plane.HORIZON

    def best(following):
        padded = np.pad(following, 1, constant_values=-np.inf)
        shifts = [padded[i : i + len(side), j : j + len(side)] for i in range(3) for j in range(3)]
        return np.max(shifts, 0)

    for step in range(2_000):
        value = paid + GAMMA * best(value)
        total = paid + best(total) if step < whole else total
    inside = (np.abs(place) <= 12).all(-1) & (place >= -3).all(-1)
    np.testing.assert_allclose(plane.optimal_value(jnp.asarray(place), GAMMA)[inside], value[inside], 1e-5)
    np.testing.assert_allclose(plane.optimal_return(jnp.asarray(place))[inside], total[inside], 1e-5)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_only_the_last_step_reaches_the_edge(steps, play_functional):
    """And the fastest way out does reach it."""
    played = play_functional(plane.make(64, limit=steps), 4 * steps).step
    depth = np.arange(4 * steps) % steps + 1
    np.testing.assert_array_equal(played.last, np.repeat(depth[:, None] == steps, 64, 1))
    assert (played.discount == 1).all()  # Rollouts are cut; nothing ends.
    at_edge = np.asarray(plane.at_edge(played.next_obs, steps))
    assert not at_edge[depth < steps].any()
    corner = jnp.full(2, plane.START)
    assert plane.at_edge(corner + steps, steps) and not plane.at_edge(corner + steps - 1, steps)


@pytest.mark.parametrize("which", ["edge", "random"])
def test_patched_states_tell_their_value(which, play_functional):
    """As many as are at the edge; for a learner they are where everything ends, for the rollout not."""
    steps = 2
    plain, told = (
        play_functional(plane.patched(plane.make(256, steps), steps, GAMMA, which), 6).step
        for which in ("none", which)
    )
    # The same actions, and so the same first rollouts; later starts are drawn from other keys.
    plain, told = (jax.tree.map(lambda x: x[:steps], step) for step in (plain, told))
    np.testing.assert_array_equal(plain.next_obs, told.next_obs)
    np.testing.assert_array_equal(plain.last, told.last)
    np.testing.assert_array_equal(plain.episode_return, told.episode_return)
    at_edge, patched = np.asarray(plane.at_edge(plain.next_obs, steps)), told.discount == 0
    np.testing.assert_array_equal(patched.sum(1), at_edge.sum(1))
    assert 0 < patched.sum() < patched.size
    assert (patched == at_edge).all() == (which == "edge")
    value = np.asarray(plane.optimal_value(plain.next_obs, GAMMA))
    np.testing.assert_allclose(told.reward, plain.reward + np.where(patched, GAMMA * value, 0), 1e-6)
