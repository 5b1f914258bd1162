"""A sweep of distributional value iteration beside numpy in loops."""

import sys
from functools import partial
from typing import Any

import numpy as np

from benchmarks.speed.turns import by_turns, measure

TASK: dict[str, Any] = {
    # States, stocks and returns; the last is judged.
    "sizes": [[100, 51, 51], [1000, 51, 51], [100, 201, 51], [100, 51, 201], [1000, 201, 201]],
    "sweeps": 2,
    "gamma": 0.95,
    "rewards": [-2, -1, 0, 1, 2],
    "reach": 40,  # Of stocks and returns: the largest reward / (1 - gamma).
    "actions": [2, 4],
    "outcomes": 2,
    "seed": 0,
}
AT_LEAST = 10.0
MOST_GIB = 8.0
SAME = 1e-6


def compare(rounds: int) -> tuple[dict, bool]:
    """Milliseconds of a sweep of laws beside numpy, by turns, and whether the bars are met."""

    def run(name: str) -> dict:
        found = measure("ours" if name == "ours" else "numpy", "dp", name, TASK)
        print(f"{name}: {np.array(found['ms_per_sweep'], int)} ms per sweep", file=sys.stderr)
        return found

    runs = by_turns({name: partial(run, name) for name in ("ours", "scatter", "matrix")}, rounds)
    times = {name: np.array([run["ms_per_sweep"] for run in found]) for name, found in runs.items()}
    medians = {name: np.median(found, axis=0) for name, found in times.items()}
    ratios = {name: medians[name] / medians["ours"] for name in ("scatter", "matrix")}
    laws = [[np.array(law) for law in found[0]["mean_laws"]] for found in runs.values()]
    apart = max(
        float(abs(law - ours).max()) for other in laws[1:] for law, ours in zip(other, laws[0], strict=True)
    )
    peak = max(run["peak_gib"] for run in runs["ours"])
    full = " x ".join(map(str, TASK["sizes"][-1]))
    figures = (
        f"{full} ours {medians['ours'][-1]:,.0f} ms per sweep in {peak:.1f} GiB, "
        + ", ".join(
            f"numpy by {name} {medians[name][-1]:,.0f} ms ({ratios[name][-1]:.1f} times)" for name in ratios
        )
        + f"; laws within {apart:.0e}"
    )
    table = {
        "figures": figures,
        "unit": "ms per sweep, by size",
        "task": TASK,
        "runs": {name: found.tolist() for name, found in times.items()},
        "medians": {name: found.tolist() for name, found in medians.items()},
        "over_ours": {name: found.tolist() for name, found in ratios.items()},
        "peak_gib": peak,
        "laws_apart": apart,
        "versions": {name: found[0]["versions"] for name, found in runs.items()},
    }
    good = ratios["scatter"][-1] >= AT_LEAST and peak <= MOST_GIB and apart <= SAME
    return table, bool(good)
