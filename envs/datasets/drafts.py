"""Files and folders that are there whole or not at all."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from envs.datasets.dataset import DatasetError


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to; it gets its name when all is written.

    Raises:
        DatasetError: where something is there already, or nothing can be written.
    """
    if path.exists():
        raise DatasetError(f"{path}: exists already; name another path")
    beside = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(beside)  # Left by a process that was killed.
        yield beside
        beside.rename(path)
    except (OSError, RuntimeError) as error:  # h5py's of a file that it cannot close on a full disk.
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: cannot be written ({reason})") from None
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
