"""What a run's tables say."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from valuelearn.logs.files import RunFolderError
from valuelearn.logs.tables import METRICS, TIMING, check_seal

_ALWAYS_KNOWN = ("seed", "env_frames", "updates", "episodes")  # The other cells may be empty.
_LATE = 1.01  # A row ends a few frames after its round number.


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
