"""Training stock agents and asking them, for the benchmarks of what they obtain."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from agents import evaluation, experiment, training
from valuelearn import logs
from valuelearn.config import load

CONFIGS = Path(__file__).parent.parent / "agents" / "configs" / "grid"
EPISODES = 20_000


def trained(config: str, folder: Path, overrides: Sequence[str]) -> float:
    """Train a config's seeds at once in a folder, or go on there; returns the seconds a seed took."""
    if not folder.exists():
        cfg = load(experiment.ExperimentConfig, CONFIGS / config, [*overrides, "evaluation.episodes=0"])
        training.train(cfg, folder, sys.argv, print)
    elif not (folder / "curve.png").exists():
        training.resume(folder, sys.argv, print)
    seeds = experiment.load_run(folder).train.seeds
    return float(logs.read_timing(folder)["wall_seconds"][-1]) / seeds


def obtained(folder: Path, *question: str) -> np.ndarray:
    """Discounted returns f64[seeds, episodes] that seeds bring when asked `key=value` of `evaluation`."""
    asked = [f"evaluation.{text}" for text in question]
    return np.asarray(evaluation.evaluate_run(folder, EPISODES, None, print, asked), float)


def write_table(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in rows])
    logs.write_whole(file, text.getvalue())
