"""What a run leaves behind.

A run folder holds `config.yaml` (every value written out), `versions.json`, `metrics.csv` (what
the seed determines), `timing.csv` (what the machine determines), TensorBoard events, `curve.png` and
the final parameters; until it is finished, checkpoints. Tables are flushed at every row.
"""

import csv
import importlib.metadata
import io
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import imageio.v2 as imageio
import jax
import numpy as np
import tensorboardX

from valuelearn.errors import UserError

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
_ALWAYS_KNOWN = ("seed", "env_frames", "updates", "episodes")  # The other cells may be empty.
TIMING = (
    "env_frames",
    "updates",
    "wall_seconds",
    "frames_per_second",
    "updates_per_second",
    "compile_seconds",
)
_PACKAGES = (
    "valuelearn",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "gymnasium",
    "gymnax",
    "ale-py",
    "mujoco",
    "numpy",
)


class RunFolderError(UserError):
    """A run folder that cannot be made, or is not one."""


def versions() -> dict[str, str]:
    """What the results depend on besides the config: packages, device, Python, git revision."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["git"] = _git_revision()
    found["python"] = platform.python_version()
    found["device"] = jax.devices()[0].device_kind
    found["backend"] = jax.default_backend()
    return found


def _git_revision() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    folder = Path(__file__).parent
    try:
        git = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # No git here.
        return "unknown"
    return git.stdout.strip() or "unknown"


def check_new_folder(path: Path) -> None:
    """Refuse a path where no new run folder can be made, without making anything.

    Raises:
        RunFolderError: where it is in use, or its parent cannot be written.
    """
    try:
        # A draft of the config is all that a process leaves that was killed while it made the folder.
        draft = _draft(path / "config.yaml")
        if path.exists() and (not path.is_dir() or any(other != draft for other in path.iterdir())):
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


class _Table:
    """A CSV file with fixed columns, flushed at every row; `size` is what to keep of an earlier one."""

    def __init__(self, path: Path, columns: tuple[str, ...], size: int | None = None) -> None:
        if size is not None and (now := path.stat().st_size) < size:
            raise RunFolderError(f"{path}: it has {now} bytes, and had {size} when the run was saved")
        self._file: TextIO = path.open("w" if size is None else "r+", newline="")
        self._writer = csv.DictWriter(self._file, columns)
        if size is None:
            self._writer.writeheader()
        else:
            self._file.truncate(size)
            self._file.seek(size)

    def size(self) -> int:
        """Bytes written so far, all of them on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def row(self, values: Mapping[str, Any]) -> None:
        # repr keeps every digit; an unknown value is an empty cell, never "nan".
        known = {k: v for k, v in values.items() if not (isinstance(v, float) and np.isnan(v))}
        self._writer.writerow(known)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Offsets(NamedTuple):
    """How far a run's files had come when its state was saved; without bytes they begin anew."""

    metrics_bytes: int | None = None
    timing_bytes: int | None = None
    come: int = 0  # Environment frames; updates of a run on a dataset.
    wall_seconds: float = 0.0
    compile_seconds: float = 0.0


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


def make_folder(path: Path, config: str) -> None:
    """Make the folder of a new run, with its config.

    Raises:
        RunFolderError: where the folder exists and holds something, or cannot be made.
    """
    check_new_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / "config.yaml", config)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from None


class RunFolder:
    """The files that a run writes into its folder."""

    def __init__(
        self, path: Path, command: list[str], start: Offsets = Offsets(), more: tuple[str, ...] = ()
    ) -> None:
        """Open the files, to go on from where `start` says that an interrupted run was saved.

        Rows of `metrics.csv` have the columns `METRICS`, then `more`.

        Raises:
            RunFolderError: where they cannot be written, or hold less than when the run was saved.
        """
        self.path = path
        try:
            self._metrics = _Table(path / "metrics.csv", METRICS + more, start.metrics_bytes)
            self._timing = _Table(path / "timing.csv", TIMING, start.timing_bytes)
            self._note_versions({"from": start.come, "command": command, **versions()})
            # What TensorBoard was told after the run was saved is void.
            self._events = tensorboardX.SummaryWriter(
                str(path / "tensorboard"), purge_step=start.come + 1 if start.come else None
            )
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from None

    def _note_versions(self, sitting: dict[str, Any]) -> None:
        """`versions.json` has one entry for each sitting of the run: its first, and every resumption."""
        file = self.path / "versions.json"
        try:
            earlier = json.loads(file.read_text()) if sitting["from"] else []
        except ValueError:
            raise RunFolderError(f"{file}: this is not the list of versions that a run writes") from None
        write_whole(file, json.dumps([*earlier, sitting], indent=1))

    def metrics(self, row: Mapping[str, float]) -> None:
        """One row of what the seed determines."""
        self._metrics.row(row)
        for name, value in row.items():
            if name not in ("seed", "env_frames") and np.isfinite(value):
                come = row["env_frames"] or row["updates"]
                self._events.add_scalar(f"seed_{row['seed']}/{name}", value, come)

    def timing(self, row: Mapping[str, float]) -> None:
        """One row of what the machine determines."""
        self._timing.row(row)

    def sizes(self) -> tuple[int, int]:
        """Bytes of `metrics.csv` and `timing.csv`, all of them on the disk."""
        return self._metrics.size(), self._timing.size()

    def close(self) -> None:
        """Flush and close every file."""
        self._metrics.close()
        self._timing.close()
        self._events.close()


def write_animation(file: Path, frames: list[Any], seconds_per_frame: float = 1 / 15) -> None:
    """Write pictures [H, W, 3] u8 as an animation in the format of the file's suffix.

    Raises:
        RunFolderError: where the file cannot be written.
    """
    try:
        imageio.mimwrite(file, frames, duration=1000 * seconds_per_frame, loop=0)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file}: cannot be written ({str(error).splitlines()[0]})") from None


def read_metrics(run: Path, more: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The columns of a run's `metrics.csv`, f64[rows] each; an empty cell is NaN.

    Those that all runs have, and `more` that only some have.

    Raises:
        RunFolderError: where the file is missing, or a line of it is not what `RunFolder` writes.
    """
    return _read(run, "metrics.csv", (*METRICS, *more), _ALWAYS_KNOWN)


def read_timing(run: Path) -> dict[str, np.ndarray]:
    """The columns of a run's `timing.csv`, f64[rows] each.

    Raises:
        RunFolderError: as `read_metrics`.
    """
    return _read(run, "timing.csv", TIMING, TIMING)


def clock(table: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """What a run's progress is counted in, by name, and how much of it each row of a table has.

    Environment frames, or of a run on a dataset, which has none, updates.
    """
    if table["env_frames"].any():
        return "environment frames", table["env_frames"]
    return "updates", table["updates"]


def _read(run: Path, name: str, wanted: tuple[str, ...], known: tuple[str, ...]) -> dict[str, np.ndarray]:
    path = run / name
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise RunFolderError(f"{run}: this is not a run folder ({name}: {error.strerror})") from None
    except (ValueError, csv.Error):
        raise RunFolderError(f"{path}: this is not a table of {path.stem}, but something else") from None
    columns: dict[str, np.ndarray] = {column: np.full(len(rows), np.nan) for column in wanted}
    for index, row in enumerate(rows):
        for column, values in columns.items():
            try:
                if row[column] != "" or column in known:
                    values[index] = float(row[column])
            except (KeyError, TypeError, ValueError):
                place = f"{path}, line {index + 2}"
                raise RunFolderError(
                    f"{place}: {column} is {row.get(column)!r}; a number is wanted"
                ) from None
    return columns


def training_return(metrics: Mapping[str, np.ndarray], after: float, until: float) -> float:
    """Mean training return of the episodes that ended in frames (after, until], all seeds together.

    A row belongs where the middle of its frames lies, as rows end a few frames after round numbers; NaN
    where no episode ended.
    """
    seed, frames = metrics["seed"], metrics["env_frames"]
    middle = np.zeros(len(frames))
    for one in np.unique(seed):
        end = frames[seed == one]
        middle[seed == one] = (end + np.concatenate([[0.0], end[:-1]])) / 2
    chosen = (middle > after) & (middle <= until) & (metrics["episodes"] > 0)
    if not chosen.any():
        return float("nan")
    return float(np.average(metrics["episode_return"][chosen], weights=metrics["episodes"][chosen]))


def per_million_frames(metrics: Mapping[str, np.ndarray]) -> dict[int, float]:
    """`training_return` in each whole million frames, the statistic that Dopamine publishes of Atari.

    Keys are 1, 2, ... millions; one in which no episode ended is left out.
    """
    whole = int(metrics["env_frames"].max(initial=0) // 1e6)
    means = {index: training_return(metrics, (index - 1) * 1e6, index * 1e6) for index in range(1, whole + 1)}
    return {index: mean for index, mean in means.items() if not np.isnan(mean)}
