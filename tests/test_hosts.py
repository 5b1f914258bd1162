"""Processes that train one run together: what they learn, how they stop and go on, and what starts them."""

import csv
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from agents import evaluation, experiment, training
from agents.experiment_config import ExperimentConfig
from valuelearn import config

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
BIN = Path(sys.executable).parent
CONFIG = ROOT / "agents" / "configs" / "classic" / "dqn_cartpole.yaml"
SIZES = [
    "env.num_envs=8",
    "train.collect_steps=4",
    "train.log_frames=64",
    "train.env_frames=1600",
    "checkpoint.every_frames=400",
    "checkpoint.policies_every_frames=480",  # After the warm-up 104 updates.
    "agent.network.hidden=[32]",
    "agent.replay.capacity=1024",
    "agent.replay.warmup_steps=64",
    "agent.replay.batch_size=32",
    "agent.update_period_steps=4",
    "evaluation.episodes=2",
]
INSIDE, OUTSIDE = "classic/cartpole", "gym/CartPole-v1"  # The compiled loop, and it.
BURNT = """
import os

import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class Burnt(CartPoleEnv):
    steps = 0

    def step(self, action):
        type(self).steps += 1
        if self.steps == 100 and os.environ["JAX_PROCESS_ID"] == os.environ["BURNT"]:
            raise RuntimeError("the motor burnt")
        return super().step(action)


gymnasium.register("Burnt-v0", Burnt, max_episode_steps=500)
"""
# Stands in for Slurm's, which this machine has not: the tasks of a job step, with what they are told.
SRUN = """#!/bin/bash
shift
tasks=()
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=0 "$@" &
    tasks+=($!)
done
code=0
for task in "${tasks[@]}"; do wait "$task" || code=$?; done
exit $code
"""


def free_port():
    """Any of those that JAX takes from the number of a job of Slurm's: tests run beside one another."""
    for port in random.sample(range(61_440, 65_536), 100):
        with socket.socket() as server:
            if server.connect_ex(("127.0.0.1", port)):
                return port
    raise OSError("no port is free")


def started(arguments, **variables):
    """Two processes of one command, the first host's first."""
    meeting = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}"}
    return [
        subprocess.Popen(
            [BIN / "valuelearn", *arguments],
            cwd=ROOT,
            env={**os.environ, **meeting, **variables, "JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]


def ended(processes):
    """Their exit codes and what they said."""
    said = [process.communicate(timeout=300)[0] for process in processes]
    return [process.returncode for process in processes], said


def slurm_job(folder, arguments, srun):
    """The script's exit code and output, in a job of two tasks whose `srun` is the script given."""
    folder.mkdir()
    for name, text in (("srun", srun), ("scontrol", '#!/bin/bash\necho scontrol "$@"\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    job = {
        "PATH": f"{folder}:{BIN}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(free_port() - 61_440),
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
    }
    command = ["bash", EXAMPLES / "slurm.sh", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **job}, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


def rows(folder, table):
    with (folder / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=[INSIDE, OUTSIDE])
def together(request, tmp_path_factory):
    """The folder of a run of two hosts, started by the script for Slurm."""
    folder = tmp_path_factory.mktemp("hosts")
    arguments = [folder / "run", CONFIG, *SIZES, f"env.id={request.param}"]
    code, said = slurm_job(folder / "job", arguments, SRUN)
    assert code == 0, said
    assert said.count("greedy return") == 1  # The first alone evaluates.
    return folder / "run"


def test_two_hosts_learn_what_one_learns(together, tmp_path):
    """After a hundred updates; after many more roundings would add up."""
    cfg = experiment.load_run(together, ["parallel.hosts=1", "evaluation.episodes=0"])
    training.train(cfg, tmp_path / "run", [], lambda text: None)
    spec = experiment.make_env(cfg).spec
    frames = min((together / "policies").iterdir(), key=lambda folder: int(folder.name)).name
    folders = (tmp_path / "run", together)
    learners = [evaluation.learners(cfg, folder / "policies" / frames, spec)[0] for folder in folders]
    apart = jax.tree.map(lambda x, y: np.abs(x - y).max(), *(learner.params for learner in learners))
    assert max(jax.tree.leaves(apart)) < 1e-5
    of_one, of_two = (
        next(row for row in rows(folder, "metrics") if float(row["env_frames"]) == int(frames))
        for folder in folders
    )
    assert int(float(of_two["updates"])) >= 100
    for name in of_one.keys() - {"fingerprint"}:
        of_one[name], of_two[name] = (float(row[name] or "nan") for row in (of_one, of_two))
        assert of_two[name] == pytest.approx(of_one[name], rel=1e-3, abs=1e-5, nan_ok=True)


def interrupted(together, folder, interrupt, due):
    """Exit codes and words of two hosts that were to do the same and are interrupted once `due`, and then of
    two that go on."""
    processes = started(["train", together / "config.yaml", "--run", folder])
    until = time.monotonic() + 240
    while not due(folder) and time.monotonic() < until and processes[0].poll() is None:
        time.sleep(0.01)
    interrupt(processes)
    before = ended(processes)
    assert len(rows(folder, "metrics")) < len(rows(together, "metrics"))
    return before, ended(started(["resume", folder]))


@pytest.mark.parametrize("together", [INSIDE], indirect=True)
def test_asked_to_stop_one_of_them_all_stop_and_go_on_as_the_same_run(together, tmp_path):
    (codes, said), resumed = interrupted(
        together,
        tmp_path / "run",
        lambda processes: processes[1].send_signal(signal.SIGTERM),  # Not the one that saves.
        lambda folder: (folder / "metrics.csv").exists() and len(rows(folder, "metrics")) > 0,
    )
    assert codes == [130, 130], said
    assert resumed[0] == [0, 0], resumed[1]
    for table in ("metrics", "fingerprints"):
        assert rows(tmp_path / "run", table) == rows(together, table)


@pytest.mark.parametrize("together", [OUTSIDE], indirect=True)
def test_killed_they_go_on_as_the_same_run(together, tmp_path):
    _, resumed = interrupted(
        together,
        tmp_path / "run",
        lambda processes: [process.kill() for process in processes],
        lambda folder: (folder / "policies").exists(),  # After the first checkpoint.
    )
    assert resumed[0] == [0, 0], resumed[1]
    assert "the run goes on at frame" in resumed[1][0]
    for table in ("metrics", "fingerprints"):
        assert rows(tmp_path / "run", table) == rows(together, table)


@pytest.mark.parametrize("number", [0, 1])
def test_where_one_of_them_cannot_go_on_none_does(tmp_path, number):
    """Without waiting for one another."""
    (tmp_path / "burnt.py").write_text(BURNT)
    arguments = ["train", CONFIG, *SIZES, "parallel.hosts=2", "env.id=gym/burnt:Burnt-v0"]
    before = time.monotonic()
    codes, said = ended(
        started([*arguments, "--run", tmp_path / "run"], PYTHONPATH=str(tmp_path), BURNT=str(number))
    )
    assert time.monotonic() - before < 200  # JAX's own patience is 300 seconds.
    assert codes == [2, 2], said
    assert "burnt:Burnt-v0: step raised RuntimeError: the motor burnt" in said[number]
    assert "another host has ended, and says why" in said[1 - number]
    assert "Traceback" not in said[0] + said[1]


@pytest.mark.parametrize(("code", "again"), [(130, True), (1, False)])
def test_a_job_that_was_stopped_queues_again(tmp_path, code, again):
    job = slurm_job(tmp_path / "job", [tmp_path / "run", CONFIG], f'#!/bin/bash\necho "$@"\nexit {code}\n')
    assert job[0] == code
    hosts = "parallel.hosts=2 parallel.devices=1"
    assert f"--kill-on-bad-exit=1 valuelearn train {CONFIG} {hosts} --run {tmp_path / 'run'}\n" in job[1]
    assert ("scontrol requeue" in job[1]) is again
    (tmp_path / "run").mkdir()
    _, said = slurm_job(tmp_path / "next", [tmp_path / "run", CONFIG], '#!/bin/bash\necho "$@"\n')
    assert f"valuelearn resume {tmp_path / 'run'}\n" in said


def test_hosts_that_do_not_find_one_another():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COORD")}
    command = [BIN / "valuelearn", "train", CONFIG, *SIZES, "parallel.hosts=2"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "parallel.hosts = 2: the hosts do not find one another" in done.stderr
    assert "JAX_COORDINATOR_ADDRESS" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            [f"env.id={OUTSIDE}", "checkpoint.experience=true"],
            "checkpoint.experience is true; of several hosts none has it all; false is wanted",
        ),
        (
            ["env.num_envs=7"],
            "env.num_envs is 7; a multiple of parallel.devices = 1 times parallel.hosts = 2",
        ),
        (
            ["parallel.devices=4", "agent.replay.batch_size=36"],
            "agent.replay.batch_size is 36; a multiple of parallel.devices = 4 times parallel.hosts = 2",
        ),
    ],
)
def test_what_several_hosts_cannot_do_is_refused(overrides, sentence):
    with pytest.raises(config.ConfigError) as error:
        config.load(ExperimentConfig, CONFIG, [*SIZES, "parallel.hosts=2", *overrides])
    assert sentence in str(error.value)


def test_the_cluster_of_rays_is_one():
    """By Ray's own check of such files, which starts nothing."""
    cluster = yaml.safe_load((EXAMPLES / "ray_cluster.yaml").read_text())
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] == len(cluster["provider"]["worker_ips"])
