"""Every config that ships trains from end to end, made small."""

from pathlib import Path

import jax
import numpy as np
import pytest

from agents import experiment, model_fitting, models
from agents.experiment_config import ExperimentConfig
from envs import datasets
from valuelearn import config, loop
from valuelearn.types import FunctionalEnv

pytestmark = pytest.mark.usefixtures("quick_compilation")  # A handful of updates is not worth more.
FOLDER = Path(experiment.__file__).parent / "configs"
PATHS = sorted(FOLDER.rglob("*.yaml"))
SMALL = {
    # About 5 updates after 160 random steps; networks, heads and optimisers are the configs' own.
    "stock_dqn": ["env.num_envs=4", "agent.replay.capacity=600", "agent.replay.warmup_steps=160"],
    "dqn": ["env.num_envs=4", "agent.replay.capacity=600", "agent.replay.warmup_steps=160"],
    "sac": [
        "agent.replay={capacity: 600, warmup_steps: 160, batch_size: 8}",
        "agent.updates_per_step=1",
        "env.num_envs=4",
    ],
    "td3": ["agent.replay={capacity: 600, warmup_steps: 160, batch_size: 8}", "env.num_envs=4"],
    "pqn": ["env.num_envs=8", "train.collect_steps=8", "agent.minibatches=4"],
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A dataset of noise in the shape of Hopper's."""
    random = np.random.default_rng(0)
    obs = random.normal(size=(201, 11)).astype(np.float32)
    action = random.uniform(-1, 1, (200, 3)).astype(np.float32)
    last = np.arange(1, 201) % 50 == 0
    reward, discount = random.normal(size=200).astype(np.float32), np.ones(200, np.float32)
    upright = np.array([0, 1.25, 0, 0, 0, 0])
    infos = {"qpos": np.tile(upright, (200, 1)), "qvel": random.normal(size=(200, 6))}
    made = datasets.Dataset(obs[:-1], action, reward, discount, last, last, obs[1:], infos)
    file = tmp_path_factory.mktemp("recorded") / "hopper.hdf5"
    datasets.save(made, file)
    return file


@pytest.fixture(scope="module")
def model(recorded, tmp_path_factory):
    """A model fitted to it."""
    folder = tmp_path_factory.mktemp("model") / "hopper"
    tiny = {"members": 2, "elites": 2, "hidden": (8,), "weight_decay": (0.0, 0.0), "most_epochs": 1}
    model_fitting.fit(models.ModelConfig(dataset=str(recorded), **tiny), folder, [], print)
    return folder


def small(path, recorded, replay_logs, model):
    cfg = config.load(ExperimentConfig, path)
    if cfg.offline is not None:
        found = replay_logs if cfg.env.id.startswith("atari/") else recorded
        offline = f"offline={{dataset: {found}, updates: 4, log_updates: 1, episodes: 1}}"
        replay = "agent.replay={capacity: 600, batch_size: 8}"
        return config.load(ExperimentConfig, path, [offline, replay])
    # A step of Atari is 4 frames. Rows of metrics are short, so that there are several.
    frames = 4 if cfg.env.id.startswith("atari/") else 1
    arguments = [
        f"train.env_frames={200 * frames}",
        f"train.log_frames={20 * frames}",
        *SMALL[cfg.agent.name],
    ]
    if cfg.rollouts is not None and cfg.rollouts.model is not None:
        arguments += ["agent.updates_per_step=0.1", "agent.replay.batch_size=16"]
        arguments.append(f"rollouts.model={model}" if cfg.rollouts.learnt else f"rollouts.dataset={recorded}")
    if cfg.agent.name not in ("pqn", "sac", "td3"):
        # Two vector steps, 8 agent steps, make one update.
        arguments += ["train.collect_steps=2", "agent.update_period_steps=8", "agent.replay.batch_size=8"]
    return config.load(ExperimentConfig, path, arguments)


def test_the_configs_are_found():
    names = {path.relative_to(FOLDER).parts[0] for path in PATHS}
    assert {"atari", "classic", "datasets", "grid", "minatar", "mujoco", "offline", "rollouts"} <= names


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(FOLDER).with_suffix("")))
def test_a_config_trains(path, recorded, replay_logs, model):
    cfg = small(path, recorded, replay_logs, model)
    built = experiment.make(cfg)
    env, algorithm, schedule = built.env, built.algorithm, built.schedule
    parts = (algorithm.agent, env, algorithm.memory, schedule)
    functional = isinstance(env, FunctionalEnv)
    if cfg.offline is not None:
        chunks = loop.train_offline(algorithm.agent, algorithm.memory, env.spec, schedule, [0])
    else:
        chunks = loop.train_functional(*parts, [0]) if functional else loop.train_host(*parts, 0)
    rows, params = [], []
    for chunk in chunks:
        rows.append(chunk.metrics)
        params.append(jax.tree.map(np.array, chunk.state.learner.params))
    if not functional:
        env.close()
    assert rows[-1]["updates"].item() >= 4
    assert cfg.offline is not None or rows[-1]["env_steps"].item() >= 200
    assert np.isfinite(rows[-1]["loss"]).all() and np.isfinite(rows[-1]["grad_norm"]).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params[-1]))
    changed = jax.tree.map(lambda x, y: bool((x != y).any()), params[0], params[-1])
    assert all(jax.tree.leaves(changed))
