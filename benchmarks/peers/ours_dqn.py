"""valuelearn's DQN."""

import importlib.metadata
import json
import sys
import time
from pathlib import Path

from agents import experiment
from agents.experiment import ExperimentConfig
from valuelearn import config, loop
from valuelearn.types import FunctionalEnv

CONFIGS = Path(__file__).parent.parent.parent / "agents" / "configs"


def load(name: str, task: dict, *overrides: str) -> ExperimentConfig:
    """The shipped config with what the task fixes for every framework."""
    arguments = [
        f"env.num_envs={task['num_envs']}",
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
    else:
        path = CONFIGS / "classic" / "dqn_cartpole.yaml"
        own = ["agent.head=mse", "agent.double=false", f"agent.network.hidden={task['hidden']}"]
    return config.load(ExperimentConfig, path, [*arguments, *own, *overrides])


def main() -> None:
    """Warm up, then time `steps` agent steps with their updates."""
    task = json.loads(sys.argv[2])
    cfg = load(sys.argv[1], task)
    built = experiment.make(cfg)
    agent, memory = built.algorithm.agent, built.algorithm.memory
    chunk_steps = task["steps"] // 10
    warm = task["warmup_steps"] + chunk_steps  # Compilation lies in the first chunk with updates.
    schedule = built.schedule._replace(total_steps=warm + task["steps"], chunk_steps=chunk_steps)
    if isinstance(built.env, FunctionalEnv):
        chunks = loop.train_functional(agent, built.env, memory, schedule, [0])
    else:
        chunks = loop.train_host(agent, built.env, memory, schedule, 0)
    start = before = None
    for chunk in chunks:
        steps = chunk.metrics["env_steps"].item()
        if start is None and steps >= warm:
            start, before = time.perf_counter(), steps
    rate = (steps - before) / (time.perf_counter() - start)
    versions = {
        name: importlib.metadata.version(name) for name in ("valuelearn", "jax", "gymnasium", "ale-py")
    }
    print(json.dumps({"agent_steps_per_second": rate, "versions": versions}))


if __name__ == "__main__":
    main()
