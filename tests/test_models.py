"""Models of the dynamics from the command line: fitted, reported on and loaded; and mistakes."""

import csv
import shutil
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from agents import model_fitting, models
from envs import datasets
from tests.recordings import made
from valuelearn import dynamics
from valuelearn.checkpoint import CheckpointError
from valuelearn.logs import RunFolderError

CONFIG = Path(models.__file__).parent / "dynamics" / "mujoco.yaml"
SMALL = (
    "members=3",
    "elites=2",
    "hidden=[16]",
    "weight_decay=[0.0, 0.0]",
    "most_epochs=2",
    "open_loop_steps=5",
)


def swinging(file, episodes=20, steps=30, **notes):
    """Episodes of what is shaped like gymnasium's pendulum, and moves as a line."""
    chance = np.random.default_rng(0)
    obs = np.zeros((episodes, steps + 1, 3), np.float32)
    action = chance.uniform(-1, 1, (episodes, steps, 1)).astype(np.float32)
    obs[:, 0] = chance.normal(size=(episodes, 3))
    for step in range(steps):
        obs[:, step + 1] = 0.9 * obs[:, step] + action[:, step]
    rows = episodes * steps
    last = np.tile(np.arange(1, steps + 1) == steps, episodes)
    columns = (obs[:, :-1].reshape(rows, 3), action.reshape(rows, 1), obs[:, :-1, 0].ravel())
    made = datasets.Dataset(*columns, np.ones(rows, np.float32), last, last, obs[:, 1:].reshape(rows, 3))
    datasets.save(made._replace(notes=notes), file)
    return file


@pytest.fixture
def call(call):
    """Run `valuelearn model` to an exit code; gives what it printed."""
    return partial(call, "model")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return swinging(tmp_path_factory.mktemp("recorded") / "pendulum.hdf5", env_id="gym/Pendulum-v1")


def test_a_model_is_fitted_reported_on_and_loaded(call, recorded, tmp_path):
    asked = (CONFIG, f"dataset={recorded}", "env=gym/Pendulum-v1", *SMALL)
    folder = tmp_path / "model"
    said = call(*asked, "--out", folder, code=0)
    assert "epoch 2: held-out error" in said and "R^2 of held-out changes" in said
    assert (folder / "report.png").stat().st_size > 10_000
    with (folder / "one_step.csv").open() as file:
        assert [row["predicted"] for row in csv.DictReader(file)] == ["obs_0", "obs_1", "obs_2", "reward"]
    with (folder / "open_loop.csv").open() as file:
        assert [row["steps"] for row in csv.DictReader(file)] == list("12345")
    with (folder / "fit.csv").open() as file:
        errors = [float(value) for name, value in list(csv.DictReader(file))[-1].items() if name != "epoch"]
    fitted = models.load(folder)
    assert len(errors) == 3 and fitted.model.params["low"].shape == (2, 4)
    found = dynamics.predicted(fitted.network, fitted.model, jnp.ones((6, 3)), jnp.zeros((6, 1)))
    assert found.next_obs.shape == (2, 6, 3) and np.isfinite(found.deviation).all()
    # The same again is the same model; and what is there is not written over.
    call(*asked, "--out", tmp_path / "again", code=0)
    assert (tmp_path / "again" / "fit.csv").read_text() == (folder / "fit.csv").read_text()
    assert "exists already" in call(*asked, "--out", folder, code=2)
    shutil.rmtree(folder / "model")
    with pytest.raises(CheckpointError, match="there are no saved parameters"):
        models.load(folder)
    with pytest.raises(RunFolderError, match="there is no model in it"):
        models.load(tmp_path)


def test_a_model_is_fitted_to_what_minari_notes(call, tmp_path):
    """gymnasium's own ids, without a kind."""
    file = swinging(tmp_path / "pendulum.hdf5", env_id="Pendulum-v1")
    call(CONFIG, f"dataset={file}", "env=gym/Pendulum-v1", *SMALL, "--out", tmp_path / "model", code=0)


def test_the_model_goes_along_what_was_recorded_alone():
    """Not into the repeated observation of a terminated row whose next one is not known."""
    dataset = made([(4, True), (4, False), (3, True)])
    dataset.next_obs[[3, 10]] = dataset.obs[[3, 10]]
    dataset = dataset._replace(notes={"unknown_at_termination": True})
    obs, action = model_fitting._windows(dataset, 3, np.random.default_rng(0))
    starts = np.array([0, 4, 5])
    order = np.argsort([np.flatnonzero((dataset.obs == first).all(1))[0] for first in obs[:, 0]])
    np.testing.assert_array_equal(action[order], dataset.action[starts[:, None] + np.arange(3)])
    np.testing.assert_array_equal(obs[order, -1], dataset.next_obs[starts + 2])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["elites=8"], "elites is 8; at most members = 7 is wanted"),
        (["hidden=[16]"], "weight_decay is [2.5e-05, 5e-05, 7.5e-05, 7.5e-05, 0.0001]; 2 numbers are wanted"),
        (["env=mujoco/Ant-v5"], "mujoco/Ant-v5: no rule says when its episodes end"),
        (["env=mujoco/Hoper-v5"], "there is no MuJoCo environment 'Hoper-v5'"),
        (["held_out=1.0"], "held_out"),
        (["env=gym/Pendulum-v1", "dataset={elsewhere}"], "{elsewhere}: it was recorded in gym/Other-v0, and"),
        (["dataset={recorded}"], "{recorded}"),  # Of a pendulum, and a hopper is asked for.
        (
            ["env=gym/Pendulum-v1", "dataset={recorded}", "open_loop_steps=31"],
            "the longest episode has 30 steps",
        ),
        (["env=gym/Pendulum-v1", "dataset={single}"], "it has 1 transitions to learn from; 2 are wanted"),
    ],
)
def test_mistakes_are_one_sentence(call, recorded, tmp_path, arguments, sentence):
    elsewhere = swinging(tmp_path / "elsewhere.hdf5", 1, 10, env_id="gym/Other-v0")
    files = {"recorded": recorded, "elsewhere": elsewhere, "single": swinging(tmp_path / "single.hdf5", 1, 1)}
    said = call(CONFIG, *(text.format(**files) for text in arguments), "--out", tmp_path / "out", code=2)
    assert said.count("\n") == 1 and sentence.format(**files) in said
    assert not (tmp_path / "out").exists()
