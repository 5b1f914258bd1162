"""Kill training at random moments, resume it, and compare with runs that were left alone.

    python -m benchmarks.kill [--kills 20] [--seed 0]

Half of the kills hit a MinAtar run (compiled environment), half an Atari run (host environment).
A run is killed with SIGKILL after a random time, resumed, killed again, until it is lucky or the
kills are used up. Its metrics file and final parameters must then be those of a run that was left
alone, byte for byte.

Bars: no difference, and no resumption that fails.
"""

import argparse
import operator
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from agents import evaluation, experiment
from valuelearn.types import FunctionalEnv

CONFIGS = Path(__file__).parent.parent / "agents" / "configs"
# Long enough to be hit anywhere, small enough for two dozen launches: a launch is imports, mostly.
RUNS = {
    "minatar": (
        CONFIGS / "minatar" / "dqn_hl_gauss.yaml",
        "agent.replay={capacity: 20_000, warmup_steps: 1_000}",
        "train={env_frames: 20_000, log_frames: 1_000}",
        "checkpoint.every_frames=2_000",
    ),
    "atari": (
        CONFIGS / "atari" / "c51.yaml",
        "env.id=atari/breakout",
        "agent.replay={capacity: 2_000, warmup_steps: 400, batch_size: 4}",
        "agent.network.hidden=[16]",
        "agent.update_period_steps=16",
        "train={env_frames: 40_000, log_frames: 1_000}",
        "checkpoint.every_frames=4_000",
    ),
}


class Tally(NamedTuple):
    """What came of the kills."""

    kills: int = 0
    runs: int = 0  # That were resumed to their end.
    failures: int = 0  # Resumptions that ended with an error.
    differences: int = 0  # Metrics files or final parameters.


def launch(*arguments: str | Path, env: Mapping[str, str] = MappingProxyType({})) -> subprocess.Popen:
    """The command line as a process of its own, with `env` added, and all that it says in its output."""
    command = [sys.executable, "-m", "valuelearn", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _start_or_resume(name: str, folder: Path) -> subprocess.Popen:
    if (folder / "config.yaml").exists():
        return launch("resume", folder)
    return launch("train", *RUNS[name], "evaluation.episodes=0", "--run", folder)


def ends_well(process: subprocess.Popen) -> bool:
    """Whether a process ends without an error, of which is told."""
    said, _ = process.communicate()
    if process.returncode:
        print(said.decode(), file=sys.stderr)
    return process.returncode == 0


def _killed(process: subprocess.Popen, seconds: float) -> bool:
    """Kill a process, children and all, unless it ends within `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def _parameters(folder: Path) -> list[bytes]:
    cfg = experiment.load_run(folder)
    env = experiment.make_env(cfg)
    found = [learner.params for learner in evaluation.learners(cfg, folder / "params", env.spec)]
    if not isinstance(env, FunctionalEnv):
        env.close()
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(found)]


def differences(first: Path, second: Path) -> int:
    """How many of the two, metrics file and final parameters, differ in any byte."""
    metrics = [(folder / "metrics.csv").read_bytes() for folder in (first, second)]
    return (metrics[0] != metrics[1]) + (_parameters(first) != _parameters(second))


def storm(name: str, kills: int, chance: random.Random, folder: Path) -> Tally:
    """Kill runs of one kind `kills` times, resume them, and compare them with one left alone."""
    start = time.perf_counter()
    alone = folder / f"{name}-alone"
    assert ends_well(_start_or_resume(name, alone))
    seconds = time.perf_counter() - start
    tally = Tally()
    while tally.kills < kills:
        run = folder / f"{name}-{tally.runs}"
        process = _start_or_resume(name, run)
        while tally.kills < kills and _killed(process, chance.uniform(0, seconds)):
            tally = tally._replace(kills=tally.kills + 1)
            process = _start_or_resume(name, run)
        if not ends_well(process):
            return tally._replace(runs=tally.runs + 1, failures=1)
        found = tally.differences + differences(alone, run)
        tally = tally._replace(runs=tally.runs + 1, differences=found)
    return tally


def main() -> None:
    """Run the storm and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="over both kinds of run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    chance, total = random.Random(options.seed), Tally()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for index, name in enumerate(RUNS):
            kills = (options.kills + index) // len(RUNS)
            tally = storm(name, kills, chance, Path(folder))
            print(f"{name}: {tally}")
            total = Tally(*map(operator.add, total, tally))
    print(
        f"kill: {total.kills} kills in {total.runs} runs, {total.failures} failed resumptions, "
        f"{total.differences} differences, {time.perf_counter() - start:.0f} s"
    )
    raise SystemExit(total.failures + total.differences > 0)


if __name__ == "__main__":
    main()
