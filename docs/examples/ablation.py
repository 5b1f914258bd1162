"""Two losses on CartPole, five seeds of each at once, and what may be concluded from so few.

`valuelearn ablate` does this from a file, for many tasks, and goes on where it was killed.
"""

import tempfile
from pathlib import Path

import numpy as np

from agents import training
from agents.experiment_config import ExperimentConfig
from benchmarks.scores import curve
from valuelearn import config, logs, stats

FILE = Path("agents/configs/classic/dqn_cartpole.yaml")
SHORT = ["train.env_frames=10_000", "train.log_frames=1_000", "train.seeds=5", "evaluation.episodes=0"]
scores = {}
for head in ("mse", "hl_gauss"):
    cfg = config.load(ExperimentConfig, FILE, [*SHORT, f"agent.head={head}"])
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        training.train(cfg, run, command=[], say=lambda line: None)
        table = logs.read_metrics(run)
    areas = [stats.area_under_curve(*curve(table, seed)) for seed in range(5)]
    scores[head] = np.array(areas)[:, None]  # [runs, tasks]
    print(head, stats.interval(stats.interquartile_mean, scores[head]))

better = stats.interval(stats.probability_of_improvement, scores["hl_gauss"], scores["mse"])
print("hl_gauss is better than mse with probability", better)
