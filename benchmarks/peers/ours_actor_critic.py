"""valuelearn's SAC and TD3."""

import json
import sys

from agents.experiment_config import ExperimentConfig
from benchmarks.peers import ours_loop
from benchmarks.peers.ours_dqn import CONFIGS
from valuelearn import config


def load(name: str, task: dict) -> ExperimentConfig:
    """The shipped config with what the task fixes for every framework."""
    arguments = [
        f"env.id=mujoco/{task['env']}",
        f"agent.network.hidden={task['hidden']}",
        "agent.network.init=fan_in_uniform",
        f"agent.optimizer.learning_rate={task['learning_rate']}",
        f"agent.replay.capacity={task['capacity']}",
        f"agent.replay.warmup_steps={task['warmup_steps']}",
        f"agent.replay.batch_size={task['batch_size']}",
        f"train.collect_steps={task['collect_steps']}",
    ]
    return config.load(ExperimentConfig, CONFIGS / "mujoco" / f"{name}.yaml", arguments)


def main() -> None:
    """Time our agent on the task."""
    task = json.loads(sys.argv[2])
    ours_loop.report(load(sys.argv[1], task), task["steps"], "gymnasium", "mujoco")


if __name__ == "__main__":
    main()
