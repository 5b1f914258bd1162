"""A study's pictures."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # No display is needed, or looked for.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from valuelearn import stats
from valuelearn.stats import Interval

_RESAMPLED = 2_000  # Means behind a band; a band's edge needs less care than a figure in a table.

Curve = tuple[np.ndarray, np.ndarray]  # Frames, say, f64[K] and returns f64[R, K] of R seeds.


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=130)
    plt.close(figure)


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends f64[K] of the 95 % bootstrap interval of the mean over seeds of values f64[R, K]."""
    found = [stats.interval(stats.mean, column[:, None], replications=_RESAMPLED) for column in values.T]
    return np.array([one.low for one in found]), np.array([one.high for one in found])


def _means(curves: Mapping[str, Curve]) -> tuple[Figure, Axes]:
    """Means over seeds, with intervals of three or more."""
    figure, axes = plt.subplots(figsize=(4.2, 3), layout="constrained")
    for label, (places, values) in curves.items():
        (line,) = axes.plot(places, values.mean(0), label=label)
        if len(values) >= stats.LEAST_RUNS:
            axes.fill_between(places, *band(values), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure, axes


def learning_curves(file: Path, names: Mapping[str, str], curves: Mapping[str, Curve]) -> None:
    """Returns through training: means over seeds, with intervals of three or more.

    `names` are the `title`, `xlabel` and `ylabel`.
    """
    figure, axes = _means(curves)
    axes.set(**names)
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter())
    _save(figure, file)


def errors(file: Path, label: str, curves: Mapping[str, Curve]) -> None:
    """Mean squared error against what makes the problem harder: means over seeds, with intervals."""
    figure, axes = _means(curves)
    axes.set(xlabel=label, ylabel="mean squared error", yscale="log")
    _save(figure, file)


def intervals(
    file: Path, label: str, found: Mapping[str, Interval | None], mark: float | None = None
) -> None:
    """Points with their intervals, one below another; `mark` is where a line is drawn.

    A method without an interval keeps its colour, which is that of its learning curve, to itself.
    """
    shown = [
        (f"C{index % 10}", name, one) for index, (name, one) in enumerate(found.items()) if one is not None
    ]
    figure, axes = plt.subplots(figsize=(4.2, 0.36 * len(shown) + 1), layout="constrained")
    for row, (color, _, one) in enumerate(shown):
        ends = [[one.point - one.low], [one.high - one.point]]
        axes.errorbar(one.point, -row, xerr=ends, fmt="o", capsize=4, color=color)
    if mark is not None:
        axes.axvline(mark, color="black", linewidth=0.8, linestyle="--")
    axes.set(
        yticks=[-row for row in range(len(shown))], yticklabels=[name for _, name, _ in shown], xlabel=label
    )
    axes.set_ylim(-len(shown) + 0.5, 0.5)
    axes.grid(axis="x", alpha=0.3)
    _save(figure, file)


def profiles(file: Path, unit: str, found: Mapping[str, np.ndarray]) -> None:
    """The share of runs whose score exceeds a threshold, for each method's scores f64[R, T]."""
    figure, axes = plt.subplots(figsize=(4.2, 3), layout="constrained")
    every = np.concatenate([scores.ravel() for scores in found.values()])
    thresholds = np.linspace(min(every.min(), 0.0), every.max(), 201)
    for name, scores in found.items():
        axes.plot(thresholds, stats.performance_profile(scores, thresholds), label=name)
    axes.set(xlabel=f"threshold, {unit}", ylabel="share of runs above", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(figure, file)
