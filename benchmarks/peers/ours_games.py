"""valuelearn's games of Atari alone, without an agent."""

import json
import sys
import time

import numpy as np

from agents import experiment
from benchmarks.peers import ours_dqn, ours_loop
from valuelearn.types import FunctionalEnv


def main() -> None:
    """Time the task's games under random actions."""
    task = json.loads(sys.argv[2])
    env = experiment.make(ours_dqn.load(sys.argv[1], task)).env
    assert not isinstance(env, FunctionalEnv)
    copies = env.spec.num_envs
    actions = np.random.default_rng(0).integers(env.spec.num_actions, size=(task["steps"] // copies, copies))
    env.reset(0)
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    rate = actions.size / (time.perf_counter() - start)
    env.close()
    ours_loop.say(rate, "gymnasium", "ale-py")


if __name__ == "__main__":
    main()
