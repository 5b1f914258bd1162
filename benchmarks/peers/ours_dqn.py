"""valuelearn's DQN."""

import json
import sys
from pathlib import Path

from agents.experiment_config import ExperimentConfig
from benchmarks.peers import ours_loop
from valuelearn import config

CONFIGS = Path(__file__).parent.parent.parent / "agents" / "configs"


def load(name: str, task: dict) -> ExperimentConfig:
    """The shipped config with what the task fixes for every framework."""
    arguments = [
        f"agent.head={task.get('head', 'mse')}",
        f"agent.network.precision={task.get('precision', 'float32')}",
        f"env.num_envs={task['num_envs']}",
        f"train.collect_steps={task['collect_steps']}",
        f"train.cpu_threads={task.get('cpu_threads', 'null')}",
        f"agent.update_period_steps={task['update_period_steps']}",
        f"agent.target_period_updates={task['target_period_steps'] // task['update_period_steps']}",
        f"agent.optimizer.learning_rate={task['learning_rate']}",
        f"agent.replay.capacity={task['capacity']}",
        f"agent.replay.warmup_steps={task['warmup_steps']}",
        f"agent.replay.batch_size={task['batch_size']}",
    ]
    # What the others' DQN is: the network of Mnih et al. (2015), squared or Huber error, single Q.
    if name == "atari":
        path = CONFIGS / "atari" / "dqn_mse.yaml"
        own = ["env.id=atari/breakout", "agent.network.padding=valid"]
    elif name == "minatar":
        path, own = CONFIGS / "minatar" / "dqn_hl_gauss.yaml", []
    else:
        path = CONFIGS / "classic" / "dqn_cartpole.yaml"
        own = ["agent.double=false", f"agent.network.hidden={task['hidden']}"]
    return config.load(ExperimentConfig, path, [*arguments, *own])


def main() -> None:
    """Time our DQN on the task."""
    task = json.loads(sys.argv[2])
    ours_loop.report(load(sys.argv[1], task), task["steps"], "gymnasium", "ale-py", "gymnax")


if __name__ == "__main__":
    main()
