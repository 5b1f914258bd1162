"""The scores of a study's trials, seed by seed, and what they say together."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.study import Settings, StudyConfig, Trial, shown
from valuelearn import logs, stats
from valuelearn.errors import UserError
from valuelearn.stats import Interval

_TOO_FEW = f"no interval: it needs {stats.LEAST_RUNS} seeds or more, as fewer say nothing of their spread"
_FEW = "so few seeds give an interval that reaches from the lowest to the highest of them, and is too narrow"
_LAST = 0.1  # Share of a run's frames over which the final return is the mean.
_HUMAN = Path(__file__).parent / "reference" / "atari_random_human.csv"


class Score(NamedTuple):
    """What one seed reached."""

    method: Settings
    tuned: Settings
    task: str
    seed: int
    final_return: float  # Mean over the last tenth of the frames, or of the updates.
    area: float  # Mean height of the learning curve.
    clipped: float  # Share of target mass beyond the support in the last tenth; NaN where there is none.
    updates: int
    seconds: float  # Wall clock, compilation aside; seeds that ran at once share theirs equally.


def name(method: Settings) -> str:
    """A method in a table."""
    return ", ".join(shown(key, value) for key, value in method) or "all"


def collect(trials: Sequence[Trial]) -> list[Score]:
    """The scores of finished trials.

    Raises:
        UserError: where no episode ended in the last tenth of a run.
    """
    return [score for trial in trials for score in _of(trial)]


def _of(trial: Trial) -> Iterator[Score]:
    metrics, timing = logs.read_metrics(trial.folder), logs.read_timing(trial.folder)
    seeds = np.unique(metrics["seed"])
    seconds = float(timing["wall_seconds"][-1] - timing["compile_seconds"].sum()) / len(seeds)
    _, come = logs.clock(metrics)
    in_last_tenth = logs.within(metrics, (1 - _LAST) * come.max(), np.inf)
    for seed in seeds:
        frames, returns = curve(metrics, seed)
        late = (metrics["seed"] == seed) & (in_last_tenth | (come == come.max()))
        ended = late & (metrics["episodes"] > 0)
        if not ended.any():
            raise UserError(f"{trial.folder}: no episode ended in its last tenth, where the score is taken")
        final = np.average(metrics["episode_return"][ended], weights=metrics["episodes"][ended])
        area = stats.area_under_curve(frames, returns) if len(frames) > 1 else returns[0]
        clipped = np.mean(metrics["clipped_below"][late] + metrics["clipped_above"][late])
        updates = int(metrics["updates"][late].max())
        found = (int(seed), float(final), float(area), float(clipped), updates, seconds)
        yield Score(trial.method, trial.tuned, trial.task, *found)


def curve(metrics: Mapping[str, np.ndarray], seed: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames, or updates, and mean returns f64[K] of a seed's rows in which an episode ended."""
    ended = (metrics["seed"] == seed) & (metrics["episodes"] > 0)
    return logs.clock(metrics)[1][ended], metrics["episode_return"][ended]


def write(file: Path, table: Sequence[Score], tuning: Sequence[Score]) -> None:
    """A row for each seed of each trial; those of the tuning last."""
    keys = [key for key, _ in (*table[0].method, *table[0].tuned)]
    rows = [_row("reported", score) for score in table] + [_row("tuning", score) for score in tuning]
    logs.write_table(file, ("use", *keys, *Score._fields[2:]), rows)


def _row(use: str, score: Score) -> list[Any]:
    settings = [shown(key, value) for key, value in (*score.method, *score.tuned)]
    # NaN, which is not equal to itself, is an empty cell.
    return [use, *settings, *("" if cell != cell else cell for cell in score[2:])]


def tasks(table: Sequence[Score]) -> list[str]:
    """The tasks, in the order in which they come."""
    return list(dict.fromkeys(score.task for score in table))


Key = Callable[[Score], Any]


def _method(score: Score) -> Any:
    return score.method


def _matrices(table: Sequence[Score], key: Key = _method) -> dict[Any, np.ndarray]:
    """Final returns f64[R, T] of each method, the tasks in the order in which they come."""
    found = {}
    for one in dict.fromkeys(map(key, table)):
        own = [score for score in table if key(score) == one]
        found[one] = np.array([[s.final_return for s in own if s.task == task] for task in tasks(table)]).T
    return found


def best(table: Sequence[Score]) -> dict[Settings, Settings]:
    """Each method's value of the tuned key with the highest interquartile mean.

    Returns on a task are divided by their mean over the whole grid, so that no task counts for more.
    """
    matrices = _matrices(table, lambda score: (score.method, score.tuned))
    scale = np.abs(np.mean([matrix.mean(0) for matrix in matrices.values()], axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    middles = {both: float(stats.interquartile_mean(matrix / scale)) for both, matrix in matrices.items()}
    ascending = sorted(middles, key=lambda both: middles[both])
    return dict(ascending)  # Of the pairs (method, value) the last, which is the best, stays.


def normalised(study: StudyConfig, table: Sequence[Score]) -> tuple[str, dict[Settings, np.ndarray]]:
    """Scores f64[R, T] in a unit that the tasks have in common, and that unit.

    One task keeps its returns. Atari games are human-normalised where all of them have published human
    scores; other tasks are divided by the absolute mean return there of the baseline, or of the first
    method.
    """
    matrices = _matrices(table)
    names = tasks(table)
    if len(names) == 1:
        return "return", matrices
    if (published := _human_scores(names)) is not None:
        found = {method: stats.human_normalised(matrix, *published) for method, matrix in matrices.items()}
        return "human-normalised return", found
    first = next(iter(matrices))
    base = study.baseline_of(first) or first
    scale = np.abs(matrices[base].mean(0))
    if not scale.all():
        task = names[int(np.argmin(scale))]
        raise UserError(
            f"{task}: the mean return of {name(base)} is 0 there, so there is no unit to compare in"
        )
    unit = f"return divided by the absolute mean of {name(base)}"
    return unit, {method: matrix / scale for method, matrix in matrices.items()}


def _human_scores(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Random and human scores f64[T] of Atari games, where all of them are published."""
    with _HUMAN.open(newline="") as file:
        rows = {f"atari/{row['game']}": (row["random"], row["human"]) for row in csv.DictReader(file)}
    if not set(names) <= set(rows):
        return None
    random, human = np.array([rows[name] for name in names], float).T
    return random, human


def interval(matrix: np.ndarray) -> Interval:
    """The interquartile mean of scores f64[R, T]; its ends are NaN where there are too few runs."""
    if len(matrix) < stats.LEAST_RUNS:
        return Interval(float(stats.interquartile_mean(matrix)), np.nan, np.nan)
    return stats.interval(stats.interquartile_mean, matrix)


def improvement(
    study: StudyConfig, method: Settings, matrices: Mapping[Settings, np.ndarray]
) -> Interval | None:
    """How probably a method beats its baseline; None where it has none, or too few runs."""
    base = study.baseline_of(method)
    if base is None or len(matrices[method]) < stats.LEAST_RUNS:
        return None
    return stats.interval(stats.probability_of_improvement, matrices[method], matrices[base])


def summary(study: StudyConfig, table: Sequence[Score]) -> Iterator[str]:
    """The study's findings, line by line."""
    unit, matrices = normalised(study, table)
    runs, columns = next(iter(matrices.values())).shape
    yield f"{study.title}: final {unit}, {runs} seeds x {columns} tasks, interquartile mean and 95 % interval"
    width = max(map(len, map(name, matrices)))
    for method, matrix in matrices.items():
        found, better = interval(matrix), improvement(study, method, matrices)
        line = f"{name(method):{width}}  {found.point:8.3f}"
        if not np.isnan(found.low):
            line += f"  [{found.low:.3f}, {found.high:.3f}]"
        if better is not None:
            base = name(study.baseline_of(method) or method)
            chance = f"{better.point:.2f} [{better.low:.2f}, {better.high:.2f}]"
            line += f"  better than {base} with probability {chance}"
        yield line
    if (caution := of_few(runs, columns)) is not None:
        yield caution


def of_few(runs: int, tasks: int) -> str | None:
    """What is to be said of statistics of so few runs of each task; None where they are enough."""
    if runs < stats.LEAST_RUNS:
        return _TOO_FEW
    # Whoever draws as many runs with replacement draws the lowest alone so often.
    return _FEW if runs ** -(runs * tasks) > (1 - stats.LEVEL) / 2 else None
