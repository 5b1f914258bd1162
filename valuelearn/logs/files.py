"""Files that are there whole or not at all, and folders that one process at a time writes to."""

import contextlib
import csv
import fcntl
import io
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio

from valuelearn.errors import UserError

LOCK = ".lock"  # Who writes to a folder holds it.
_LOCK_TRIES = 20


class RunFolderError(UserError):
    """A run folder that cannot be made, or is not one."""


def check_new_folder(path: Path) -> None:
    """Refuse a path where no new run folder can be made, without making anything.

    Raises:
        RunFolderError: where it is in use, or its parent cannot be written.
    """
    try:
        # All that a process leaves that was killed while it made the folder.
        left = (path / LOCK, _draft(path / "config.yaml"))
        if path.exists() and (not path.is_dir() or any(other not in left for other in path.iterdir())):
            raise RunFolderError(f"{path}: exists already; name another folder with --run")
        nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be a run folder ({error.strerror})") from None
    _check_folder(path, nearest)


def check_new_file(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a path where no file with one of these suffixes can be written.

    Raises:
        RunFolderError: for another suffix, a folder that is not there, or one that cannot be written.
    """
    if path.suffix.lower() not in suffixes:
        raise RunFolderError(f"{path}: a name that ends in {' or '.join(suffixes)} is wanted")
    _check_folder(path, path.absolute().parent)


def _check_folder(path: Path, folder: Path) -> None:
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise RunFolderError(f"{path}: {folder} is not a folder that can be written")


def _draft(path: Path) -> Path:
    """Where what becomes `path` is written first."""
    return path.with_name(f".{path.name}")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    draft = _draft(path)
    draft.write_text(text)
    draft.replace(path)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file that is there whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_whole(path, text.getvalue())


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder meanwhile; whoever is killed lets go of it.

    Raises:
        RunFolderError: where another process writes to it, or it cannot be written.
    """
    try:
        file = (path / LOCK).open("a+")
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from None
    with file:
        for _ in range(_LOCK_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)  # Who was just killed may be about to let go.
        else:
            file.seek(0)
            raise RunFolderError(f"{path}: another process writes to it ({file.read().strip()})")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def write_animation(file: Path, frames: list[Any], seconds_per_frame: float = 1 / 15) -> None:
    """Write pictures [H, W, 3] u8 as an animation in the format of the file's suffix.

    Raises:
        RunFolderError: where the file cannot be written.
    """
    try:
        imageio.mimwrite(file, frames, duration=1000 * seconds_per_frame, loop=0)
    except (OSError, ValueError) as error:
        told = str(error).partition("\n")[0]
        raise RunFolderError(f"{file}: cannot be written ({told})") from None
