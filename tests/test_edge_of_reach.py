"""The plane with a distant goal: its optimum, its edge of reach, and telling true values there."""

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
    """For a learner they are where everything ends, for the rollout not."""
    steps, rollouts, copies = 2, 40, 256
    env = plane.make(copies, steps)
    told = play_functional(plane.patched(env, steps, GAMMA, which), steps * rollouts).step
    at_edge, patched = np.asarray(plane.at_edge(told.next_obs, steps)), told.discount == 0
    np.testing.assert_array_equal(told.last, np.tile(np.array([[False], [True]]), (rollouts, copies)))
    paid = told.reward - np.where(patched, GAMMA * plane.optimal_value(told.next_obs, GAMMA), 0)
    np.testing.assert_allclose(np.diff(told.episode_return, axis=0)[::steps], paid[1::steps], atol=1e-4)
    if which == "edge":
        np.testing.assert_array_equal(patched, at_edge)
        return
    # As many, to chance, but none in the first rollouts, when none had been counted; and at any depth.
    assert not patched[:steps].any()
    counts = [patched[start::steps].sum() for start in range(steps)]
    expected = at_edge[:-steps].sum() / steps
    assert all(abs(count - expected) < 4 * np.sqrt(expected) for count in counts)
    assert (patched & ~at_edge).sum() > 0.5 * patched.sum()


def test_a_plane_that_tells_nothing_is_as_it_was(play_functional):
    """The same actions, and so the same first rollouts; later starts are drawn from other keys."""
    env = plane.make(64, 2)
    plain, told = (play_functional(plane.patched(env, 2, GAMMA, which), 2) for which in ("none", "edge"))
    np.testing.assert_array_equal(plain.step.next_obs, told.step.next_obs)
    np.testing.assert_array_equal(plain.step.episode_return, told.step.episode_return)
