"""SAC and TD3 end to end on HalfCheetah, beside other frameworks."""

import sys
from functools import partial
from typing import Any, NamedTuple

from benchmarks.speed.turns import by_turns, measure, medians_of, python_of

TASK: dict[str, Any] = {
    "env": "HalfCheetah-v5",
    "hidden": [256, 256],
    "learning_rate": 3e-4,
    "capacity": 1_000_000,
    "warmup_steps": 1_000,
    "batch_size": 256,
    "steps": 4_000,  # Timed, with an update each; a tenth as many go before.
}


class Way(NamedTuple):
    """What is run."""

    algorithm: str
    collect_steps: int  # Environment steps between two rounds of as many updates.


WAYS = {"SAC": Way("sac", 1), "SAC in chunks": Way("sac", 16), "TD3": Way("td3", 1)}
AT_LEAST = {"sb3 SAC": 2.0, "sbx SAC": 1.3}


def compare(rounds: int) -> tuple[dict, bool]:
    """Agent steps per second of every framework and way, by turns, and whether the bars are met."""
    peers = ("ours", "sb3", "sbx")
    for peer in peers:
        python_of(peer)

    def run(peer: str, way: str) -> dict:
        algorithm, collect_steps = WAYS[way]
        found = measure(peer, "actor_critic", algorithm, TASK | {"collect_steps": collect_steps})
        print(f"{peer} {way}: {found['agent_steps_per_second']:.0f} agent steps/s", file=sys.stderr)
        return found

    runs = by_turns({f"{peer} {way}": partial(run, peer, way) for way in WAYS for peer in peers}, rounds)
    medians = medians_of(runs, "agent_steps_per_second")
    ratios = {
        f"{peer} {way}": medians[f"ours {way}"] / medians[f"{peer} {way}"]
        for way in WAYS
        for peer in peers[1:]
    }
    figures = ", ".join(
        f"{name} {rate:,.0f} agent steps/s" + (f" (1/{ratios[name]:.2f})" if name in ratios else "")
        for name, rate in medians.items()
    )
    table = {
        "figures": figures,
        "unit": "agent steps per second",
        "task": TASK | {"collect_steps": {name: way.collect_steps for name, way in WAYS.items()}},
        "runs": {name: [run["agent_steps_per_second"] for run in found] for name, found in runs.items()},
        "medians": medians,
        "ours_over": ratios,
        "peak_gib": medians_of(runs, "peak_gib"),
        "versions": {peer: runs[f"{peer} SAC"][0]["versions"] for peer in peers},
    }
    return table, all(ratios[name] >= bar for name, bar in AT_LEAST.items())
