"""What a run leaves behind.

A run folder holds `config.yaml` (every value written out), `versions.json`, `metrics.csv` (what
the seed determines), `fingerprints.csv` (of every array of the run's state, at every row of metrics),
`timing.csv` (what the machine determines), TensorBoard events, `curve.png`, the final parameters and the
`sha256.json` of the tables; until it is finished, checkpoints. Tables are flushed at every row.
"""

import contextlib
import csv
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import imageio.v2 as imageio
import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from valuelearn import determinism
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
LOCK = ".lock"  # Who writes to a folder holds it.
_LOCK_TRIES = 20
_SEAL = "sha256.json"
_SEALED = ("metrics.csv", "timing.csv", "fingerprints.csv", "versions.json")
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
    return found | determinism.settings()


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


class Written(NamedTuple):
    """What is on the disk of a file that grows."""

    size: int  # Bytes.
    sha256: str


class _Table:
    """A CSV file with fixed columns, flushed at every row; `kept` is what to go on from of an earlier one."""

    def __init__(self, path: Path, columns: tuple[str, ...], kept: Written | None = None) -> None:
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
        # repr keeps every digit; an unknown value is an empty cell, never "nan".
        known = {k: v for k, v in values.items() if not (isinstance(v, float) and np.isnan(v))}
        self._writer.writerow(known)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Events:
    """Scalars for TensorBoard, written at once; a writer in a thread would wait for ever on a full disk."""

    def __init__(self, folder: Path, come: int) -> None:
        """A new file; what was told after a run had `come` so far is void."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        if come:
            begun = SessionLog(status=SessionLog.START)
            self._file.write_event(Event(wall_time=time.time(), step=come + 1, session_log=begun))

    def scalar(self, name: str, value: float, step: int) -> None:
        """One number."""
        self._file.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Leave nothing in the process alone."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Offsets(NamedTuple):
    """How far a run's files had come when its state was saved; tables that are not named begin anew."""

    tables: Mapping[str, Sequence[Any]] = {}  # The fields of `Written` by name.
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
        with held(path):
            check_new_folder(path)  # Another process may have come before.
            write_whole(path / "config.yaml", config)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from None


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


class RunFolder:
    """The files that a run writes into its folder."""

    def __init__(
        self,
        path: Path,
        command: list[str],
        start: Offsets = Offsets(),
        more: tuple[str, ...] = (),
        leaves: tuple[str, ...] = (),
    ) -> None:
        """Open the files, to go on from where `start` says that an interrupted run was saved.

        Rows of `metrics.csv` have the columns `METRICS`, then `more`, then the state's `fingerprint`; those
        of `fingerprints.csv` are of the state's `leaves`, where there are any.

        Raises:
            RunFolderError: where they cannot be written, or hold less than when the run was saved.
        """
        self.path = path
        kept = {name: Written(*values) for name, values in start.tables.items()}

        def table(name: str, columns: tuple[str, ...]) -> _Table:
            return _Table(path / f"{name}.csv", columns, kept.get(name))

        try:
            (path / _SEAL).unlink(missing_ok=True)
            self._metrics = table("metrics", (*METRICS, *more, "fingerprint"))
            self._fingerprints = table("fingerprints", ("seed", "come", *leaves)) if leaves else None
            self._timing = table("timing", TIMING)
            self._note_versions({"from": start.come, "command": command, **versions()})
            self._events = _Events(path / "tensorboard", start.come)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from None

    def _note_versions(self, sitting: dict[str, Any]) -> None:
        """`versions.json` has one entry for each sitting of the run: its first, and every resumption."""
        file = self.path / "versions.json"
        try:
            earlier = list(json.loads(file.read_text())) if sitting["from"] else []
        except (TypeError, ValueError):
            raise RunFolderError(f"{file}: this is not the list of versions that a run writes") from None
        write_whole(file, json.dumps([*earlier, sitting], indent=1))

    def metrics(self, row: Mapping[str, float], fingerprint: str = "") -> None:
        """One row of what the seed determines."""
        self._metrics.row({**row, "fingerprint": fingerprint})
        for name, value in row.items():
            if name not in ("seed", "env_frames") and np.isfinite(value):
                come = row["env_frames"] or row["updates"]
                self._events.scalar(f"seed_{row['seed']}/{name}", value, int(come))
        self._events.flush()

    def timing(self, row: Mapping[str, float]) -> None:
        """One row of what the machine determines."""
        self._timing.row(row)

    def fingerprints(self, row: Mapping[str, Any]) -> None:
        """One row of the fingerprints of every array of the state."""
        assert self._fingerprints is not None
        self._fingerprints.row(row)

    def written(self) -> dict[str, Written]:
        """What is on the disk of each table, as `Offsets` has it."""
        return {table.name: table.written() for table in self._tables()}

    def _tables(self) -> list[_Table]:
        tables = (self._metrics, self._timing, self._fingerprints)
        return [table for table in tables if table is not None]

    def close(self) -> None:
        """Flush and close every file."""
        for table in self._tables():
            table.close()
        self._events.close()


def seal(path: Path) -> None:
    """Note the SHA-256 of a finished run's tables, by which damage is known later."""
    names = [name for name in _SEALED if (path / name).exists()]
    write_whole(path / _SEAL, json.dumps({name: _sha256(path / name) for name in names}, indent=1))


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
    check_seal(run, name)
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


_LATE = 1.01  # A row ends a few frames after its round number.


def within(metrics: Mapping[str, np.ndarray], after: float, until: float) -> np.ndarray:
    """Which rows, bool[rows], tell of what came in (after, until]: those whose middle lies there.

    Rows end a few frames after round numbers, and where the warm-up is no round number all of them do.
    """
    before, come = _spans(metrics)
    middle = (come + before) / 2
    return (middle > after) & (middle <= until)


def _spans(metrics: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What had come where each row begins and where it ends, in what the run's progress is counted in."""
    seed, (_, come) = metrics["seed"], clock(metrics)
    before = np.zeros(len(come))
    for one in np.unique(seed):
        before[seed == one] = np.concatenate([[0.0], come[seed == one][:-1]])
    return before, come


def training_return(metrics: Mapping[str, np.ndarray], after: float, until: float) -> float:
    """Mean training return of the episodes that ended in frames (after, until], all seeds together.

    Rows are those `within`, but for any that tells of more frames than are asked for; NaN where no episode
    ended.
    """
    before, frames = _spans(metrics)
    chosen = within(metrics, after, until) & (metrics["episodes"] > 0)
    chosen &= frames - before <= _LATE * (until - after)
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
