"""The command line from end to end, on runs of a few hundred steps."""

import importlib.util
import json
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from agents import evaluation
from agents.experiment_config import ExperimentConfig
from tests.commands import call
from valuelearn import cli, config
from valuelearn.logs import METRICS, read_metrics

CONFIGS = Path(__file__).parent.parent / "agents" / "configs"
MINATAR = (
    "train",
    CONFIGS / "minatar" / "pqn_hl_gauss.yaml",
    "env.num_envs=8",
    "train.collect_steps=8",
    "agent.minibatches=4",
    "train.env_frames=512",
    "train.log_frames=256",
    "evaluation.episodes=4",
    "train.seeds=2",
    "train.seed=5",
)
DQN = (
    "env.num_envs=2",
    "agent.replay.capacity=2000",
    "agent.replay.warmup_steps=64",
    "agent.network.hidden=[16]",
    "train.env_frames=1024",
    "train.log_frames=512",
    "evaluation.episodes=1",
)
ATARI = (
    "train",
    CONFIGS / "atari" / "dqn_mse.yaml",
    "env.id=atari/breakout",
    "env.max_episode_frames=400",
    *DQN,
)
GYM = (
    "train",
    CONFIGS / "minatar" / "dqn_hl_gauss.yaml",
    "env.id=gym/CartPole-v1",
    "agent.network.torso=mlp",
    *DQN,
)


def events(folder):
    """The scalars in a folder of TensorBoard files: (tag, step, value)."""
    for file in folder.iterdir():
        data = file.read_bytes()
        while data:
            length = struct.unpack("<Q", data[:8])[0]
            event = Event.FromString(data[12 : 12 + length])
            yield from ((value.tag, event.step, value.simple_value) for value in event.summary.value)
            data = data[16 + length :]


@pytest.fixture(scope="module")
def minatar(tmp_path_factory):
    """The folder of a run of two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("minatar"))
        call(*MINATAR)
        (folder,) = Path("runs").absolute().iterdir()
    return folder


def test_help_needs_nothing_heavy():
    code = (
        "import sys, valuelearn.cli; print(sorted({'jax', 'numpy', 'gymnasium', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    start = time.perf_counter()
    code = "import sys, valuelearn.cli as c; sys.argv[1:] = ['--help']; c.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 5  # 0.2 s, where nothing else runs.
    assert all(command in done.stdout for command in ("train", "evaluate", "plot"))


def test_what_a_run_leaves(minatar):
    assert re.fullmatch(r"pqn_hl_gauss-minatar-breakout-5-\d{8}-\d{6}", minatar.name)
    names = {
        "config.yaml",
        "versions.json",
        "metrics.csv",
        "fingerprints.csv",
        "timing.csv",
        "curve.png",
        "params",
        "tensorboard",
        "sha256.json",
        ".lock",
    }
    assert {path.name for path in minatar.iterdir()} == names
    cfg = config.load(ExperimentConfig, minatar / "config.yaml")
    assert cfg == config.load(ExperimentConfig, MINATAR[1], MINATAR[2:])
    assert config.dump(cfg) == (minatar / "config.yaml").read_text()
    (versions,) = json.loads((minatar / "versions.json").read_text())
    assert versions.keys() >= {"jax", "gymnasium", "device", "git", "python", "command"}
    assert versions["command"][:2] == ["valuelearn", "train"]
    metrics = read_metrics(minatar)
    np.testing.assert_array_equal(metrics["seed"], [5, 6, 5, 6])
    np.testing.assert_array_equal(metrics["env_frames"], [256, 256, 512, 512])
    np.testing.assert_array_equal(metrics["updates"], [32, 32, 64, 64])
    known = np.array([np.isfinite(metrics[name]).sum() for name in METRICS])
    assert known.sum() > 30
    found = {(tag, step): value for tag, step, value in events(minatar / "tensorboard")}
    for index, (seed, step) in enumerate(((5, 256), (6, 256), (5, 512), (6, 512))):
        np.testing.assert_allclose(found[f"seed_{seed}/loss", step], metrics["loss"][index], rtol=1e-6)
    assert imageio.imread(minatar / "curve.png").ndim == 3


def test_neighbouring_seeds_are_evaluated_in_other_episodes():
    starts = [evaluation.host_seed(seed) for seed in range(100)]
    assert np.diff(sorted(starts)).min() > 8


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("Unable to allocate 9 TiB\nfor an array")])
def test_out_of_memory_is_a_sentence(error, monkeypatch, capsys):
    def train():
        raise error

    monkeypatch.setattr(cli, "app", train)
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith("valuelearn: out of memory (") and said.count("\n") == 1


def test_evaluating_twice_gives_the_same(minatar, capsys):
    outputs = []
    for _ in range(2):
        call("evaluate", minatar, "--episodes", 3)
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    pattern = r"seed {}: greedy return \d+\.\d\d \+- \d+\.\d\d, episodes 3\n"
    assert re.fullmatch(pattern.format(5) + pattern.format(6), outputs[0])


def test_the_same_seed_gives_the_same_run(minatar, tmp_path):
    call(*MINATAR, "--run", tmp_path / "again")
    assert (tmp_path / "again" / "metrics.csv").read_bytes() == (minatar / "metrics.csv").read_bytes()


def test_plotting_several_runs(minatar, tmp_path):
    call("plot", minatar, minatar, "--out", tmp_path / "x.png")
    assert imageio.imread(tmp_path / "x.png").shape == (630, 1050, 4)


def test_an_atari_run_and_its_video(tmp_path, capsys):
    call(*ATARI, "--run", tmp_path / "run")
    metrics = read_metrics(tmp_path / "run")
    assert metrics["env_frames"][-1] >= 1024
    assert metrics["updates"][-1] > 0
    trained = capsys.readouterr().out
    call("evaluate", tmp_path / "run", "--episodes", 1, "--video", tmp_path / "x.gif")
    played = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"seed 0: greedy return \d+\.\d\d, episodes 1", played)
    assert played in trained.splitlines()
    frames = imageio.imread(tmp_path / "x.gif", index=None)
    assert frames.shape[1:] == (84, 84, 3)
    assert 20 <= len(frames) <= 100  # 400 emulator frames; equal pictures in a row may be stored as one.


def test_a_gymnasium_run(tmp_path, capsys):
    for name in ("run", "again"):
        call(*GYM, "--run", tmp_path / name)
    first, second = (tmp_path / name / "metrics.csv" for name in ("run", "again"))
    assert first.read_bytes() == second.read_bytes()
    assert read_metrics(tmp_path / "run")["updates"][-1] > 0
    capsys.readouterr()
    call("evaluate", tmp_path / "run", "--episodes", 3)
    call("evaluate", tmp_path / "again", "--episodes", 3)
    one, two = capsys.readouterr().out.splitlines()
    assert one == two
    assert one.endswith("episodes 3")


@pytest.mark.skipif(importlib.util.find_spec("pygame") is not None, reason="what draws CartPole is installed")
def test_a_video_without_what_draws_it(tmp_path, capsys):
    call(*GYM, "evaluation.episodes=0", "--run", tmp_path / "run")
    capsys.readouterr()
    call("evaluate", tmp_path / "run", "--video", tmp_path / "x.gif", code=2)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "the environment cannot be drawn: pygame is not installed" in err
    assert not (tmp_path / "x.gif").exists()
