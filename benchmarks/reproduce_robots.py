"""Robots: does our curve, the mean of several seeds, reach the published one?

Published is SAC of five seeds (Dopamine; see `benchmarks/reference/`) on MuJoCo's v2 environments, whose
physics are older than ours: nothing says that the curves must agree, only that ours should be as good. At
every 50,000 steps, all of them judged, ours must be at least the published mean less one standard deviation.

Ours is counted as the published is, by iterations. One plays episodes until it has made 1,000 steps, the last
of them to its end, and counts as 1,000 steps whatever it made; its return is the mean of its episodes'. So
where episodes end early more steps are made than are counted, and a long episode, alone in its iteration,
weighs more than one of several short ones. A published point is that of one iteration, and ours the mean of
the ten around it. The steps that we really made stand beside.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents import experience, experiment
from benchmarks import reproduce as shared
from envs import datasets
from envs.datasets import Dataset
from valuelearn import logs, plots
from valuelearn.errors import UserError
from valuelearn.plots import Published

_LEAST_STEPS = 1_000  # Of an iteration.
_EVERY_STEPS = 50_000
_NEAR = 5  # Iterations to either side of a published one that ours is the mean of.
_COLUMNS = ("seed", "iteration", "env_steps", "mean_return")


class Iterations(NamedTuple):
    """A run as the published ones are counted."""

    env_steps: np.ndarray  # i64[I] really made before each.
    mean_return: np.ndarray  # f64[I] NaN where no episode came to its end.


def iterations(recorded: Dataset) -> Iterations:
    """The whole iterations of a run's experience; of episodes that a checkpoint cut the steps alone count."""
    begun, means = [0], []
    made, returns = 0, []
    parts = zip(datasets.episodes(recorded), datasets.finished(recorded), strict=True)
    for rows, whole in parts:
        made = rows.stop
        if whole:
            returns.append(recorded.reward[rows].sum(dtype=np.float64))
        if made - begun[-1] >= _LEAST_STEPS:
            means.append(np.mean(returns) if returns else np.nan)
            begun.append(made)
            returns = []
    return Iterations(np.array(begun[:-1]), np.array(means))


class Comparison(NamedTuple):
    """Our mean training return around a step, as the published are counted, beside the published one."""

    step: int
    made: float  # Steps that we really made, the mean of seeds.
    ours: float  # NaN where no episode of a seed came to its end.
    mean: float
    std: float  # Of the published seeds.

    @property
    def good(self) -> bool:
        """Whether ours is as good as the published, less one standard deviation."""
        return self.ours >= self.mean - self.std

    def __str__(self) -> str:
        """One line of the table."""
        verdict = "reached" if self.good else f"{self.mean - self.std - self.ours:.2f} short"
        figures = f"{self.ours:9.2f}  {self.mean:9.2f}  {self.std:9.2f}"
        return f"{self.step:9,d}  {self.made:9,.0f}  {figures}  {verdict}"


_HEADER = f"{'steps':>9}  {'made':>9}  {'ours':>9}  {'published':>9}  {'std':>9}"


def compare(runs: Sequence[Iterations], published: Published) -> list[Comparison]:
    """Every 50,000 steps, counted as the published are, that all runs came to."""
    come = min(len(run.env_steps) for run in runs)
    found = []
    for step, mean, low in zip(published.frames, published.mean, published.low, strict=True):
        index = int(step) // _LEAST_STEPS
        if index == 0 or step % _EVERY_STEPS or index > come:
            continue
        # At the end of a run there is only the side before.
        around = (run.mean_return[index - _NEAR : index + _NEAR] for run in runs)
        made = np.mean([run.env_steps[min(index, come - 1)] for run in runs])
        known = [returns[np.isfinite(returns)] for returns in around]
        ours = np.mean([returns.mean() for returns in known]) if all(map(len, known)) else np.nan
        found.append(Comparison(int(step), float(made), float(ours), float(mean), float(mean - low)))
    return found


def _write(file: Path, runs: dict[int, Iterations]) -> None:
    """Write the curve of every seed, a row for each iteration."""
    rows = [
        (seed, index, int(steps), "" if np.isnan(mean) else f"{mean:.3f}")
        for seed, run in runs.items()
        for index, (steps, mean) in enumerate(zip(*run, strict=True))
    ]
    logs.write_table(file, _COLUMNS, rows)


def _refuse_unrecorded(runs: Sequence[Path]) -> None:
    """Refuse runs that are there and do not leave their experience, before any is trained.

    Raises:
        UserError: naming the run.
    """
    for run in runs:
        if (run / "config.yaml").exists() and not experiment.load_run(run).checkpoint.experience:
            reason = "it was made with checkpoint.experience=false, and its episodes are wanted"
            raise UserError(f"{run}: {reason}; name another folder with --run")


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

    Leaves the curves in `out`, as a table and as a picture, along the steps as the published are counted.

    Raises:
        UserError: where nothing is published to compare with, a folder holds another run, or `out` cannot be.
    """
    wanted = shared.target(env_id, agent)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made ({error.strerror})") from None
    runs = {seed: folder / f"seed_{seed}" for seed in seeds}
    _refuse_unrecorded(list(runs.values()))
    # Theirs forgets none of 1,000,000 steps. Nor does ours, in which the ends of episodes take rows, too.
    capacity = f"agent.replay.capacity={max(1_000_000, 2 * steps + 32)}"
    shared.train(wanted, steps, runs, command, say, "checkpoint.experience=true", capacity)
    name = f"{env_id.partition('/')[2]}_{agent}"
    found = {seed: iterations(datasets.load(run / experience.FILE)) for seed, run in runs.items()}
    _write(out / f"{name}.csv", found)
    ours = f"ours, mean of {len(runs)} seeds" if len(runs) > 1 else "ours, one seed"
    lines = [
        (
            _LEAST_STEPS * np.arange(len(run.mean_return)),
            plots.smooth(run.mean_return, np.isfinite(run.mean_return), 2 * _NEAR),
        )
        for run in found.values()
    ]
    names = {
        "title": f"{env_id}; published: v2, with older physics",
        "xlabel": "environment steps, counted by iterations of 1,000",
        "ylabel": "training return",
    }
    plots.means([(ours, lines)], out / f"{name}.png", names, wanted.curve)
    rows = compare(list(found.values()), wanted.curve)
    criterion = "reach the published mean less one standard deviation"
    return shared.verdict([_HEADER, *map(str, rows)], [row.good for row in rows], criterion, say)
