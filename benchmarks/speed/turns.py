"""Programs of several frameworks, and timers of this process, by turns.

Each framework runs in a virtual environment of its own, made here on first use and again where what it
is to hold has changed.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "valuelearn" / "peers"
_GAMES = ("ale-py", "opencv-python-headless", "mujoco", "imageio", "packaging")
PEERS = {
    "sb3": ("torch == 2.13.0", "stable-baselines3 >= 2.7", "minatar >= 1.0.15", *_GAMES),
    "sbx": ("torch == 2.13.0", "sbx-rl >= 0.20", *_GAMES),
    "d3rlpy": ("torch == 2.13.0", "d3rlpy >= 2.8"),
    "torch": ("torch == 2.13.0", "numpy"),
}


def python_of(peer: str) -> Path:
    """The interpreter of a framework's own environment, made where it is missing."""
    if peer not in PEERS:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer
    python, installed, wanted = folder / "bin" / "python", folder / "installed", "\n".join(PEERS[peer])
    if not installed.exists() or installed.read_text() != wanted:
        print(f"installing {peer} into {folder}", file=sys.stderr)
        if not installed.exists():
            venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[peer]], check=True)
        installed.write_text(wanted)
    return python


def measure(peer: str, problem: str, name: str, task: dict) -> dict:
    """What a framework's program prints."""
    program = PROGRAMS / f"{peer}_{problem}.py"
    command = [str(python_of(peer)), str(program), name, json.dumps(task)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} if peer == "ours" else None
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo logs into whatever folder it runs in.
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env=environment, check=False
        )
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def by_turns(timers: dict[Key, Callable[[], Any]], rounds: int) -> dict[Key, list[Any]]:
    """What each timer answers; every other round is backwards, so that none always follows the same."""
    runs: dict[Key, list[Any]] = {name: [] for name in timers}
    order = list(timers)
    for _ in range(rounds):
        for name in order:
            runs[name].append(timers[name]())
        order.reverse()
    return runs


def medians_of(runs: dict[str, list[dict]], key: str) -> dict[str, float]:
    """The median that each program printed under that key."""
    return {name: statistics.median(run[key] for run in found) for name, found in runs.items()}
