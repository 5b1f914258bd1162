"""Updates of many critics made unlike, EDAC's and RAVL's, beside batched products in PyTorch."""

import sys
from functools import partial
from typing import Any, NamedTuple

from benchmarks.speed.turns import by_turns, measure, medians_of

TASK: dict[str, Any] = {
    "env": "HalfCheetah-v5",  # Its shapes alone.
    "obs_size": 17,
    "action_size": 6,
    "hidden": [256, 256, 256],
    "diversity": 1.0,
    "learning_rate": 3e-4,
    "gamma": 0.99,
    "tau": 0.005,
    "temperature": 1e-8,  # With next to no noise first updates can be compared.
    "transitions": 100_000,
    "batch_size": 256,
}
UPDATES = 2_000  # Timed of one critic; of more as many fewer, but five at least.
AT_LEAST = 1.5  # Times PyTorch's updates, of ten critics.
SAME = 1e-3  # How near to each other first updates must be.


class Beside(NamedTuple):
    """Both programs' figures."""

    table: dict
    rates: dict[str, float]  # Updates per second.
    ratio: float  # Ours over PyTorch's.
    apart: float  # Largest difference after the first update.
    peaks: dict[str, float]  # GiB, of the whole process.


def beside_torch(rounds: int, critics: int) -> Beside:
    """So many critics, by turns."""
    task = TASK | {"critics": critics, "updates": max(UPDATES // critics, 5)}

    def run(peer: str) -> dict:
        found = measure(peer, "edac", "edac", task)
        print(f"{peer}: {found['updates_per_second']:.1f} updates of {critics} critics/s", file=sys.stderr)
        return found

    runs = by_turns({peer: partial(run, peer) for peer in ("ours", "torch")}, rounds)
    rates = medians_of(runs, "updates_per_second")
    ratio = rates["ours"] / rates["torch"]
    firsts = (runs["ours"][0]["first"], runs["torch"][0]["first"])
    apart = max(abs(ours - theirs) for ours, theirs in zip(*firsts, strict=True))
    peaks = {name: max(run["peak_gib"] for run in found) for name, found in runs.items()}
    table = {
        "unit": "updates per second",
        "task": task,
        "runs": {name: [run["updates_per_second"] for run in found] for name, found in runs.items()},
        "medians": rates,
        "ours_over": {"torch": ratio},
        "first_updates_apart": apart,
        "peak_gib": peaks,
        "versions": {name: found[0]["versions"] for name, found in runs.items()},
    }
    return Beside(table, rates, ratio, apart, peaks)
