"""SAC end to end on HalfCheetah, and updates of EDAC with ten critics."""

import sys
from functools import partial
from typing import Any

from benchmarks.speed import edac
from benchmarks.speed.turns import by_turns, measure, medians_of, python_of

SAC_TASK: dict[str, Any] = {
    "env": "HalfCheetah-v5",
    "hidden": [256, 256],
    "learning_rate": 3e-4,
    "capacity": 1_000_000,
    "warmup_steps": 1_000,
    "batch_size": 256,
    "steps": 4_000,  # Timed, with an update each; a tenth as many go before.
}
COLLECT_STEPS = {"plain": 1, "chunked": 16}  # Environment steps between two rounds of as many updates.
SAC_AT_LEAST = {"sb3": 1.5, "sbx": 1.1}  # Of plain collecting.


def sac(rounds: int) -> tuple[dict, dict[str, float]]:
    """Agent steps per second of every framework and way of collecting, and ours over the others'."""

    def run(peer: str, way: str) -> dict:
        found = measure(peer, "sac", way, SAC_TASK | {"collect_steps": COLLECT_STEPS[way]})
        print(f"{peer} {way}: {found['agent_steps_per_second']:.0f} agent steps/s", file=sys.stderr)
        return found

    peers = ("ours", *SAC_AT_LEAST)
    timers = {f"{peer} {way}": partial(run, peer, way) for way in COLLECT_STEPS for peer in peers}
    runs = by_turns(timers, rounds)
    medians = medians_of(runs, "agent_steps_per_second")
    ratios = {
        f"{peer} {way}": medians[f"ours {way}"] / medians[f"{peer} {way}"]
        for way in COLLECT_STEPS
        for peer in SAC_AT_LEAST
    }
    table = {
        "unit": "agent steps per second",
        "task": SAC_TASK | {"collect_steps": COLLECT_STEPS},
        "runs": {name: [run["agent_steps_per_second"] for run in found] for name, found in runs.items()},
        "medians": medians,
        "ours_over": ratios,
        "versions": {peer: runs[f"{peer} plain"][0]["versions"] for peer in peers},
    }
    return table, ratios


def compare(rounds: int) -> tuple[dict, bool]:
    """Both tables, and whether the bars are met."""
    for peer in (*SAC_AT_LEAST, "torch"):
        python_of(peer)
    of_sac, over_peers = sac(rounds)
    of_edac = edac.beside_torch(rounds, critics=10)
    figures = ", ".join(
        f"SAC {name} {rate:,.0f} agent steps/s"
        + (f" (1/{over_peers[name]:.2f})" if name in over_peers else "")
        for name, rate in of_sac["medians"].items()
    ) + (
        f"; EDAC ours {of_edac.rates['ours']:.1f} updates/s, torch {of_edac.rates['torch']:.1f} "
        f"(1/{of_edac.ratio:.2f}), first updates within {of_edac.apart:.0e}"
    )
    good = all(over_peers[f"{peer} plain"] >= bar for peer, bar in SAC_AT_LEAST.items())
    good = good and of_edac.ratio >= edac.AT_LEAST and of_edac.apart <= edac.SAME
    return {"figures": figures, "sac": of_sac, "edac": of_edac.table}, good
