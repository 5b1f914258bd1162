"""Robots: does our curve, the mean of several seeds, reach the published one?

Published is SAC of five seeds (Dopamine; see `benchmarks/reference/`) on MuJoCo's v2 environments, whose
physics are older than ours: nothing says that the curves must agree, only that ours should be as good. At
every 50,000 steps, all of them judged, ours must be at least the published mean less one standard deviation.

A published point at step S is the mean return of the training episodes of an iteration of 1,000 steps, or
somewhat more as its last episode is played to the end, that begins there; it is of one to a few episodes a
seed. Ours is the mean return of all the episodes that ended within 5,000 steps of S to either side, averaged
over seeds; at the end of a run there is only the side before.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents import curves
from benchmarks import reproduce as shared
from valuelearn import logs
from valuelearn.errors import UserError
from valuelearn.plots import Published

Metrics = Mapping[str, np.ndarray]  # Columns, as `logs.read_metrics` gives them.

_EVERY_STEPS = 50_000
_NEAR_STEPS = 5_000
_COLUMNS = ("seed", "env_frames", "episodes", "episode_return")


class Comparison(NamedTuple):
    """Our mean training return around a step beside the published one."""

    step: int
    ours: float  # NaN where a seed ended no episode.
    mean: float
    std: float  # Of the published seeds.

    @property
    def good(self) -> bool:
        """Whether ours is as good as the published, less one standard deviation."""
        return self.ours >= self.mean - self.std

    def __str__(self) -> str:
        """One line of the table."""
        verdict = "reached" if self.good else f"{self.mean - self.std - self.ours:.2f} short"
        return f"{self.step:9,d}  {self.ours:9.2f}  {self.mean:9.2f}  {self.std:9.2f}  {verdict}"


_HEADER = f"{'steps':>9}  {'ours':>9}  {'published':>9}  {'std':>9}"


def compare(tables: Sequence[Metrics], published: Published, steps: int) -> list[Comparison]:
    """Every 50,000 steps of runs, one a table, that made so many."""
    found = []
    for step, mean, low in zip(published.frames, published.mean, published.low, strict=True):
        if 0 < step <= steps and step % _EVERY_STEPS == 0:
            ends = step - _NEAR_STEPS, step + _NEAR_STEPS
            ours = np.mean([logs.training_return(metrics, *ends) for metrics in tables])
            found.append(Comparison(int(step), float(ours), float(mean), float(mean - low)))
    return found


def _write(file: Path, tables: Sequence[Metrics]) -> None:
    """Write the curve of every seed, a row for each row of its metrics."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for metrics in tables:
        for seed, frames, episodes, mean in zip(*(metrics[name] for name in _COLUMNS), strict=True):
            writer.writerow([int(seed), int(frames), int(episodes), "" if np.isnan(mean) else f"{mean:.3f}"])
    logs.write_whole(file, text.getvalue())


def reproduce(
    env_id: str,
    agent: str,
    steps: int,
    seeds: Sequence[int],
    folder: Path,
    out: Path,
    command: list[str],
    say: shared.Say,
) -> bool:
    """Train, or go on with, a run a seed in `folder`; whether their mean reaches the published curve.

    Leaves the curves in `out`, as a table and as a picture.

    Raises:
        UserError: where nothing is published to compare with, a folder holds another run, or `out` cannot be.
    """
    wanted = shared.target(env_id, agent)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made ({error.strerror})") from None
    runs = {seed: folder / f"seed_{seed}" for seed in seeds}
    shared.train(wanted, steps, runs, command, say)
    name = f"{env_id.partition('/')[2]}_{agent}"
    tables = [logs.read_metrics(run) for run in runs.values()]
    _write(out / f"{name}.csv", tables)
    ours = f"ours, mean of {len(runs)} seeds" if len(runs) > 1 else "ours, one seed"
    curves.plot(list(runs.values()), out / f"{name}.png", wanted.agent, ours)
    rows = compare(tables, wanted.curve, steps)
    criterion = "reach the published mean less one standard deviation"
    return shared.verdict([_HEADER, *map(str, rows)], [row.good for row in rows], criterion, say)
