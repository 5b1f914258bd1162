"""Training stock agents and asking them, for the benchmarks of what they obtain."""

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from agents import evaluation, experiment, training
from valuelearn import logs, stats
from valuelearn.config import load

EPISODES = 20_000
_CONFIGS = Path(__file__).parent.parent / "agents" / "configs"
_RESULTS = Path(__file__).parent / "results" / "stock"


def arguments(description: str | None, name: str, seeds: int) -> argparse.Namespace:
    """What the command line says: `seeds`, the folder `runs` of runs, and the folder `out`, which is made."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--runs", type=Path, default=Path("runs/stock"))
    parser.add_argument("--out", type=Path, default=_RESULTS / name)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def trained(config: str, folder: Path, overrides: Sequence[str]) -> float:
    """Train a shipped config's seeds at once in a folder, or go on there; returns the seconds a seed took."""
    if not folder.exists():
        cfg = load(experiment.ExperimentConfig, _CONFIGS / config, [*overrides, "evaluation.episodes=0"])
        training.train(cfg, folder, sys.argv, print)
    elif not (folder / "curve.png").exists():
        training.resume(folder, sys.argv, print)
    seeds = experiment.load_run(folder).train.seeds
    return float(logs.read_timing(folder)["wall_seconds"][-1]) / seeds


def obtained(folder: Path, *question: str, episodes: int = EPISODES) -> np.ndarray:
    """Discounted returns f64[seeds, episodes] that seeds bring when asked `key=value` of `evaluation`."""
    asked = [f"evaluation.{text}" for text in question]
    return np.asarray(evaluation.evaluate_run(folder, episodes, None, print, asked), float)


def hitting(folder: Path, targets: Sequence[float], episodes: int = EPISODES) -> np.ndarray:
    """Discounted returns f64[targets, seeds, episodes] that seeds bring when asked for each target."""
    near = ("objective.name=two_slope", "objective.above=-1", "objective.below=1")
    return np.stack([obtained(folder, *near, f"stock={-target}", episodes=episodes) for target in targets])


def misses(returns: np.ndarray, targets: Sequence[float]) -> np.ndarray:
    """The mean |return - target| [targets, seeds] of returns [targets, seeds, episodes]."""
    return np.abs(returns - np.array(targets)[:, None, None]).mean(-1)


def draw_hits(returns: np.ndarray, targets: Sequence[float], unit: str, file: Path) -> None:
    """Draw what each seed obtained, returns [targets, seeds, episodes], against what was wanted."""
    figure, axes = plt.subplots(figsize=(5, 4.5), layout="constrained")
    ends = [targets[0] - 1, targets[-1] + 1]
    axes.plot(ends, ends, color="black", linewidth=0.8, label="as wanted")
    for seed in range(returns.shape[1]):
        low, high = np.quantile(returns[:, seed], [0.05, 0.95], axis=1)
        places = np.array(targets) + 0.12 * (seed - (returns.shape[1] - 1) / 2)
        middle = returns[:, seed].mean(-1)
        label = f"one network a seed: mean, 5 to 95 %, {returns.shape[1]} seeds" if seed == 0 else None
        errors = np.abs([np.minimum(low - middle, 0), np.maximum(high - middle, 0)])
        axes.errorbar(places, middle, errors, fmt=".", color="tab:red", alpha=0.7, label=label)
    axes.set(xlabel=f"wanted {unit}", ylabel=f"obtained {unit}")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
    save(figure, file)


def over_seeds(values: np.ndarray) -> str:
    """The mean of one number a seed [seeds], with its 95 % bootstrap interval where seeds are enough."""
    if len(values) < stats.LEAST_RUNS:
        return f"{values.mean():.3f}"
    point, low, high = stats.interval(stats.mean, values[:, None])
    return f"{point:.3f} [{low:.3f}, {high:.3f}]"


def write_table(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in rows])
    logs.write_whole(file, text.getvalue())


def save(figure: Figure, file: Path) -> None:
    """Write a picture and forget it."""
    figure.savefig(file, dpi=150)
    plt.close(figure)
