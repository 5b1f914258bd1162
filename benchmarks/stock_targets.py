"""How near one network comes to whatever return is asked of it, among coins.

    python -m benchmarks.stock_targets [--seeds 5] [--runs runs/stock] [--out benchmarks/results/stock/coin]

The agent of `agents/configs/grid/stock_dqn_coin.yaml` is trained, all seeds at once, and asked for each of
eight returns g: stock -g, utility -|stock + return|. What it obtains in 20,000 fresh episodes is compared
with g, beside the optimum of solver A.

Bar: at each of the eight, the median over seeds of the mean |return - g| is at most 0.06.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks import stock_agents
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


def draw(returns: np.ndarray, file: Path) -> None:
    """Draw what each seed obtained, returns [targets, seeds, episodes], against what was wanted."""
    figure, axes = plt.subplots(figsize=(5, 4.5), layout="constrained")
    ends = [TARGETS[0] - 1, TARGETS[-1] + 1]
    axes.plot(ends, ends, color="black", linewidth=0.8, label="as wanted")
    for seed in range(returns.shape[1]):
        low, high = np.quantile(returns[:, seed], [0.05, 0.95], axis=1)
        places = np.array(TARGETS) + 0.12 * (seed - (returns.shape[1] - 1) / 2)
        middle = returns[:, seed].mean(-1)
        label = f"one network a seed: mean, 5 to 95 %, {returns.shape[1]} seeds" if seed == 0 else None
        errors = np.abs([np.minimum(low - middle, 0), np.maximum(high - middle, 0)])
        axes.errorbar(places, middle, errors, fmt=".", color="tab:red", alpha=0.7, label=label)
    axes.set(xlabel="wanted return", ylabel="obtained return")
    axes.grid(alpha=0.3)
    axes.legend()
    stock_agents.save(figure, file)


def main() -> None:
    """Measure, write, and exit with 1 where the bar is missed."""
    arguments = stock_agents.arguments(__doc__, "coin", seeds=5)
    folder = arguments.runs / "coin"
    seconds = stock_agents.trained("stock_dqn_coin.yaml", folder, [f"train.seeds={arguments.seeds}"])
    question = ("objective.name=two_slope", "objective.above=-1", "objective.below=1")
    returns = np.stack(
        [stock_agents.obtained(folder, *question, f"stock={-target}") for target in TARGETS]
    )  # [targets, seeds, episodes]
    misses = np.abs(returns - np.array(TARGETS)[:, None, None]).mean(-1)
    header = ("target", "solver_a", *(f"seed_{seed}" for seed in range(misses.shape[1])))
    columns = (TARGETS, best_misses(), *misses.T)
    stock_agents.write_table(arguments.out / "targets.csv", header, zip(*columns, strict=True))
    draw(returns, arguments.out / "targets.png")
    medians = np.median(misses, axis=1)
    good = bool((medians <= 0.06).all())
    found = ", ".join(f"{miss:.3f} at {target:g}" for target, miss in zip(TARGETS, medians, strict=True))
    print(
        f"mean |return - g|, median of {misses.shape[1]} seeds: {found}; {seconds:.0f} s a seed: "
        f"{'good' if good else 'the bar is missed'}"
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()
