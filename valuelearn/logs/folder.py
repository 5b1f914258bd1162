"""The folder that a run writes into."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from valuelearn.logs.files import RunFolderError, check_new_folder, held, write_whole
from valuelearn.logs.tables import METRICS, TIMING, Table, Written, unseal
from valuelearn.logs.versions import versions


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

        def table(name: str, columns: tuple[str, ...]) -> Table:
            return Table(path / f"{name}.csv", columns, kept.get(name))

        try:
            unseal(path)
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

    def _tables(self) -> list[Table]:
        tables = (self._metrics, self._timing, self._fingerprints)
        return [table for table in tables if table is not None]

    def close(self) -> None:
        """Flush and close every file."""
        for table in self._tables():
            table.close()
        self._events.close()
