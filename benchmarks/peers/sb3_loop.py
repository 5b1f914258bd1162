"""The speed of Stable-Baselines3's training loop, which SBX shares."""

import importlib.metadata
import json
import resource
import time

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


def report(model: OffPolicyAlgorithm, task: dict, *packages: str) -> None:
    """Warm up, then time `steps` agent steps with their updates, and print how many were made in a second."""
    model.learn(task["warmup_steps"] + task["steps"] // 10)
    before, start = model.num_timesteps, time.perf_counter()
    model.learn(task["steps"], reset_num_timesteps=False)
    rate = (model.num_timesteps - before) / (time.perf_counter() - start)
    names = {"stable-baselines3", "torch", "gymnasium", *packages}
    versions = {name: importlib.metadata.version(name) for name in sorted(names)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"agent_steps_per_second": rate, "peak_gib": peak, "versions": versions}))
