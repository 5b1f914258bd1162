"""Asking stock agents, for the benchmarks of what they obtain."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from agents import evaluation
from benchmarks import evidence

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
    evidence.save(figure, file)
