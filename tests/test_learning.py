"""Agents that learn: whole runs of two seeds at once, with margins that were measured."""

from pathlib import Path

import numpy as np
import pytest

from agents import experiment
from agents.experiment_config import ExperimentConfig
from valuelearn import config, loop

CONFIGS = Path(experiment.__file__).parent / "configs"


def training_returns(path, *arguments, seeds):
    """Mean training return of each chunk and seed, [chunks, seeds]."""
    built = experiment.make(config.load(ExperimentConfig, CONFIGS / path, arguments))
    parts = (built.algorithm.agent, built.env, built.algorithm.memory, built.schedule)
    return np.stack([chunk.metrics["episode_return"] for chunk in loop.train_functional(*parts, seeds)])


# Mean return of the last 10,000 of 20,000 steps, seeds 0 to 2: hl_gauss 209, 168, 391; mse 184, 203,
# 240. Random play gets 20.
@pytest.mark.parametrize("head", ["hl_gauss", "mse"])
def test_dqn_learns_cartpole(head):
    options = (f"agent.head={head}", "train.env_frames=20_000")
    returns = training_returns("classic/dqn_cartpole.yaml", *options, seeds=[0, 1])
    assert (returns[0] < 30).all() and (returns[-2:].mean(0) > 100).all()


# Mean return of the last 40,000 of 120,000 steps, seeds 0 to 2: 2.5, 3.1, 2.8. Random play gets 0.5.
def test_pqn_learns_minatar_breakout():
    options = ("train.env_frames=120_000", "train.log_frames=20_000")
    returns = training_returns("minatar/pqn_hl_gauss.yaml", *options, seeds=[0, 1])
    assert (returns[0] < 1).all() and returns[-3:].mean() > 2
