"""Whether two runs are the same in every bit, and if not, from where on and in what."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agents import experiment
from valuelearn import checkpoint, logs
from valuelearn.checkpoint import Checkpoints
from valuelearn.logs import RunFolderError

Say = Callable[[str], None]
Fingerprints = Mapping[str, str]  # In hexadecimal digits, by the names of arrays.


class Moment(NamedTuple):
    """What a run left of its state at one moment; moments are sorted by their first three fields."""

    come: int  # Environment frames; updates of a run on a dataset.
    kind: int  # 0 a row of metrics, 1 a checkpoint, which follows it, 2 the parameters in the end.
    seed: int
    name: str


def verify(first: Path, second: Path, say: Say) -> bool:
    """Compare two runs by the fingerprints that they left; whether all that both have is the same.

    Raises:
        RunFolderError, ConfigError: where a folder is not a run, or has no fingerprints.
    """
    settings = [dict(_leaves(experiment.load_run(run).model_dump())) for run in (first, second)]
    keys = sorted(settings[0].keys() | settings[1].keys())
    if other := [key for key in keys if settings[0].get(key) != settings[1].get(key)]:
        say(f"their configs differ in {', '.join(other)}")
    left, right = _left(first), _left(second)
    shared = sorted(left.keys() & right.keys())
    if not shared:
        raise RunFolderError(f"{second}: none of its rows of metrics is of the same steps as one of {first}")
    for moment in shared:
        names = sorted(left[moment].keys() | right[moment].keys())
        if differing := [name for name in names if left[moment].get(name) != right[moment].get(name)]:
            more = f", and {len(differing) - 1} more of {len(names)} arrays" if len(differing) > 1 else ""
            say(f"{moment.name}: {differing[0]} differs{more}; all before is the same")
            return False
    for run, moments in ((first, left), (second, right)):
        if alone := len(moments) - len(shared):
            say(f"{run} left {alone} rows and states more")
    rows = sum(moment.kind == 0 for moment in shared)
    say(f"the same in every bit at {rows} rows of metrics, and wherever both saved what they had come to")
    return True


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _left(run: Path) -> dict[Moment, Fingerprints]:
    """The fingerprints that a run left."""
    file = run / "fingerprints.csv"
    if not file.is_file():
        raise RunFolderError(f"{run}: it left no fingerprints, as with determinism=off")
    logs.check_seal(run, file.name)
    found: dict[Moment, Fingerprints] = {}
    come = 0
    try:
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                come, seed = int(row.pop("come")), int(row.pop("seed"))
                found[Moment(come, 0, seed, f"seed {seed}, row of {come:,}")] = row
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        raise RunFolderError(f"{file}: this is not a table of fingerprints, but something else") from None
    if (run / "checkpoints").is_dir():
        with Checkpoints(run / "checkpoints") as checkpoints:
            for step, leaves in checkpoints.fingerprints().items():
                found[Moment(step, 1, 0, f"checkpoint of {step:,}")] = leaves
    if (run / "params").is_dir():
        leaves = checkpoint.params_fingerprints(run / "params")
        found[Moment(come, 2, 0, "the parameters in the end")] = leaves
    return found
