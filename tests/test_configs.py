"""Every config that ships trains from end to end, made small."""

from pathlib import Path

import jax
import numpy as np
import pytest

from agents import experiment
from agents.experiment import ExperimentConfig
from valuelearn import config, loop
from valuelearn.types import FunctionalEnv

pytestmark = pytest.mark.usefixtures("quick_compilation")  # A handful of updates is not worth more.
FOLDER = Path(experiment.__file__).parent / "configs"
PATHS = sorted(FOLDER.rglob("*.yaml"))
SMALL = {
    # About 5 updates after 160 random steps; networks, heads and optimisers are the configs' own.
    "stock_dqn": ["env.num_envs=4", "agent.replay.capacity=600", "agent.replay.warmup_steps=160"],
    "dqn": ["env.num_envs=4", "agent.replay.capacity=600", "agent.replay.warmup_steps=160"],
    "sac": ["agent.replay={capacity: 600, warmup_steps: 160, batch_size: 8}", "env.num_envs=4"],
    "pqn": ["env.num_envs=8", "train.collect_steps=8", "agent.minibatches=4"],
}


def small(path):
    cfg = config.load(ExperimentConfig, path)
    # A step of Atari is 4 frames. Rows of metrics are short, so that there are several.
    frames = 4 if cfg.env.id.startswith("atari/") else 1
    arguments = [
        f"train.env_frames={200 * frames}",
        f"train.log_frames={20 * frames}",
        *SMALL[cfg.agent.name],
    ]
    if cfg.agent.name not in ("pqn", "sac"):
        # Two vector steps, 8 agent steps, make one update.
        arguments += ["train.collect_steps=2", "agent.update_period_steps=8", "agent.replay.batch_size=8"]
    return config.load(ExperimentConfig, path, arguments)


def test_the_configs_are_found():
    names = {path.relative_to(FOLDER).parts[0] for path in PATHS}
    assert {"atari", "classic", "grid", "minatar", "mujoco"} <= names and len(PATHS) >= 4


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(FOLDER).with_suffix("")))
def test_a_config_trains(path):
    built = experiment.make(small(path))
    env, algorithm, schedule = built.env, built.algorithm, built.schedule
    parts = (algorithm.agent, env, algorithm.memory, schedule)
    functional = isinstance(env, FunctionalEnv)
    chunks = loop.train_functional(*parts, [0]) if functional else loop.train_host(*parts, 0)
    rows, params = [], []
    for chunk in chunks:
        rows.append(chunk.metrics)
        params.append(jax.tree.map(np.array, chunk.state.learner.params))
    if not functional:
        env.close()
    assert rows[-1]["env_steps"].item() >= 200 and rows[-1]["updates"].item() >= 4
    assert np.isfinite(rows[-1]["loss"]).all() and np.isfinite(rows[-1]["grad_norm"]).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params[-1]))
    changed = jax.tree.map(lambda x, y: bool((x != y).any()), params[0], params[-1])
    assert all(jax.tree.leaves(changed))
