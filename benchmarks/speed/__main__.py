"""Speed against other frameworks, on one machine in one run.

    python -m benchmarks.speed TABLE [--rounds 3]

Each framework runs in a virtual environment of its own, made here on first use. Programs take turns, so
that a machine that slows down slows all; medians are compared. The table goes to
`benchmarks/results/speed/` as JSON, too. Tables, and the bars that they are held to:

`atari`: DQN's agent steps a second on Breakout (batch 32, an update every 4 steps, real frames), and beside
them those of C51 and of the games alone. At least 3 times Stable-Baselines3's and 6 times SBX's.
`minatar`: the same on MinAtar's Breakout, beside a loop in Python around compiled pieces of JAX, too. No
bars.
`classic`: the same on CartPole (one update of batch 128 per step). At least 12 times Stable-Baselines3's
and 20 times SBX's.
`continuous`: SAC's on HalfCheetah (one environment, an update of batch 256 for each step), updating after
every step or after each 16, and TD3's. SAC after every step at least 2 times Stable-Baselines3's and 1.3
times SBX's.
`offline`: updates a second of agents that learn from a dataset, beside d3rlpy's. No bars.
`ravl`: updates of EDAC, which are RAVL's too, with two critics of 3 x 256 to five hundred, beside batched
products in PyTorch; the first updates of both must agree. With 10 critics at least 1.5 times PyTorch's,
with 50 at least 1.7 times in no more memory, with 100 in at most 8 GiB.
`heads`: one update of Atari's DQN with each value head. HL-Gauss at most 1.03 times squared error.
`guard`: updates with and without the check that they are finite. At most 1.01 times those without.
`seeds`: training with ten seeds at once. At most 4 times as long as with one.
`dp`: a sweep of distributional value iteration beside numpy in loops over states, actions and outcomes,
which projects returns by np.add.at or by a product with a matrix; all must arrive at the same laws. At 1000
states, 201 stocks and 201 returns at least 10 times numpy with np.add.at, in at most 8 GiB.
`gpu`: on a GPU, Atari's DQN with 128 games, with squared error, with HL-Gauss and in bfloat16, and of five
seeds at once, each a process; the games alone and the updates alone. One seed, and five together, at least
14,000 agent steps a second, which are 200 million frames in an hour. Where JAX finds no GPU it measures
nothing.
`roofline`: what three updates ask of the machine, DQN's on Atari and on MinAtar and one of ten unlike
critics, beside what matrix products and memory give here. DQN's on Atari at least 60 % of the peak of
products.
`compile`: a config of each family from the start of its process to its first updates, with nothing kept of
an earlier start, and again with what that one kept. Again at most 10 seconds.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from functools import partial

from benchmarks.speed import (
    compilation,
    continuous,
    dp,
    frameworks,
    gpu,
    guarding,
    offline,
    ravl,
    roofline,
    seeds,
    value_heads,
)
from benchmarks.speed.turns import ROOT
from valuelearn import logs

TABLES: dict[str, Callable[[int], tuple[dict, bool]]] = {
    "atari": partial(frameworks.compare, "atari"),
    "heads": value_heads.compare,
    "guard": guarding.compare,
    "minatar": partial(frameworks.compare, "minatar"),
    "classic": partial(frameworks.compare, "classic"),
    "continuous": continuous.compare,
    "offline": offline.compare,
    "ravl": ravl.compare,
    "seeds": seeds.compare,
    "dp": dp.compare,
    "gpu": gpu.compare,
    "roofline": roofline.compare,
    "compile": compilation.compare,
}


def main() -> None:
    """Make one table, and judge it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    table, good = TABLES[options.table](options.rounds)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    machine["revision"] = logs.versions()["git"]
    file = ROOT / "benchmarks" / "results" / "speed" / f"{options.table}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine, **table}, indent=1) + "\n")
    print(f"speed {options.table}: {table['figures']}: {'bars met' if good else 'a bar MISSED'}")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
