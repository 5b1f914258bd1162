"""What benchmarks that train shipped configs share: the runs, intervals over seeds, tables and pictures."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from agents import experiment, training
from agents.experiment_config import ExperimentConfig
from valuelearn import logs, stats
from valuelearn.config import load

_CONFIGS = Path(__file__).parent.parent / "agents" / "configs"


def trained(config: str, folder: Path, overrides: Sequence[str]) -> float:
    """Train a shipped config's seeds at once in a folder, or go on there; returns the seconds a seed took."""
    if not folder.exists():
        cfg = load(ExperimentConfig, _CONFIGS / config, [*overrides, "evaluation.episodes=0"])
        training.train(cfg, folder, sys.argv, print)
    elif not (folder / "curve.png").exists():
        training.resume(folder, sys.argv, print)
    seeds = experiment.load_run(folder).train.seeds
    return float(logs.read_timing(folder)["wall_seconds"][-1]) / seeds


def over_seeds(values: np.ndarray) -> str:
    """The mean of one number a seed [seeds], with its 95 % bootstrap interval where seeds are enough."""
    if len(values) < stats.LEAST_RUNS:
        return f"{values.mean():.3f}"
    point, low, high = stats.interval(stats.mean, values[:, None])
    return f"{point:.3f} [{low:.3f}, {high:.3f}]"


def write_table(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with six digits of every number."""
    logs.write_table(file, header, ([f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in rows))


def save(figure: Figure, file: Path) -> None:
    """Write a picture and forget it."""
    figure.savefig(file, dpi=150)
    plt.close(figure)
