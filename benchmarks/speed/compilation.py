"""From the start of a process to its first updates: with nothing compiled before, and again."""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.peers.ours_dqn import CONFIGS
from benchmarks.speed.turns import by_turns

AT_MOST = 10.0  # Seconds of a second start.
_WHICH = ("cold", "warm")
_SOON = ["agent.replay.warmup_steps=256", "agent.replay.capacity=20_000"]
_WIDE = ["agent.replay.warmup_steps=600", "agent.replay.capacity=20_000"]  # Of 200 copies.
# A config of each family, with a warm-up of a few steps and rows of metrics that come soon.
FAMILIES = {
    "atari/dqn_mse": [*_SOON, "env.id=atari/breakout", "train.log_frames=512"],
    "atari/rainbow": [*_SOON, "env.id=atari/breakout", "train.log_frames=512"],
    "minatar/pqn_hl_gauss": ["train.log_frames=4096"],
    "minatar/dqn_hl_gauss": [*_SOON, "train.log_frames=128"],
    "classic/dqn_cartpole": [*_SOON, "train.log_frames=128"],
    "classic/sac_pendulum": [*_SOON, "train.log_frames=128"],
    "grid/stock_dqn_cliff": [*_SOON, "train.log_frames=128"],
    "plane/rollouts": [*_WIDE, "train.log_frames=200"],
    "mujoco/sac": [*_SOON, "env.id=mujoco/HalfCheetah-v5", "train.log_frames=128"],
    "mujoco/td3": [*_SOON, "env.id=mujoco/HalfCheetah-v5", "train.log_frames=128"],
}


def _has_learnt(metrics: Path) -> bool:
    if not metrics.exists():
        return False
    with metrics.open(newline="") as file:
        return any(float(row["updates"] or 0) > 0 for row in csv.DictReader(file))


def _first_updates(name: str, cache: Path, folder: Path) -> float:
    """Seconds from the start of `valuelearn train` to the first row of metrics with updates."""
    command = [sys.executable, "-m", "valuelearn", "train", str(CONFIGS / f"{name}.yaml"), *FAMILIES[name]]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    with (folder.parent / "said.txt").open("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--run", str(folder)], env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            while not _has_learnt(folder / "metrics.csv"):
                if process.poll() is not None:
                    said.seek(0)
                    raise SystemExit(f"{name} ended before it had learnt anything:\n{said.read()}")
                time.sleep(0.02)
            return time.perf_counter() - start
        finally:
            process.kill()
            process.wait()


def _twice(name: str) -> dict[str, float]:
    """Seconds of a first start and of the next."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for which in _WHICH:
            run = Path(folder) / which / "run"
            run.parent.mkdir()
            found[which] = _first_updates(name, Path(folder) / "cache", run)
    print(f"{name}: {found['cold']:.1f} s, then {found['warm']:.1f} s", file=sys.stderr)
    return found


def compare(rounds: int) -> tuple[dict, bool]:
    """Seconds of each family's first start and of the next, and whether the bar is met."""
    runs = by_turns({name: partial(_twice, name) for name in FAMILIES}, rounds)
    medians = {
        name: {which: statistics.median(run[which] for run in found) for which in _WHICH}
        for name, found in runs.items()
    }
    figures = ", ".join(f"{name} {of['cold']:.1f} then {of['warm']:.1f} s" for name, of in medians.items())
    table = {"figures": figures, "unit": "seconds to the first updates", "runs": runs, "medians": medians}
    return table, all(of["warm"] < AT_MOST for of in medians.values())
