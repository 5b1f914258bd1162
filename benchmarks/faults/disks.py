"""Disks that are full, or cannot be written. Mounting needs root; without it these are left out."""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.ground import Ground, Outcome, checkpoints, finish, kill, lost, refused, run, start


def can_mount() -> bool:
    """Whether this process may mount a disk in memory."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextlib.contextmanager
def _disk(place: Path, size: str) -> Iterator[Path]:
    """A disk in memory, of that size."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def _change(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def full(ground: Ground, chance: random.Random) -> Outcome:
    """The disk of the run is full at some moment; with more room it goes on to the same end."""
    ground.alone("inside")
    with _disk(ground.place(), f"{int(2 ** chance.uniform(2, 10.5))}k") as place:
        ended = finish(start("inside", place / "run"))
        if ended.code and not ended.sentence():
            return lost("one sentence is wanted of a full disk", ended)
        _change(place, "size=200m")
        told = ended.last if ended.code else "it went on without what it could not save"
        return ground.ends_as_alone("inside", place / "run", told)


def read_only(ground: Ground, chance: random.Random) -> Outcome:
    """The folder of the run cannot be written any more: while it learns, or when it is taken up."""
    ground.alone("inside")
    with _disk(ground.place(), "200m") as place:
        folder = place / "run"
        if chance.random() < 0.3:
            _change(place, "ro")
            found = refused(run("train", *_QUICK, "--run", folder), str(folder))
            return found if not folder.exists() else lost("something was written")
        process = start("inside", folder)
        while process.poll() is None and not checkpoints(folder):
            time.sleep(0.01)
        kill(process)
        _change(place, "ro")
        found = refused(run("resume", folder), str(folder))
        _change(place, "rw")
        if found.verdict == "lost":
            return found
        return ground.ends_as_alone("inside", folder, found.told)


_QUICK = ("agents/configs/classic/dqn_cartpole.yaml",)
