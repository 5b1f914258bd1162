"""Runs that are stopped and go on, through the command line."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kill import differences
from envs import datasets
from valuelearn import logs

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIGS = Path(__file__).parent.parent / "agents" / "configs"
COMPILED = (
    CONFIGS / "minatar" / "pqn_hl_gauss.yaml",
    "env.num_envs=8",
    "train.collect_steps=8",
    "agent.minibatches=4",
    "train.env_frames=1280",
    "train.log_frames=128",
    "train.seeds=2",
)
HOST = (
    CONFIGS / "minatar" / "dqn_hl_gauss.yaml",
    "env={id: gym/CartPole-v1, num_envs: 2}",
    "agent.network={torso: mlp, hidden: [16]}",
    "agent.replay={capacity: 2_000, warmup_steps: 64}",
    "train.env_frames=1280",
    "train.log_frames=128",
)
_STOCK = (
    "agent.network.hidden=[16]",
    "agent.head_options.num_quantiles=4",
    "agent.replay={capacity: 2_000, warmup_steps: 64}",
    "agent.update_period_steps=4",
    "train.collect_steps=4",
    "train.env_frames=1280",
    "train.log_frames=128",
)
COMPILED_STOCK = (CONFIGS / "grid" / "stock_dqn_cliff.yaml", "env.num_envs=8", "train.seeds=2", *_STOCK)
HOST_SAC = (
    CONFIGS / "mujoco" / "sac.yaml",
    "env.id=mujoco/InvertedPendulum-v5",
    "agent.network={hidden: [16]}",
    "agent.replay={capacity: 2_000, warmup_steps: 64, batch_size: 16}",
    "train.env_frames=1280",
    "train.log_frames=128",
)
OFFLINE = (
    CONFIGS / "offline" / "cql.yaml",
    "env.id=gym/Pendulum-v1",
    "agent.network={hidden: [16], normalize_obs: true}",
    "agent.replay.batch_size=16",
    "offline={updates: 100, log_updates: 10, checkpoint_updates: 40, episodes: 1}",
    "train.seeds=2",
)
LOGGED = (
    CONFIGS / "offline" / "atari_dqn.yaml",
    "agent.network={torso: mlp, hidden: [4]}",
    "agent.replay={capacity: 600, batch_size: 4, n_step: 3, priority_exponent: 0.6}",
    "offline={updates: 100, log_updates: 10, checkpoint_updates: 40, episodes: 0}",
    "train.seeds=2",
)
HOST_STOCK = (CONFIGS / "grid" / "stock_dqn_cliff.yaml", "env={id: gym/CartPole-v1, num_envs: 2}", *_STOCK)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_compiled_run_is_stopped_and_goes_on_as_the_same_run(train, call, tmp_path, number):
    train(COMPILED, tmp_path / "whole")
    said = train(COMPILED, tmp_path / "stopped", stop_at=3, number=number)
    assert f"saved at frame 512; go on with: valuelearn resume {tmp_path / 'stopped'}" in said
    assert not (tmp_path / "stopped" / "params").exists()
    said = call("resume", tmp_path / "stopped")
    assert "the run goes on at frame 512\n" in said
    assert differences(tmp_path / "stopped", tmp_path / "whole") == 0
    sittings = json.loads((tmp_path / "stopped" / "versions.json").read_text())
    assert [sitting["from"] for sitting in sittings] == [0, 512]
    wall = np.genfromtxt(tmp_path / "stopped" / "timing.csv", names=True, delimiter=",")["wall_seconds"]
    assert (np.diff(wall) > 0).all()


def test_a_host_run_is_stopped_and_says_that_it_is_another_run(train, call, tmp_path):
    train(HOST, tmp_path / "run", stop_at=3)
    said = call("resume", tmp_path / "run")
    assert "but not as the run that it would have been: episodes were cut at frame " in said
    found = logs.read_metrics(tmp_path / "run")
    assert found["env_frames"][-1] >= 1280 and (np.diff(found["env_frames"]) > 0).all()


def test_stocks_go_on_as_they_were(train, call, tmp_path):
    """The stocks of episodes under way are part of the run."""
    train(COMPILED_STOCK, tmp_path / "whole")
    train(COMPILED_STOCK, tmp_path / "stopped", stop_at=3)
    call("resume", tmp_path / "stopped")
    assert differences(tmp_path / "stopped", tmp_path / "whole") == 0


@pytest.mark.parametrize("run", [HOST, HOST_STOCK, HOST_SAC], ids=["dqn", "stock_dqn", "sac"])
def test_a_host_run_goes_on_from_a_checkpoint_as_the_same_run(train, call, tmp_path, run):
    """A kill: what was written after the checkpoint is there, and is written again."""
    saves = "checkpoint.every_frames=512"
    train(run, tmp_path / "whole", saves)
    train(run, tmp_path / "killed", saves, stop_at=6)
    newest = max((tmp_path / "killed" / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in sorted(newest.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    newest.rmdir()  # What stopping saved; the one before was due.
    # A row of metrics ends with the step that passes its mark.
    assert re.search(r"the run goes on at frame 5[12]\d\n", call("resume", tmp_path / "killed"))
    assert differences(tmp_path / "killed", tmp_path / "whole") == 0


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_run_on_a_dataset_goes_on_as_the_same_run(train, call, tmp_path, recorded, killed):
    run = (*OFFLINE, f"offline.dataset={recorded}")
    train(run, tmp_path / "whole")
    said = train(run, tmp_path / "cut", stop_at=6)
    assert f"saved at update 70; go on with: valuelearn resume {tmp_path / 'cut'}" in said
    if killed:
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / "70")
    assert f"the run goes on at update {40 if killed else 70}\n" in call("resume", tmp_path / "cut")
    assert differences(tmp_path / "cut", tmp_path / "whole") == 0
    found = logs.read_metrics(tmp_path / "cut")
    assert (found["updates"][::2] == np.arange(10, 101, 10)).all() and not found["env_frames"].any()
    assert np.isfinite(found["episode_return"]).all()
    assert (found["reward_min"] == datasets.load(recorded).reward.min()).all()


@pytest.mark.parametrize("replay", ["true", "false"])
def test_a_run_on_logged_replays_goes_on_with_its_priorities(train, call, tmp_path, replay_logs, replay):
    """Those are saved even where no replay is: the frames themselves are read again."""
    run = (*LOGGED, f"offline.dataset={replay_logs}", f"checkpoint.replay={replay}")
    said = train(run, tmp_path / "whole")
    assert f"there are 200 transitions of {replay_logs} to learn from\n" in said
    train(run, tmp_path / "cut", stop_at=6)
    assert "the run goes on at update 70\n" in call("resume", tmp_path / "cut")
    assert differences(tmp_path / "cut", tmp_path / "whole") == 0


def test_a_run_without_a_saved_replay(train, call, tmp_path):
    train(HOST, tmp_path / "run", "checkpoint={every_frames: 512, replay: false}", stop_at=6)
    said = call("resume", tmp_path / "run")
    assert "not as the run that it would have been" in said
    found = logs.read_metrics(tmp_path / "run")
    # Collecting without updates, 64 steps, before it learns on.
    assert found["updates"][-1] < found["updates"][5] + (1280 - 768) // 4
    assert found["env_frames"][-1] >= 1280


def test_a_run_without_a_checkpoint_starts_again(train, call, tmp_path):
    train(COMPILED, tmp_path / "whole")
    train(COMPILED, tmp_path / "killed", stop_at=2)
    checkpoints = tmp_path / "killed" / "checkpoints"
    checkpoints.rename(tmp_path / "lost")
    assert "there is no checkpoint yet: the run starts from its beginning" in call(
        "resume", tmp_path / "killed"
    )
    assert differences(tmp_path / "killed", tmp_path / "whole") == 0


def test_what_cannot_be_resumed(train, call, tmp_path):
    run = tmp_path / "run"
    assert "there is no such file or folder" in call("resume", run, code=2)
    train(COMPILED, run, stop_at=2)
    config = (run / "config.yaml").read_text()
    assert config.count("- 128\n") == 1  # The hidden layer.
    (run / "config.yaml").write_text(config.replace("- 128\n", "- 64\n"))
    said = call("resume", run, code=2)
    assert "it holds float32[2, " in said and "and the config asks for float32[2, " in said
    (run / "config.yaml").write_text(config)
    (run / "metrics.csv").write_text("")
    assert "metrics.csv: it has 0 bytes, and had" in call("resume", run, code=2)


def test_resuming_a_run_that_is_trained(train, call, tmp_path):
    """Killed while it was evaluated or drawn, it is evaluated and drawn; after that nothing is done."""
    run = tmp_path / "run"
    train(COMPILED, run)
    (run / "curve.png").unlink()
    metrics = (run / "metrics.csv").read_bytes()
    assert "this run is trained to its end" in call("resume", run)
    assert (run / "curve.png").exists() and (run / "metrics.csv").read_bytes() == metrics
    assert "this run is finished" in call("resume", run)


def test_the_doctor_warns_once_of_a_support_ten_times_too_small(train, tmp_path):
    said = train(HOST, tmp_path / "run", "agent.head_options={v_min: -1, v_max: 1}")
    assert said.count("warning: ") == 1
    at = said.index("warning: ")
    assert said[:at].count("frames/s") <= 2  # Within the first rows.
    assert "of the target mass is lost above agent.head_options.v_max = 1; with rewards from 1 to 1" in said
    assert "v_min=-6.67 and v_max=107 would hold every return" in said
