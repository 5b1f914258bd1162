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
from valuelearn import logs
from valuelearn.config import load

CONFIGS = Path(__file__).parent.parent / "agents" / "configs" / "grid"
EPISODES = 20_000
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


def save(figure: Figure, file: Path) -> None:
    """Write a picture and forget it."""
    figure.savefig(file, dpi=150)
    plt.close(figure)
