"""The tables of a run: what columns they have, how they grow, and how damage to them is known."""

import csv
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from valuelearn.logs.files import RunFolderError, write_whole

METRICS = (
    "seed",
    "env_frames",
    "updates",
    "episodes",
    "episode_return",
    "reward_min",
    "reward_max",
    "loss",
    "value",
    "clipped_below",
    "clipped_above",
    "edge_bias",
    "grad_norm",
)
TIMING = (
    "env_frames",
    "updates",
    "wall_seconds",
    "frames_per_second",
    "updates_per_second",
    "compile_seconds",
)
_SEAL = "sha256.json"
_SEALED = ("metrics.csv", "timing.csv", "fingerprints.csv", "versions.json")


class Written(NamedTuple):
    """What is on the disk of a file that grows."""

    size: int  # Bytes.
    sha256: str


class Table:
    """A CSV file with fixed columns, flushed at every row."""

    def __init__(self, path: Path, columns: tuple[str, ...], kept: Written | None = None) -> None:
        """A new file, or what is `kept` of an earlier one, to go on from.

        Raises:
            RunFolderError: where that is not there any more.
        """
        data = b"" if kept is None else path.read_bytes()
        if kept is not None:
            if len(data) < kept.size:
                had = f"it has {len(data)} bytes, and had {kept.size} when the run was saved"
                raise RunFolderError(f"{path}: {had}")
            data = data[: kept.size]
            if hashlib.sha256(data).hexdigest() != kept.sha256:
                raise RunFolderError(f"{path}: it is damaged: its first {kept.size} bytes are not as written")
        self.name = path.stem
        self._hash, self._size = hashlib.sha256(data), len(data)
        self._file: BinaryIO = path.open("wb" if kept is None else "r+b")
        self._file.truncate(self._size)
        self._file.seek(self._size)
        self._writer = csv.DictWriter(self, columns)
        if kept is None:
            self._writer.writeheader()

    def write(self, text: str) -> None:
        """What the writer of rows writes."""
        data = text.encode()
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def written(self) -> Written:
        """All so far, on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return Written(self._size, self._hash.hexdigest())

    def row(self, values: Mapping[str, Any]) -> None:
        """Write one; other columns stay empty, and so do values that are not known."""
        # repr keeps every digit; an unknown value is an empty cell, never "nan".
        known = {k: v for k, v in values.items() if not (isinstance(v, float) and np.isnan(v))}
        self._writer.writerow(known)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def seal(path: Path) -> None:
    """Note the SHA-256 of a finished run's tables, by which damage is known later."""
    names = [name for name in _SEALED if (path / name).exists()]
    write_whole(path / _SEAL, json.dumps({name: _sha256(path / name) for name in names}, indent=1))


def unseal(path: Path) -> None:
    """Take back what `seal` noted, before the tables grow."""
    (path / _SEAL).unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check_seal(path: Path, name: str) -> None:
    """Refuse a table that is not as the run wrote it; of unfinished runs nothing is known.

    Raises:
        RunFolderError: naming the file.
    """
    try:
        wanted = dict(json.loads((path / _SEAL).read_text())).get(name)
        good = wanted is None or _sha256(path / name) == wanted
    except FileNotFoundError:
        return
    except (OSError, TypeError, ValueError):
        raise RunFolderError(
            f"{path / _SEAL}: this is not the list that a run writes; it is damaged"
        ) from None
    if not good:
        mend = f"without {_SEAL} it is taken as it is"
        raise RunFolderError(
            f"{path / name}: it is not as the run wrote it: it is damaged, or was changed; {mend}"
        )
