"""Where faults happen: processes, runs that were left alone, and the verdict on those that were not."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.kill import CONFIGS, differences, launch

# Small enough for hundreds of launches; a launch is imports, mostly.
RUNS: dict[str, tuple[str | Path, ...]] = {
    "inside": (
        CONFIGS / "classic" / "dqn_cartpole.yaml",
        "agent.replay={capacity: 4_000, warmup_steps: 200}",
        "agent.network.hidden=[32]",
        "train={env_frames: 8_000, log_frames: 500}",
        "checkpoint.every_frames=1_000",
        "evaluation.episodes=0",
    ),
    "host": (
        CONFIGS / "classic" / "dqn_cartpole.yaml",
        "env={id: gym/CartPole-v1, num_envs: 2}",
        "agent.replay={capacity: 2_000, warmup_steps: 200}",
        "agent.network.hidden=[32]",
        "train={env_frames: 4_000, log_frames: 250, collect_steps: 4}",
        "checkpoint.every_frames=500",
        "evaluation.episodes=0",
    ),
}
# What a small dataset is made of.
DATASETS: tuple[str | Path, ...] = (
    CONFIGS / "datasets" / "pendulum.yaml",
    "agent.network.hidden=[8]",
    "agent.replay={capacity: 4_000, warmup_steps: 64, batch_size: 8}",
    "train={env_frames: 900, log_frames: 100}",
    "checkpoint={every_frames: 250, policies_every_frames: 200}",
    "evaluation.episodes=0",
)
_PATIENCE = 300.0  # Seconds until a process counts as one that hangs.


class Outcome(NamedTuple):
    """What came of a fault."""

    verdict: Literal["went on", "refused", "lost"]
    told: str  # What was said, or what went wrong.


class Said(NamedTuple):
    """How a process ended, and all that it said."""

    code: int
    text: str

    @property
    def last(self) -> str:
        """The last line."""
        return (self.text.strip().splitlines() or [""])[-1]

    def sentence(self) -> bool:
        """Whether it ended with one sentence for a user's mistake, and no traceback."""
        return self.code == 2 and self.last.startswith("valuelearn: ") and "Traceback" not in self.text


def finish(process: subprocess.Popen) -> Said:
    """Wait for a process."""
    try:
        text, _ = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Said(-1, f"no end within {_PATIENCE:g} s")
    return Said(process.returncode, text.decode(errors="replace"))


def run(*arguments: str | Path) -> Said:
    """The command line, to its end."""
    return finish(launch(*arguments))


def kill(process: subprocess.Popen) -> None:
    """Kill a process, children and all."""
    with contextlib.suppress(ProcessLookupError):  # It has ended.
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def lost(what: str, said: Said | None = None) -> Outcome:
    """What should not have happened."""
    tail = (
        "" if said is None else f" (exit code {said.code}): {' | '.join(said.text.strip().splitlines()[-4:])}"
    )
    return Outcome("lost", re.sub(r"\s+", " ", what + tail)[:600])


def refused(said: Said, naming: str) -> Outcome:
    """The verdict where one sentence that names something is wanted."""
    if said.sentence() and naming in said.last:
        return Outcome("refused", said.last)
    return lost(f"one sentence with {naming!r} is wanted", said)


class Ground:
    """A folder for everything, and the runs that are left alone, each trained once."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing."""
        self._folder, self._count = folder, 0
        self._lock, self._making = threading.Lock(), threading.Lock()

    def place(self) -> Path:
        """A new folder."""
        with self._lock:
            self._count += 1
            place = self._folder / str(self._count)
        place.mkdir(parents=True)
        return place

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """A folder that is made once."""
        folder = self._folder / name
        with self._making:
            if not folder.exists():
                make(folder)
        return folder

    def alone(self, name: str) -> Path:
        """A run that was left alone."""
        return self.once(f"alone-{name}", lambda folder: _train(name, folder))

    def halfway(self, name: str) -> Path:
        """A run that was killed in its second half, with several checkpoints."""

        def make(folder: Path) -> None:
            process = start(name, folder)
            while process.poll() is None and len(checkpoints(folder)) < 3:
                time.sleep(0.002)
            kill(process)
            assert len(checkpoints(folder)) >= 3, folder

        return self.once(f"halfway-{name}", make)

    def copy(self, source: Path) -> Path:
        """A copy of a run, to be harmed."""
        return Path(shutil.copytree(source, self.place() / "run"))

    def ends_as_alone(self, name: str, folder: Path, said: str = "") -> Outcome:
        """The verdict on a run that is taken up again, by the bytes of its metrics and final parameters."""
        taken_up = start(name, folder)
        if (ended := finish(taken_up)).code:
            return lost("it could not be taken up again", ended)
        if found := differences(self.alone(name), folder):
            return lost(f"{found} of metrics and parameters are not those of the run left alone", ended)
        return Outcome("went on", said or "the same run")


def start(name: str, folder: Path) -> subprocess.Popen:
    """Train a run, or take it up where it was left."""
    if (folder / "config.yaml").exists():
        return launch("resume", folder)
    return launch("train", *RUNS[name], "--run", folder)


def _train(name: str, folder: Path) -> None:
    ended = finish(start(name, folder))
    assert ended.code == 0, ended.text


def checkpoints(folder: Path) -> list[Path]:
    """Those that are whole, oldest first."""
    found = [path for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))
