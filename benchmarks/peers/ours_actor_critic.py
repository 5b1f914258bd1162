"""valuelearn's SAC."""

import json
import sys

from agents.experiment import ExperimentConfig
from benchmarks.peers import ours_loop
from benchmarks.peers.ours_dqn import CONFIGS
from valuelearn import config


def load(task: dict) -> ExperimentConfig:
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
    return config.load(ExperimentConfig, CONFIGS / "mujoco" / "sac.yaml", arguments)


def main() -> None:
    """Time our SAC on the task."""
    task = json.loads(sys.argv[2])
    rate = ours_loop.steps_per_second(load(task), task["steps"])
    versions = ours_loop.versions("gymnasium", "mujoco")
    print(json.dumps({"agent_steps_per_second": rate, "versions": versions}))


if __name__ == "__main__":
    main()
