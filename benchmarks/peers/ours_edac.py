"""valuelearn's EDAC."""

import json
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from agents.experiment import make
from agents.experiment_config import ExperimentConfig
from benchmarks.peers import ours_loop
from benchmarks.peers.edac_task import Layers, beginning, outcome
from benchmarks.peers.ours_dqn import CONFIGS
from valuelearn import config, loop
from valuelearn.types import Sample, Timestep, Trajectory, Transition


def load(task: dict) -> ExperimentConfig:
    """The shipped config of SAC with what makes it EDAC."""
    arguments = [
        f"env.id=mujoco/{task['env']}",
        f"agent.network.hidden={task['hidden']}",
        f"agent.num_critics={task['critics']}",
        f"agent.diversity={task['diversity']}",
        f"agent.optimizer.learning_rate={task['learning_rate']}",
        f"agent.replay.batch_size={task['batch_size']}",
        f"agent.replay.capacity={2 * task['transitions'] + 10}",  # An end takes a row of its own.
        f"agent.temperature={task['temperature']}",
        f"agent.gamma={task['gamma']}",
        f"agent.target_tau={task['tau']}",
        "agent.reward_scale=1.0",
        "agent.target_entropy=-1.0",
    ]
    return config.load(ExperimentConfig, CONFIGS / "mujoco" / "sac.yaml", arguments)


def named(layers: Layers) -> dict:
    """Parameters as our networks hold them."""
    return {"params": {f"Dense_{number}": jax.tree.map(jnp.asarray, x) for number, x in enumerate(layers)}}


def numbers(params: dict) -> Layers:
    """The way back."""
    return [
        jax.tree.map(np.asarray, params["params"][f"Dense_{number}"])
        for number in range(len(params["params"]))
    ]


def episodes_of_one_step(transitions: dict[str, np.ndarray]) -> Trajectory:
    """What a replay is given so that it holds the transitions; the discount is its own affair."""
    count = len(transitions["reward"])
    obs, next_obs, action, reward = (
        transitions[name][:, None] for name in ("obs", "next_obs", "action", "reward")
    )
    flag, number = np.ones((count, 1), bool), np.ones((count, 1), np.float32)
    return Trajectory(obs, action, Timestep(next_obs, obs, reward, number, flag, flag, number))


def main() -> None:
    """Compare the first update, compile, then time updates."""
    task = json.loads(sys.argv[2])
    built = make(load(task))
    agent, memory = built.algorithm.agent, built.algorithm.memory
    actor, critics, transitions = beginning(task)
    learner = jax.jit(agent.init)(jax.random.key(0), jnp.zeros((1, task["obs_size"])))
    params = learner.params | {"actor": named(actor), "critics": named(critics)}
    learner = learner._replace(params=params, target_params={"critics": named(critics)})
    size = task["batch_size"]
    batch = Transition(**{name: jnp.asarray(found[:size]) for name, found in transitions.items()})
    sample = Sample(batch, jnp.ones(size), jnp.arange(size))
    learner, metrics, _ = jax.jit(agent.update)(learner, sample)
    made, now = numbers(learner.params["actor"]), numbers(learner.params["critics"])
    in_targets = numbers(learner.target_params["critics"])
    first = [metrics["loss"].item(), *outcome(made, now, in_targets, transitions["obs"][:size])]
    experience = jax.jit(memory.add, donate_argnums=0)(memory.init(), episodes_of_one_step(transitions))
    update = jax.jit(loop.updates_of(agent, memory), donate_argnums=(0, 1))
    count, key = task["updates"], jax.random.key(1)
    learner, experience, *_ = update(learner, experience, key, max(count // 10, 1))
    jax.block_until_ready(learner)
    start = time.perf_counter()
    jax.block_until_ready(update(learner, experience, key, count))
    rate = count / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    versions = ours_loop.versions("gymnasium", "mujoco")
    found = {"updates_per_second": rate, "first": first, "peak_gib": peak, "versions": versions}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
