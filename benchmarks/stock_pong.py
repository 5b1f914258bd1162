"""How near one network comes to any final score that is asked of it, in a small Pong.

    python -m benchmarks.stock_pong [--seeds 3] [--runs runs/stock] [--out benchmarks/results/stock/pong]

The agent of `agents/configs/pong/stock_dqn.yaml` is trained, all seeds at once, and asked for each of the 42
differences g of points with which a game to 21 may end: stock -g, utility -|stock + return|, no discount.
What it obtains in 200 fresh games is compared with g. Every difference can be had exactly: who dodges each
ball loses each point, who meets each ball loses none.

Bar: each seed's |difference - g|, averaged over the 42, is at most 1. Always winning, or losing, by 21
gives 21.
"""

import argparse
import sys

import numpy as np

from benchmarks import evidence, stock_agents

TARGETS = tuple(float(points) for points in range(-21, 22) if points)
_EPISODES = 200


def measure(config: str, name: str, arguments: argparse.Namespace, episodes: int) -> tuple[np.ndarray, float]:
    """Train an agent in the folder `name` of runs, or take up what is there, ask it, and write what came.

    Returns misses [targets, seeds] and the seconds of training that a seed took.
    """
    folder = arguments.runs / name
    seconds = evidence.trained(config, folder, [f"train.seeds={arguments.seeds}"])
    returns = stock_agents.hitting(folder, TARGETS, episodes)
    misses = stock_agents.misses(returns, TARGETS)
    rows = [
        (target, seed, returns[index, seed].mean(), misses[index, seed])
        for index, target in enumerate(TARGETS)
        for seed in range(arguments.seeds)
    ]
    header = ("target", "seed", "mean_difference", "miss")
    evidence.write_table(arguments.out / "targets.csv", header, rows)
    stock_agents.draw_hits(returns, TARGETS, "difference of points", arguments.out / "targets.png")
    return misses, seconds


def main() -> None:
    """Measure, write, and exit with 1 where the bar is missed."""
    arguments = stock_agents.arguments(__doc__, "pong", seeds=3)
    misses, seconds = measure("pong/stock_dqn.yaml", "pong", arguments, _EPISODES)
    of_seeds = misses.mean(0)
    good = bool((of_seeds <= 1).all())
    print(
        f"mean |difference - g| over 42 targets: {evidence.over_seeds(of_seeds)} over seeds, worst seed "
        f"{of_seeds.max():.3f}, worst target {misses.mean(1).max():.3f}; {seconds:.0f} s a seed: "
        f"{'good' if good else 'the bar is missed'}"
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()
