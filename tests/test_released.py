"""Runs that earlier releases left go on, and their parameters are read, as those of this one."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from agents import evaluation, experiment
from valuelearn.types import FunctionalEnv

pytestmark = pytest.mark.usefixtures("quick_compilation")
RELEASED = Path(__file__).parent / "released"
RUNS = sorted(path for path in RELEASED.glob("*/*") if path.is_dir())


def test_every_agent_is_here():
    assert {path.name for path in RUNS} == set(experiment.AGENTS)


@pytest.mark.parametrize("released", RUNS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_run_of_a_release(released, call, tmp_path, monkeypatch):
    monkeypatch.chdir(released.parent)  # Where the dataset is.
    run = Path(shutil.copytree(released / "interrupted", tmp_path / "run"))
    said = call("resume", run)
    assert "the run goes on at " in said and "seed 0" in said
    cfg = experiment.load_run(released / "finished")
    env = experiment.make_env(cfg)
    assert isinstance(env, FunctionalEnv)
    (learner,) = evaluation.learners(cfg, released / "finished" / "params", env.spec)
    leaves = jax.tree.leaves(learner.params)
    assert leaves and all(np.isfinite(x).all() for x in leaves) and any(np.any(x) for x in leaves)
