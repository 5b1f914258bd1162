"""Distributional value iteration as a user of numpy writes it: loops over states, actions and outcomes.

TASK says how returns are projected: `scatter` by np.add.at, `matrix` by a product with a matrix.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Table = list[list[list[tuple[float, int, float]]]]  # Of [state][action] (probability, next state, reward).
Project = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
SAME = 1e-10


def random_process(states: int, task: dict) -> Table:
    """A process without an end, of so many actions in each state as the draw gives."""
    rng = np.random.default_rng(task["seed"])
    few, many = task["actions"]

    def outcomes() -> list[tuple[float, int, float]]:
        probabilities = rng.dirichlet(np.ones(task["outcomes"])).tolist()
        return [
            (chance, int(rng.integers(states)), float(rng.choice(task["rewards"])))
            for chance in probabilities
        ]

    return [[outcomes() for _ in range(rng.integers(few, many + 1))] for _ in range(states)]


def around(x: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the grid's point below each x, moved into the grid, and the part of the one above."""
    place = np.clip((x - grid[0]) * (len(grid) - 1) / (grid[-1] - grid[0]), 0, len(grid) - 1)
    below = np.minimum(place.astype(int), len(grid) - 2)
    return below, place - below


def scatter(laws: np.ndarray, below: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Laws [C, N] with each return's mass shared between the two points around its image."""
    image = np.zeros_like(laws)
    for points, share in ((below, 1 - part), (below + 1, part)):
        columns: Any = (slice(None), points)  # NumPy's annotations know no slices here.
        np.add.at(image, columns, laws * share)
    return image


def matrix(laws: np.ndarray, below: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The same as one product."""
    share = np.zeros((len(below), len(below)))
    rows = np.arange(len(below))
    share[rows, below] = 1 - part
    share[rows, below + 1] = part
    return laws @ share


PROJECT: dict[str, Project] = {"scatter": scatter, "matrix": matrix}


def near_the_top(q: np.ndarray) -> np.ndarray:
    """Which actions [A, C] are best but for rounding."""
    top = q.max(0)
    return q >= top - SAME * (1 + np.abs(top))


def sweep(
    process: Table,
    gamma: float,
    utility: np.ndarray,
    stocks: np.ndarray,
    returns: np.ndarray,
    laws: np.ndarray,
    project: Project,
) -> np.ndarray:
    """Laws [S, C, N] a step earlier under greedy actions; utility [C, N] is f(stock + return)."""
    new = np.empty_like(laws)
    for state, actions in enumerate(process):
        candidates = np.zeros((len(actions), *laws.shape[1:]))
        for action, outcomes in enumerate(actions):
            for probability, next_state, reward in outcomes:
                below, part = around((stocks + reward) / gamma, stocks)
                law, part = laws[next_state], part[:, None]
                ahead = (1 - part) * law[below] + part * law[below + 1]
                candidates[action] += probability * project(ahead, *around(reward + gamma * returns, returns))
        good = near_the_top((candidates * utility).sum(-1))
        best = near_the_top(np.where(good, candidates @ returns, -np.inf)).argmax(0)
        new[state] = candidates[best, np.arange(len(stocks))]
    return new


def value_iteration(
    process: Table, gamma: float, stocks: np.ndarray, returns: np.ndarray, sweeps: int, project: Project
) -> np.ndarray:
    """Laws [S, C, N] of the return after so many steps that are best for E min(stock + return, 0)."""
    utility = np.minimum(stocks[:, None] + returns, 0)
    nothing = np.zeros(len(returns))
    below, part = around(np.zeros(()), returns)
    nothing[below], nothing[below + 1] = 1 - part, part
    laws = np.tile(nothing, (len(process), len(stocks), 1))
    for _ in range(sweeps):
        laws = sweep(process, gamma, utility, stocks, returns, laws, project)
    return laws


def main() -> None:
    """Time the sweeps of every size."""
    name, task = sys.argv[1], json.loads(sys.argv[2])
    times, means = [], []
    for states, *points in task["sizes"]:
        process = random_process(states, task)
        stocks, returns = (np.linspace(-task["reach"], task["reach"], count) for count in points)
        start = time.perf_counter()
        laws = value_iteration(process, task["gamma"], stocks, returns, task["sweeps"], PROJECT[name])
        times.append(1e3 * (time.perf_counter() - start) / task["sweeps"])
        means.append(laws.mean((0, 1)).tolist())
    print(json.dumps({"ms_per_sweep": times, "mean_laws": means, "versions": {"numpy": np.__version__}}))


if __name__ == "__main__":
    main()
