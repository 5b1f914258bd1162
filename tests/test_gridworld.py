"""Gridworlds against the tables of the reference vectors, and as environments against their own tables."""

import jax
import numpy as np
import pytest
from test_dp_vectors import VECTORS

from envs.gridworld import GRIDWORLDS, Gridworld, named
from envs.registry import UnknownEnvironmentError
from valuelearn import dp, objectives


@pytest.mark.parametrize(("name", "reference"), [("cliff", "cliff_095"), ("coin", "coin")])
def test_tables_are_those_of_the_vectors(name, reference):
    wanted, grid = VECTORS["mdps"][reference], named(name)
    assert grid.start == wanted["s0"]
    table = grid.table()
    assert len(table) == len(wanted["T"])
    for state, actions in enumerate(wanted["T"]):
        assert len(table[state]) == len(actions)
        for action, outcomes in enumerate(actions):
            np.testing.assert_allclose(sorted(table[state][action]), sorted(map(tuple, outcomes)))


@pytest.mark.parametrize("name", GRIDWORLDS)
def test_the_environment_steps_by_the_table(name):
    grid, envs, steps = GRIDWORLDS[name], 512, 200
    env, table = grid.make(envs, limit=7), grid.table()
    rng = np.random.default_rng(0)
    state, obs = env.init(jax.random.key(0))
    step = jax.jit(env.step)
    counts = np.zeros((grid.num_states, grid.num_actions, grid.num_states))
    length, total = np.zeros(envs, int), np.zeros(envs)
    for index in range(steps):
        action = rng.integers(0, grid.num_actions, envs)
        before = np.asarray(obs).argmax(-1)
        state, found = step(state, action, jax.random.key(index + 1))
        after = np.asarray(found.next_obs).argmax(-1)
        np.add.at(counts, (before, action, after), 1)
        length, total = length + 1, total + np.asarray(found.reward).reshape(envs, -1).sum(-1)
        terminated = np.array([not table[one] for one in after])
        np.testing.assert_array_equal(found.discount, 1.0 - terminated)
        np.testing.assert_array_equal(found.last, terminated | (length == 7))
        np.testing.assert_allclose(found.episode_return, total)
        for at, act, to, paid in zip(before, action, after, np.asarray(found.reward), strict=True):
            assert any(cell == to and np.array_equal(reward, paid) for _, cell, reward in table[at][act])
        last = np.asarray(found.last)
        length, total = np.where(last, 0, length), np.where(last, 0, total)
        obs = found.obs
        assert (np.asarray(obs).argmax(-1)[last] == grid.start).all()
    for at, act in np.argwhere(counts.sum(-1) > 2000):
        chances = np.zeros(grid.num_states)
        for chance, cell, _ in table[at][act]:
            chances[cell] += chance
        np.testing.assert_allclose(counts[at, act] / counts[at, act].sum(), chances, atol=0.02)


def test_walls_and_edges_are_bumped_into():
    table = Gridworld(("S#", ".."), {".": ((1.0, 1.0),)}).table()
    assert [table[0][action][0][1] for action in range(4)] == [0, 0, 2, 0]
    assert table[1] == {}
    assert table[3][0] == [(1.0, 3, 1.0)]  # The wall above: the cell is entered again, and pays.


def test_a_way_around_a_wall():
    grid = Gridworld(("S#G", "..."), {"G": ((1.0, 1.0),)}, ends="G")
    mdp = dp.MDP.from_table(grid.table(), 0.5, start=grid.start)
    assert dp.solve(mdp, objectives.Mean()).value == pytest.approx(0.5**3)


def test_wrong_maps_are_refused():
    with pytest.raises(UnknownEnvironmentError, match="row 1 of the map has 3 cells, row 0 has 2"):
        Gridworld(("..", "..."))
    for rows in ((), ("",)):
        with pytest.raises(UnknownEnvironmentError, match="the map has no cells"):
            Gridworld(rows)
    for rows, ends in ((("#.",), ""), (("G",), "G")):
        with pytest.raises(UnknownEnvironmentError, match="a wall or an end; an S is wanted"):
            Gridworld(rows, ends=ends)
    with pytest.raises(UnknownEnvironmentError, match="did you mean 'cliff'"):
        named("clif")
