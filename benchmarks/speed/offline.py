"""Updates of agents that learn from a dataset, beside d3rlpy's."""

import sys
from functools import partial
from typing import Any

from benchmarks.speed.turns import by_turns, measure, medians_of, python_of

TASK: dict[str, Any] = {
    "env": "Hopper-v5",  # Its shapes alone.
    "obs_size": 11,
    "action_size": 3,
    "transitions": 100_000,
    "hidden": [256, 256],
    "batch_size": 256,
}
# Updates that are timed of the agents that both have; a tenth as many go before. EDAC is not d3rlpy's.
UPDATES = {"bc": 1_000, "td3_bc": 400, "iql": 400, "cql": 100, "cal_ql": 100, "rebrac": 300, "sac_n": 150}


def compare(rounds: int) -> tuple[dict, bool]:
    """Updates per second of every agent; there are no bars."""
    python_of("d3rlpy")

    def run(peer: str, agent: str) -> dict:
        found = measure(peer, "offline", agent, TASK | {"updates": UPDATES[agent]})
        print(f"{peer}: {found['updates_per_second']:.1f} updates/s of {agent}", file=sys.stderr)
        return found

    peers = ("ours", "d3rlpy")
    runs = by_turns(
        {f"{peer} {agent}": partial(run, peer, agent) for agent in UPDATES for peer in peers}, rounds
    )
    medians = medians_of(runs, "updates_per_second")
    ratios = {agent: medians[f"ours {agent}"] / medians[f"d3rlpy {agent}"] for agent in UPDATES}
    figures = "; ".join(
        f"{agent}: ours {medians[f'ours {agent}']:,.1f} updates/s, d3rlpy {medians[f'd3rlpy {agent}']:,.1f} "
        f"(1/{ratio:.1f})"
        for agent, ratio in ratios.items()
    )
    table = {
        "figures": figures,
        "unit": "updates per second",
        "task": TASK | {"updates": UPDATES},
        "runs": {name: [run["updates_per_second"] for run in found] for name, found in runs.items()},
        "medians": medians,
        "ours_over": ratios,
        "peak_gib": medians_of(runs, "peak_gib"),
        "versions": {peer: runs[f"{peer} bc"][0]["versions"] for peer in peers},
    }
    return table, True
