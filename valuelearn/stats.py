"""Statistics of scores over runs and tasks.

A score matrix is f64[R, T]: one row for each of R runs (seeds), one column for each of T tasks. Point
statistics and intervals are those of Agarwal et al. (2021), "Deep reinforcement learning at the edge
of the statistical precipice".

Scores that are no such matrices, or not finite, are refused by a ValueError: some statistics would count a
NaN as the highest score, and others as the lowest.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from valuelearn import checks
from valuelearn.errors import UserError

LEAST_RUNS = 3  # For an interval.
LEVEL = 0.95  # Of an interval, unless told.
_BATCH = 1_000  # Resampled matrices held at once.

# Statistics take [..., R, T], so that a batch of resampled matrices is one call.
Statistic = Callable[..., np.ndarray]


class TooFewRunsError(UserError):
    """An interval was asked for that the runs cannot give."""


class Interval(NamedTuple):
    """A statistic and its confidence interval."""

    point: float
    low: float
    high: float


def _finite(name: str, given: Any, *axes: Any, over: tuple[int, ...] | None = None) -> np.ndarray:
    """The numbers as an array with those axes; successes and failures as 1 and 0."""
    if getattr(given, "dtype", None) == np.dtype(bool):
        given = given.astype(int)
    array = np.asarray(checks.array(name, given, *axes, over=over))
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}; finite numbers are wanted")
    return array


def _scores(given: Any) -> np.ndarray:
    return _finite("scores", given, ..., "R", "T")


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean [...] of the middle half of all scores [..., R, T], runs and tasks together."""
    scores = _scores(scores)
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(-1)


def mean(scores: np.ndarray) -> np.ndarray:
    """Mean [...] of all scores [..., R, T]."""
    return _scores(scores).mean((-2, -1))


def median(scores: np.ndarray) -> np.ndarray:
    """Median [...] over tasks of the mean over runs."""
    return np.median(_scores(scores).mean(-2), axis=-1)


def optimality_gap(scores: np.ndarray, target: float = 1.0) -> np.ndarray:
    """How far [...] scores fall short of the target on average; what exceeds it does not make up."""
    checks.number("target", target, "a finite number", math.isfinite)
    return target - np.minimum(_scores(scores), target).mean((-2, -1))


def probability_of_improvement(scores: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Probability [...] that a run beats one of the baseline on a random task; a draw counts half.

    The Mann-Whitney statistic, averaged over tasks; the two may have different numbers of runs.
    """
    scores = _scores(scores)
    baseline = _finite("baseline", baseline, ..., "R", scores.shape[-1])
    first, second = scores[..., :, None, :], baseline[..., None, :, :]
    return ((first > second) + 0.5 * (first == second)).mean((-3, -2, -1))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share [..., K] of runs and tasks whose score exceeds each threshold [K]."""
    scores, thresholds = _scores(scores), _finite("thresholds", thresholds, "K")
    return (scores[..., None] > thresholds).mean((-3, -2))


def area_under_curve(frames: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Mean height [...] of curves [..., K] between the first and the last of the frames [K].

    Raises:
        ValueError: for frames that do not ascend.
    """
    frames = _finite("frames", frames, "K")
    returns = _finite("returns", returns, ..., len(frames))
    if (np.diff(frames) < 0).any() or frames[0] == frames[-1]:
        raise ValueError(f"frames go from {frames[0]} to {frames[-1]}; ascending ones are wanted")
    return np.trapezoid(returns, frames) / (frames[-1] - frames[0])


def resampled(
    matrices: tuple[np.ndarray, ...], replications: int, chance: np.random.Generator
) -> Iterator[tuple[np.ndarray, ...]]:
    """Batches [B, R, T] of each matrix with runs drawn again, with replacement, within each task.

    Raises:
        ValueError: for matrices that are none, or no replications.
    """
    matrices = tuple(checks.array("matrices", matrix, "R", "T") for matrix in matrices)
    checks.count("replications", replications)
    for done in range(0, replications, _BATCH):
        batch = min(_BATCH, replications - done)
        yield tuple(
            np.take_along_axis(x[None], chance.integers(len(x), size=(batch, *x.shape)), axis=1)
            for x in matrices
        )


def interval(
    statistic: Statistic,
    *matrices: np.ndarray,
    level: float = LEVEL,
    replications: int = 50_000,
    seed: int = 0,
) -> Interval:
    """A statistic of score matrices, with its interval by stratified bootstrap (percentiles).

    Several matrices, as of a method and its baseline, are resampled independently: for a difference
    give a function of both, as two overlapping intervals do not tell. Percentiles of few runs lie too close
    together; those of three runs of one task are its lowest and its highest.

    Raises:
        TooFewRunsError: where a matrix has fewer than three runs.
        ValueError: for matrices or numbers that are none.
    """
    matrices = tuple(_finite("matrices", matrix, "R", "T") for matrix in matrices)
    checks.number("level", level, "a number between 0 and 1", lambda level: 0 < level < 1)
    for matrix in matrices:
        if len(matrix) < LEAST_RUNS:
            raise TooFewRunsError(
                f"an interval needs {LEAST_RUNS} runs or more of each task, and there are {len(matrix)}: "
                "resampling so few says nothing of the spread between seeds"
            )
    chance = np.random.default_rng(seed)
    found = np.concatenate([statistic(*batch) for batch in resampled(matrices, replications, chance)])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(*matrices)), float(low), float(high))


def human_normalised(raw: np.ndarray, random: float | np.ndarray, human: float | np.ndarray) -> np.ndarray:
    """Scores on the scale where random play is 0 and a human is 1 (Mnih et al., 2015).

    Raises:
        ValueError: where both are the same.
    """
    raw = _finite("raw", raw, ...)
    random, human = (
        _finite(name, given, ..., over=raw.shape) for name, given in (("random", random), ("human", human))
    )
    if (human == random).any():
        raise ValueError(
            "human and random scores are the same; different ones are wanted, which make a scale"
        )
    return (raw - random) / (human - random)
