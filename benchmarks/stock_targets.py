"""How near one network comes to whatever return is asked of it, among coins.

    python -m benchmarks.stock_targets [--seeds 5] [--runs runs/stock] [--out benchmarks/results/stock/coin]

The agent of `agents/configs/grid/stock_dqn_coin.yaml` is trained, all seeds at once, and asked for each of
eight returns g: stock -g, utility -|stock + return|. What it obtains in 20,000 fresh episodes is compared
with g, beside the optimum of solver A.

Bar: at each of the eight, the median over seeds of the mean |return - g| is at most 0.06.
"""

import sys

import numpy as np

from benchmarks import evidence, stock_agents
from envs import gridworld
from valuelearn import dp, objectives

TARGETS = (-3.0, -1.5, 0.5, 2.25, 4.0, 6.0, 8.0, 10.0)
GAMMA = 0.9
POINTS = 7_681  # Stocks of solver A's grid.


def best_misses() -> np.ndarray:
    """The mean |return - g| of the best policy known, by solver A, for each target g."""
    grid = gridworld.named("coin")
    mdp = dp.MDP.from_table(grid.table(), GAMMA, None, grid.start)
    near = objectives.TwoSlope(-1.0, 1.0)
    return np.array([-dp.solve(mdp, near, -target, points=POINTS).value for target in TARGETS])


def main() -> None:
    """Measure, write, and exit with 1 where the bar is missed."""
    arguments = stock_agents.arguments(__doc__, "coin", seeds=5)
    folder = arguments.runs / "coin"
    seconds = evidence.trained("grid/stock_dqn_coin.yaml", folder, [f"train.seeds={arguments.seeds}"])
    returns = stock_agents.hitting(folder, TARGETS)
    misses = stock_agents.misses(returns, TARGETS)
    header = ("target", "solver_a", *(f"seed_{seed}" for seed in range(misses.shape[1])))
    columns = (TARGETS, best_misses(), *misses.T)
    evidence.write_table(arguments.out / "targets.csv", header, zip(*columns, strict=True))
    stock_agents.draw_hits(returns, TARGETS, "return", arguments.out / "targets.png")
    medians = np.median(misses, axis=1)
    found = zip(TARGETS, misses, strict=True)
    print("over seeds: " + ", ".join(f"{evidence.over_seeds(miss)} at {goal:g}" for goal, miss in found))
    good = bool((medians <= 0.06).all())
    median = ", ".join(f"{miss:.3f} at {goal:g}" for goal, miss in zip(TARGETS, medians, strict=True))
    print(
        f"mean |return - g|, median of {misses.shape[1]} seeds: {median}; {seconds:.0f} s a seed: "
        f"{'good' if good else 'the bar is missed'}"
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()
