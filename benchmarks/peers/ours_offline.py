"""valuelearn's offline agents."""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from agents import experiment
from agents.experiment_config import ExperimentConfig
from benchmarks.peers import ours_loop
from benchmarks.peers.offline_task import recorded
from benchmarks.peers.ours_dqn import CONFIGS
from envs import datasets
from valuelearn import config, loop


def load(name: str, task: dict, file: Path) -> ExperimentConfig:
    """The shipped config with what the task fixes for every framework."""
    updates = task["updates"]
    arguments = [
        f"env.id=mujoco/{task['env']}",
        f"agent.network.hidden={task['hidden']}",
        f"agent.replay.batch_size={task['batch_size']}",
        f"offline={{dataset: {file}, updates: {updates + updates // 10}, log_updates: {updates // 10}}}",
    ]
    return config.load(ExperimentConfig, CONFIGS / "offline" / f"{name}.yaml", arguments)


def main() -> None:
    """Compile, then time updates."""
    name, task = sys.argv[1], json.loads(sys.argv[2])
    found = recorded(task)
    ones = np.ones_like(found["reward"])
    next_obs = np.roll(found["obs"], -1, axis=0)
    columns = (found["obs"], found["action"], found["reward"], ones, found["last"], found["last"], next_obs)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recorded.hdf5"
        datasets.save(datasets.Dataset(*columns), file)
        built = experiment.make(load(name, task, file))
    parts = (built.algorithm.agent, built.algorithm.memory, built.env.spec, built.schedule)
    chunks = loop.train_offline(*parts, [0])
    next(chunks)
    start = time.perf_counter()
    for chunk in chunks:
        updates = chunk.metrics["updates"].item()
    rate = (updates - task["updates"] // 10) / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"updates_per_second": rate, "peak_gib": peak, "versions": ours_loop.versions()}))


if __name__ == "__main__":
    main()
