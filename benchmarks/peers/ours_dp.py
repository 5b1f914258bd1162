"""valuelearn's distributional value iteration."""

import importlib.metadata
import json
import resource
import sys
import time

from benchmarks.peers.numpy_dp import random_process
from valuelearn import dp, objectives
from valuelearn.dp.categorical import Lattice, value_iteration


def main() -> None:
    """Compile, then time the sweeps of every size."""
    task = json.loads(sys.argv[2])
    times, means = [], []
    for states, *points in task["sizes"]:
        process = random_process(states, task)
        stocks, returns = (Lattice(-task["reach"], task["reach"], count) for count in points)
        utility = objectives.TwoSlope(0, 1)
        value_iteration(dp.MDP.from_table(process, task["gamma"], 1), utility, stocks, returns)
        mdp = dp.MDP.from_table(process, task["gamma"], task["sweeps"])
        start = time.perf_counter()
        laws = value_iteration(mdp, utility, stocks, returns)
        times.append(1e3 * (time.perf_counter() - start) / task["sweeps"])
        means.append(laws.probabilities.mean((0, 1)).tolist())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    versions = {name: importlib.metadata.version(name) for name in ("valuelearn", "jax", "numpy")}
    print(json.dumps({"ms_per_sweep": times, "mean_laws": means, "peak_gib": peak, "versions": versions}))


if __name__ == "__main__":
    main()
