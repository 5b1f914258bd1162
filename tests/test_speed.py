"""What the benchmark of speed compares does the same work."""

import numpy as np
import pytest

from benchmarks.peers.numpy_dp import PROJECT, random_process
from benchmarks.peers.numpy_dp import value_iteration as in_numpy
from benchmarks.speed.dp import TASK
from valuelearn import dp, objectives
from valuelearn.dp.categorical import Lattice, value_iteration


@pytest.mark.parametrize("project", PROJECT.values(), ids=PROJECT)
def test_laws_in_numpy_are_ours(project):
    process, sweeps = random_process(12, TASK), 6
    stocks, returns = Lattice(-20, 20, 23), Lattice(-10, 10, 31)  # Both too narrow, so that ends are met.
    mdp = dp.MDP.from_table(process, TASK["gamma"], sweeps)
    ours = value_iteration(mdp, objectives.TwoSlope(0, 1), stocks, returns).probabilities
    found = in_numpy(process, TASK["gamma"], stocks.values(), returns.values(), sweeps, project)
    assert {len(actions) for actions in process} == {2, 3, 4}
    np.testing.assert_allclose(found, ours, atol=1e-12)
