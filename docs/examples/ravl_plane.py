"""Rollouts that are cut short, in a plane whose dynamics are exact.

Two learners make rollouts of 10 steps and bootstrap from their last states. Rewards are at most 1 and
gamma is 0.97, so nothing is worth more than 33.3. What do their critics hold of the states at the edge of
reach, and of those within?
"""

import tempfile
from pathlib import Path

from agents import training
from agents.experiment_config import ExperimentConfig
from valuelearn import config, logs

CASES = {
    "two critics": [],
    "ten critics made unlike (RAVL)": ["agent.num_critics=10", "agent.diversity=1.0"],
}
SHORT = ["train.env_frames=22_000", "train.log_frames=5_000"]  # Of 162,000.

for name, settings in CASES.items():
    cfg = config.load(ExperimentConfig, Path("agents/configs/plane/rollouts.yaml"), SHORT + settings)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        training.train(cfg, run, command=[], say=lambda line: None)
        table = logs.read_metrics(run, ("edge_value", "inner_value", "obtained"))
    print(name)
    columns = (table[key][1:] for key in ("updates", "edge_value", "inner_value", "obtained"))
    for updates, edge, inner, obtained in zip(*columns, strict=True):
        print(
            f"  {updates:5.0f} updates: {edge:5.1f} at the edge, {inner:5.1f} within; return {obtained:4.1f}"
        )
