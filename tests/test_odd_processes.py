"""Processes, and what solvers are asked of them, that nobody would give on purpose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.odd import COIN, DTYPES, NO_NUMBERS, ODD_NUMBERS, SHAPES, TABLE, few, made, told
from valuelearn import dp, objectives
from valuelearn.dp.categorical import Lattice, policy_iteration

pytestmark = pytest.mark.usefixtures("quick_compilation")


@st.composite
def tables(draw):
    """A table of a process, with something else in one place."""
    table = [[[[0.5, 1, 1.0], [0.5, 1, -1.0]], [[1.0, 0, 0.0]]], []]
    parent, depth = table, draw(st.integers(0, 3))
    for _ in range(depth):
        if not isinstance(parent[0], list) or not parent[0]:
            break
        parent = parent[0]
    parent[draw(st.integers(0, len(parent) - 1))] = draw(ODD_NUMBERS)
    return table


@few
@given(table=tables(), gamma=st.sampled_from([0.9, 1.0]), horizon=st.sampled_from([None, 2]))
def test_tables_of_processes(table, gamma, horizon):
    try:
        made = dp.MDP.from_table(table, gamma, horizon)
    except dp.MDPError as refusal:
        told(str(refusal), ["state", "table", "gamma"])
    else:
        assert made.probability.shape == made.next_state.shape == made.reward.shape[:3]
        np.testing.assert_allclose(made.probability.sum(-1)[made.legal], 1)


@few
@given(data=st.data())
def test_arrays_of_processes(data):
    """One state that stays, with one odd array."""
    arrays = {"probability": np.ones((1, 1, 1)), "next_state": np.zeros((1, 1, 1), int)}
    arrays["reward"] = np.ones((1, 1, 1, 1))
    name = data.draw(st.sampled_from(sorted(arrays)))
    dtype, shape = data.draw(st.sampled_from(DTYPES + NO_NUMBERS)), arrays[name].shape
    arrays[name] = np.round(made(data.draw(st.just(shape) | SHAPES), "float32") + 0.5).astype(dtype)
    if name == "next_state":
        arrays[name] = np.zeros(arrays[name].shape).astype(dtype)
    kinds = "iu" if name == "next_state" else "iufV"  # V is that of bfloat16.
    right = arrays[name].ndim == len(shape) and arrays[name].shape[:3] == (1, 1, 1) and arrays[name].size
    if right and arrays[name].dtype.kind in kinds:
        assert dp.MDP(**arrays, gamma=0.9).probability.shape == (1, 1, 1)
    else:
        with pytest.raises(dp.MDPError) as refusal:
            dp.MDP(**arrays, gamma=0.9)
        told(str(refusal.value), arrays)


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        ({"quantiles": 2.5}, "quantiles is 2.5; a whole number is wanted"),
        ({"stock": "x"}, "stock is 'x'; a number is wanted"),
        ({"stocks": Lattice(1, -1, 3)}, "low 1 was given, less than high -1 is wanted"),
    ],
)
def test_quantiles_of_what_is_none(odd, sentence):
    with pytest.raises(dp.MDPError, match=sentence):
        dp.by_quantiles(**{"mdp": COIN, "objective": objectives.Mean(), "stocks": Lattice(-1, 1, 2)} | odd)


def test_actions_that_do_not_exist():
    """They once took their share of the law with them."""
    with pytest.raises(dp.MDPError, match="step 0, state 0: action 2 was given"):
        dp.execute(COIN, np.array([2, 0]))
    stays = dp.MDP.from_table(TABLE, 0.9)
    with pytest.raises(dp.MDPError, match="state 0: an action that does not exist"):
        policy_iteration(stays, objectives.Mean(), Lattice(-1, 1, 3), Lattice(-1, 1, 3), np.full((2, 3), 2))


def test_every_coordinate_of_a_stock_obtains_a_scalar_return():
    """Of laws of scalar returns at a vector of stocks; they were once read as one vector."""
    tails = objectives.Spectral([(0.5, 0.5), (1.0, 0.5)])
    law = dp.Law(np.array([1.0, 2.0]), np.array([0.5, 0.5]))
    assert law.score(objectives.Norm(), [-1.0]) == -0.5
    assert law.score(tails.utility, [-2.0, -1.0]) == -0.5
    assert dp.solve(COIN, objectives.Norm(), [0.5]).value == -0.5
