"""One seed on several devices is the seed on one, to rounding."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from agents import experiment
from agents.experiment_config import ExperimentConfig
from valuelearn import config, loop
from valuelearn.replay import ReplayState
from valuelearn.types import FunctionalEnv

ROOT = Path(__file__).parent.parent
UPDATES = 100
CAPACITY = 4096
REPLAY = [
    f"agent.replay.capacity={CAPACITY}",
    "agent.replay.warmup_steps=64",
    "agent.replay.batch_size=32",
    f"train.env_frames={64 + 4 * UPDATES}",
]
DQN = [*REPLAY, "agent.update_period_steps=4"]
SAC = [*REPLAY, "agent.updates_per_step=0.25"]
CRITICS = ["parallel.critics=true"]
PQN = ["agent.minibatches=4", "agent.epochs=1", f"train.env_frames={8 * UPDATES}"]
RUNS = {
    "pqn": ("minatar/pqn_hl_gauss", PQN),
    "sac": ("classic/sac_pendulum", SAC),
    "critics": ("classic/sac_pendulum", [*SAC, "agent.num_critics=4", "agent.diversity=1.0", *CRITICS]),
    "dqn": ("classic/dqn_cartpole", DQN),
    "prioritised": ("classic/dqn_cartpole", [*DQN, "agent.replay.priority_exponent=0.5", "agent.head=c51"]),
    "host": ("classic/dqn_cartpole", [*DQN, "env.id=gym/CartPole-v1"]),
}


def trained(name, devices):
    """The state after the last chunk of a run on so many devices."""
    file, overrides = RUNS[name]
    sizes = ["env.num_envs=8", "train.collect_steps=4", "train.log_frames=400", "agent.network.hidden=[32]"]
    arguments = [*sizes, *overrides, f"parallel.devices={devices}"]
    cfg = config.load(ExperimentConfig, ROOT / "agents" / "configs" / f"{file}.yaml", arguments)
    built = experiment.make(cfg)
    agent, memory, division = built.algorithm.agent, built.algorithm.memory, cfg.parallel.division
    if isinstance(built.env, FunctionalEnv):
        *_, last = loop.train_functional(agent, built.env, memory, built.schedule, [0], division=division)
    else:
        *_, last = loop.train_host(agent, built.env, memory, built.schedule, 0, division=division)
        built.env.close()
    return last.state


def differs(name, devices):
    """The largest difference between parameters learnt on one device and on several."""
    one, several = trained(name, 1), trained(name, devices)
    assert several.learner.updates.max() >= UPDATES
    # Each holds its part of what is remembered, and the whole network, or some of the critics and the rest.
    params = several.learner.params
    if isinstance(several.memory, ReplayState):
        reward = several.memory.reward
        assert reward.sharding.shard_shape(reward.shape)[-1] == CAPACITY // devices
    if name == "critics":
        critics = jax.tree.leaves((params["critics"], several.learner.opt_state["critics"]))
        assert {x.sharding.shard_shape(x.shape)[1] for x in critics if x.ndim > 1} == {4 // devices}
    rest = {part: one for part, one in params.items() if (name, part) != ("critics", "critics")}
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(rest))
    apart = jax.tree.map(lambda x, y: np.abs(np.asarray(x) - np.asarray(y)).max(), one.learner.params, params)
    return max(jax.tree.leaves(apart))


@pytest.mark.parametrize("name", RUNS)
def test_two_devices_learn_what_one_learns(name):
    assert differs(name, 2) < 1e-5


def test_eight_devices_learn_what_one_learns():
    program = "from tests import test_parallel; print(test_parallel.differs('dqn', 8))"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [sys.executable, "-c", program]
    found = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stderr
    assert float(found.stdout.split()[-1]) < 1e-5


def test_flags_are_set_before_a_device_is_asked_for(monkeypatch):
    """XLA reads them once, with the first such question."""
    asked, ask = [], jax.local_device_count

    def count(*arguments):
        asked.append(os.environ["XLA_FLAGS"])
        return ask(*arguments)

    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(jax, "local_device_count", count)
    experiment.make(config.load(ExperimentConfig, ROOT / "agents" / "configs" / f"{RUNS['dqn'][0]}.yaml"))
    assert asked == ["--xla_gpu_deterministic_ops=true"]


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("dqn", ["parallel.devices=3"], "env.num_envs is 8; a multiple of parallel.devices = 3"),
        (
            "dqn",
            ["parallel.devices=4", "agent.replay.batch_size=30"],
            "agent.replay.batch_size is 30; a multiple of parallel.devices = 4",
        ),
        ("dqn", ["parallel.devices=4", *CRITICS], "dqn has no ensemble of critics; false is wanted"),
        (
            "sac",
            ["parallel.devices=4", *CRITICS, "agent.num_critics=6"],
            "agent.num_critics is 6; a multiple of parallel.devices = 4",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(name, overrides, sentence):
    file = ROOT / "agents" / "configs" / f"{RUNS[name][0]}.yaml"
    with pytest.raises(config.ConfigError) as error:
        config.load(ExperimentConfig, file, ["env.num_envs=8", "train.collect_steps=4", *overrides])
    assert sentence in str(error.value)
