"""Speed against other frameworks, on one machine in one run.

    python -m benchmarks.speed atari | heads | guard | classic | continuous | ravl | seeds | dp | roofline
        | compile [--rounds 3]

Each framework runs in a virtual environment of its own, made here on first use. Programs take
turns, so that a machine that slows down slows all; medians are compared. `heads` times one update
with each value head, `guard` updates with and without the check that they are finite, `seeds` training
with one seed and with ten at once. `continuous` times SAC with one environment and an update for each of
its steps, updating after every step or after each 16, and updates of EDAC beside batched products in
PyTorch; the first updates of both must agree. `ravl` does so with two critics to five hundred, which
is RAVL's update too, and weighs the processes. `dp` times a sweep of distributional value iteration beside
numpy in loops over states, actions and outcomes, which projects returns by np.add.at or by a product with a
matrix; both must arrive at our laws. `roofline` counts what three updates ask of the machine, DQN's on Atari
and on MinAtar and one of ten unlike critics, beside what matrix products and memory give here. `compile`
times a config of each family from the start of its process to its first updates, with nothing kept of an
earlier start and again with what that one kept. The table goes to `benchmarks/results/speed/` as JSON, too.

Bars: `atari` at least 2.5 times Stable-Baselines3's agent steps per second (Breakout, batch 32, an
update every 4 steps, real frames); `classic` at least 8 times Stable-Baselines3 and 20 times SBX
(CartPole, one update of batch 128 per step); `continuous` at least 1.5 times Stable-Baselines3 and 1.1
times SBX (HalfCheetah, batch 256, updating after every step), and 1.5 times PyTorch's updates of EDAC
(10 critics of 3 x 256, batch 256); `ravl` as much, and with 50 critics 1.7 times in no more memory than
PyTorch's, and with 100 at most 8 GiB; `heads` HL-Gauss
within 1.05 times squared error; `roofline` 60 % of the peak of products for DQN's update on Atari; `compile`
10 seconds for a second start; `guard` within 1.01 times unchecked ones; `seeds` ten within 4 times one;
`dp` at 1000 states, 201 stocks and 201 returns 10 times numpy with np.add.at, in at most 8 GiB.
"""

import argparse
import json
import os
import platform
from functools import partial

from benchmarks.speed import (
    compilation,
    continuous,
    dp,
    frameworks,
    guarding,
    ravl,
    roofline,
    seeds,
    value_heads,
)
from benchmarks.speed.turns import ROOT

TABLES = {
    "atari": partial(frameworks.compare, "atari"),
    "heads": value_heads.compare,
    "guard": guarding.compare,
    "classic": partial(frameworks.compare, "classic"),
    "continuous": continuous.compare,
    "ravl": ravl.compare,
    "seeds": seeds.compare,
    "dp": dp.compare,
    "roofline": roofline.compare,
    "compile": compilation.compare,
}


def main() -> None:
    """Make one table, and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    table, good = TABLES[options.table](options.rounds)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    file = ROOT / "benchmarks" / "results" / "speed" / f"{options.table}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine, **table}, indent=1) + "\n")
    print(f"speed {options.table}: {table['figures']}: {'bars met' if good else 'a bar MISSED'}")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
