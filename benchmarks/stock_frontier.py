"""How near one network comes to the exact optimum of every CVaR on the windy cliff.

    python -m benchmarks.stock_frontier [--seeds 5] [--runs runs/stock] [--out benchmarks/results/stock/cliff]

Solver A on a grid of stocks is compared with the exact optima of the 16-step process. Then the agent of
`agents/configs/grid/stock_dqn_cliff.yaml` is trained, all seeds at once, and asked for each share of worst
outcomes; what it obtains in 20,000 fresh episodes is compared with the optima, beside policies that do not
look at what they have obtained. The agent has up to 100 steps: solver A's optima without end are given, too.

Bars: solver A within 0.01 of exact at every share below 1, in under 20 seconds; every seed of the agent
within 0.1 of exact at shares from 0.05 and within 0.25 at 0.02, in under 10 minutes a seed.
"""

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks import evidence, stock_agents
from envs import gridworld
from valuelearn import dp, objectives

TAUS = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
GAMMA, HORIZON = 0.95, 16
POINTS = 1_601  # Stocks of solver A's grid.


def _process(horizon: int | None = HORIZON) -> dp.MDP:
    grid = gridworld.named("cliff")
    return dp.MDP.from_table(grid.table(), GAMMA, horizon, grid.start)


def solved(taus: np.ndarray, points: int | None, horizon: int | None = HORIZON) -> np.ndarray:
    """The optimal CVaR of every share, exact where no number of grid points is given."""
    wanted = [objectives.CVaR(float(tau)) for tau in taus]
    found = dp.frontier(_process(horizon), wanted, points=points)
    return np.array([one.value for one in found])


def without_stock(taus: np.ndarray) -> dict[str, np.ndarray]:
    """The CVaR of every share that policies obtain which do not look at what they have obtained."""
    mdp = _process()
    wanted = [objectives.CVaR(float(tau)) for tau in taus]
    mean = dp.solve(mdp, objectives.Mean()).law
    return {
        "best mean": np.array([mean.score(one) for one in wanted]),
        "greedy on the law": np.array([dp.stock_free(mdp, one, "law").value for one in wanted]),
        "nested": np.array([dp.stock_free(mdp, one, "nested").value for one in wanted]),
    }


def draw(agent: np.ndarray, file: Path) -> None:
    """Draw the exact frontier, the baselines, and what each seed obtained [seeds, taus]."""
    taus = np.geomspace(0.01, 1.0, 60)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.plot(taus, solved(taus, None), color="black", linewidth=2, label="exact optimum")
    for (name, values), style in zip(without_stock(taus).items(), ("--", "-.", ":"), strict=True):
        axes.plot(taus, values, style, label=f"{name}, no stock")
    for index, values in enumerate(agent):
        label = f"one network a seed, {len(agent)} seeds" if index == 0 else None
        axes.plot(TAUS, values, "o", color="tab:red", alpha=0.6, label=label)
    axes.set(
        xscale="log", xlabel="share of worst outcomes", ylabel="their mean return (CVaR)", ylim=(-14.5, 2)
    )
    axes.grid(alpha=0.3)
    axes.legend()
    evidence.save(figure, file)


def main() -> None:
    """Measure, write, and exit with 1 where a bar is missed."""
    arguments = stock_agents.arguments(__doc__, "cliff", seeds=5)
    taus = np.array(TAUS)
    exact = solved(taus, None)
    start = time.perf_counter()
    grid = solved(taus, POINTS)
    grid_seconds = time.perf_counter() - start

    folder = arguments.runs / "cliff"
    seconds = evidence.trained("grid/stock_dqn_cliff.yaml", folder, [f"train.seeds={arguments.seeds}"])
    episodes = stock_agents.EPISODES
    agent = np.stack(
        [
            objectives.CVaR(tau).score(
                stock_agents.obtained(folder, "objective.name=cvar", f"objective.tau={tau}"),
                np.full(episodes, 1 / episodes),
            )
            for tau in TAUS
        ],
        axis=1,
    )  # [seeds, taus]

    rest, endless = without_stock(taus), solved(taus, POINTS, None)
    header = ("tau", "exact", "solver_a", "without_end", *(f"seed_{i}" for i in range(len(agent))), *rest)
    columns = (taus, exact, grid, endless, *agent, *rest.values())
    evidence.write_table(arguments.out / "frontier.csv", header, zip(*columns, strict=True))
    draw(agent, arguments.out / "frontier.png")

    below = taus < 1
    grid_error = np.abs(grid - exact)[below].max()
    misses = np.abs(agent - exact).max(0)  # Of the worst seed.
    good = (
        grid_error <= 0.01
        and grid_seconds < 20
        and (misses <= np.where(taus < 0.05, 0.25, 0.1)).all()
        and seconds < 600
    )
    worst = ", ".join(f"{miss:.3f} at {tau:g}" for tau, miss in zip(TAUS, misses, strict=True))
    gaps = zip(TAUS, (agent - exact).T, strict=True)
    print("obtained less exact: " + ", ".join(f"{evidence.over_seeds(gap)} at {tau:g}" for tau, gap in gaps))
    print(f"without end, solver A finds at most {np.abs(endless - exact).max():.4f} more or less")
    print(
        f"solver A off by {grid_error:.4f} in {grid_seconds:.1f} s; agent, worst of {len(agent)} seeds: "
        f"off by {worst}, {seconds:.0f} s a seed: {'good' if good else 'a bar is missed'}"
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()
