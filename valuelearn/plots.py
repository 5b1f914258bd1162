"""Pictures: learning curves, and laws of returns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # No display is needed, or looked for.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from valuelearn import logs


def smooth(values: np.ndarray, weights: np.ndarray, width: int) -> np.ndarray:
    """Running weighted mean over `width` rows; NaN where no episode ended."""
    kernel = np.ones(width)
    total = np.convolve(np.where(weights > 0, values, 0.0) * weights, kernel)[: len(values)]
    weight = np.convolve(weights, kernel)[: len(values)]
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 0)


class Published(NamedTuple):
    """A published curve: statistics over seeds of the mean training return."""

    label: str
    frames: np.ndarray  # f64[K], around which a point's episodes were played.
    mean: np.ndarray  # f64[K], as the next two.
    low: np.ndarray  # The ends of the band,
    high: np.ndarray  # whatever it is.


def curves(
    groups: Sequence[tuple[str, Sequence[Path]]],
    file: Path,
    names: Mapping[str, str],
    published: Published | None = None,
) -> None:
    """Draw runs' returns, a thin line a seed and a thick one their mean.

    Each group is a label and the runs whose seeds are averaged. `names` are the `title`, `xlabel` and
    `ylabel`. `published` is drawn beside them.

    Raises:
        RunFolderError: where a run's metrics cannot be read or hold no row yet.
    """
    tables = {run: logs.read_metrics(run) for _, runs in groups for run in runs}
    for run, metrics in tables.items():
        if not len(metrics["seed"]):
            raise logs.RunFolderError(f"{run / 'metrics.csv'}: no row has been written yet")
    drawn = []
    for label, runs in groups:
        lines = []
        for metrics in (tables[run] for run in runs):
            _, come = logs.clock(metrics)
            for seed in np.unique(metrics["seed"]):
                chosen = metrics["seed"] == seed
                width = max(chosen.sum() // 40, 1)
                values = smooth(metrics["episode_return"][chosen], metrics["episodes"][chosen], width)
                lines.append((come[chosen], values))
        drawn.append((label, lines))
    means(drawn, file, names, published)


def means(
    groups: Sequence[tuple[str, Sequence[tuple[np.ndarray, np.ndarray]]]],
    file: Path,
    names: Mapping[str, str],
    published: Published | None = None,
) -> None:
    """Draw lines, each of places [K] and values [K], thin, and the mean of each labelled group of them thick.

    `names` are the `title`, `xlabel` and `ylabel`. `published` is drawn beside them.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    furthest = 0.0
    for label, lines in groups:
        furthest = max(furthest, *(come[-1] for come, _ in lines))
        places = lines[0][0]
        places = places[places <= min(come[-1] for come, _ in lines)]  # Where every seed has come.
        mean = np.mean([np.interp(places, *line) for line in lines], axis=0)
        (thick,) = axes.plot(places, mean, linewidth=2, label=label)
        if len(lines) > 1:
            for come, values in lines:
                axes.plot(come, values, color=thick.get_color(), alpha=0.3, linewidth=0.8)
    if published is not None:
        shown = published.frames <= max(furthest, published.frames[0])
        frames, mean, low, high = (column[shown] for column in published[1:])
        axes.fill_between(frames, low, high, color="black", alpha=0.15, linewidth=0)
        axes.plot(frames, mean, color="black", marker="o", markersize=4, linewidth=1, label=published.label)
    axes.set(**names)
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", framealpha=0.6)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    draft = file.with_name(f".{file.name}")  # Renamed when it is whole.
    figure.savefig(draft, dpi=150)
    draft.replace(file)
    plt.close(figure)


def laws(
    found: Mapping[str, tuple[np.ndarray, np.ndarray]],
    file: Path,
    maps: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Draw distribution functions, one for each label, of returns [N], ascending, with probabilities [N].

    `maps` are labelled grids [H, W] of short texts, drawn beneath.
    """
    maps = maps or {}
    figure, all_axes = plt.subplots(
        1 + bool(maps), max(len(maps), 1), figsize=(max(6, 2.6 * len(maps)), 6 if maps else 4), squeeze=False,
        layout="constrained", gridspec_kw={"height_ratios": [2, 1]} if maps else None,
    )  # fmt: skip
    for unused in all_axes[0, 1:]:
        unused.remove()
    axes = all_axes[0, 0]
    if maps:
        axes.set_subplotspec(all_axes[1, 0].get_gridspec()[0, :])
    least = min(returns[0] for returns, _ in found.values())
    most = max(returns[-1] for returns, _ in found.values())
    margin = 0.05 * max(most - least, 1e-9)
    for label, (returns, probabilities) in found.items():
        reached = np.concatenate([[0.0], np.cumsum(probabilities), [1.0]])
        ends = np.concatenate([[least - margin], returns, [most + margin]])
        axes.step(ends, reached, where="post", label=label)
    axes.set(xlabel="return", ylabel="probability of no more", ylim=(-0.02, 1.02))
    axes.legend(loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    for beneath, (label, texts) in zip(all_axes[1:].ravel(), maps.items(), strict=False):
        _draw_map(beneath, label, texts)
    _save(figure, file)


def model(
    names: Sequence[str],
    explained: np.ndarray,
    covered: np.ndarray,
    levels: Sequence[float],
    errors: Sequence[np.ndarray],
    file: Path,
) -> None:
    """Draw how good a model of the dynamics is.

    Args:
        names: of the P things predicted.
        explained: R^2 [P] of each.
        covered: share [L, P] of held-out values within the central intervals of `levels` [L].
        errors: after each of K steps alone: the tenth, half and ninth tenth of errors, and half of standing.
        file: the picture to write.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    places = np.arange(len(names))
    left.barh(places, np.clip(explained, 0, 1))
    left.set(yticks=places, yticklabels=names, xlim=(0, 1), xlabel="R² of held-out changes")
    left.invert_yaxis()
    left.tick_params(axis="y", labelsize=7)
    middle.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="as it should be")
    for index, column in enumerate(covered.T):
        middle.plot(levels, column, color="C0", alpha=0.3, label="one dimension" if index == 0 else None)
    middle.plot(levels, covered.mean(1), color="C0", linewidth=2, label="mean")
    middle.set(xlabel="central interval of the prediction", ylabel="held-out values within it")
    middle.legend(fontsize="small")
    low, half, high, standing = errors
    steps = np.arange(1, len(half) + 1)
    right.fill_between(steps, low, high, alpha=0.2, linewidth=0)
    right.plot(steps, half, label="model alone, 10 to 90 % of windows")
    right.plot(steps, standing, color="0.4", linestyle="--", label="nothing changes")
    right.set(xlabel="steps", ylabel="error, standard deviations", yscale="log")
    right.legend(fontsize="small")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, file)


def reach(metrics: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray], file: Path) -> None:
    """Draw what a run in rollouts holds of states at the edge of reach, and where its last policy leads.

    Args:
        metrics: columns of the run, f64[rows], of one seed or several.
        steps: after each of K steps of rollouts: `value`, `disagreement`, `doubt` and `error`, f64[K].
        file: the picture to write.
    """
    through = {
        "value, through training": {
            "edge_value": ("held, at the edge of reach", "C3", "-"),
            "inner_value": ("held, within reach", "C0", "-"),
            "held_value": ("held, of first states", "C2", "-"),
            "obtained": ("obtained from first states", "0.4", "--"),
        },
        "lowest critic below the mean, through training": {
            "edge_disagreement": ("at the edge of reach", "C3", "-"),
            "inner_disagreement": ("within reach", "C0", "-"),
        },
    }
    along = {
        "last policies, step by step": {
            "value": ("value held", "C0"),
            "disagreement": ("lowest critic below the mean", "C1"),
        },
        "the model, step by step": {
            "doubt": ("members apart", "C4"),
            "error": ("off the simulator", "0.4"),
        },
    }
    known = {
        title: {name: style for name, style in lines.items() if np.isfinite(steps[name]).any()}
        for title, lines in along.items()
    }
    known = {title: lines for title, lines in known.items() if lines}
    count = len(through) + len(known)
    figure, axes = plt.subplots(1, count, figsize=(4 * count, 3.8), layout="constrained")
    unit, come = logs.clock(metrics)
    for each, (title, lines) in zip(axes, through.items(), strict=False):
        for name, (label, color, style) in lines.items():
            for index, seed in enumerate(np.unique(metrics["seed"])):
                chosen = metrics["seed"] == seed
                each.plot(
                    come[chosen], metrics[name][chosen], style, color=color, label="" if index else label
                )
        each.set(title=title, xlabel=unit)
    number = np.arange(1, len(steps["value"]) + 1)
    for each, (title, curves) in zip(axes[len(through) :], known.items(), strict=True):
        for name, (label, color) in curves.items():
            each.plot(number, steps[name], "o-", color=color, label=label)
        each.set(title=title, xlabel="steps of a rollout")
        if title == "the model, step by step":
            each.set(ylabel="standard deviations of observations", ylim=(0, None))
    for each in axes:
        each.locator_params(axis="x", nbins=4)
        each.title.set_fontsize(10)
        each.legend(fontsize="small")
        each.spines[["top", "right"]].set_visible(False)
    _save(figure, file)


def _draw_map(axes: Axes, label: str, texts: np.ndarray) -> None:
    height, width = texts.shape
    axes.set(
        title=label, aspect="equal", xlim=(0, width), ylim=(height, 0), xticks=range(width + 1),
        yticks=range(height + 1),
    )  # fmt: skip
    axes.title.set_fontsize(9)
    axes.grid(color="0.8")
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    for (row, column), text in np.ndenumerate(texts):
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8)
