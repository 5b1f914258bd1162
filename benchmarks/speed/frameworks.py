"""DQN end to end beside other frameworks: real frames of Breakout, MinAtar's Breakout, and CartPole."""

import sys
from functools import partial
from typing import Any, NamedTuple

from benchmarks.speed.turns import by_turns, measure, medians_of, python_of


class Task(NamedTuple):
    """What every framework is given alike."""

    given: dict[str, Any]  # `collect_steps` of all copies go before the updates that they call for.
    steps: dict[str, int]  # Agent steps that each of them is timed over; a tenth as many go before.
    at_least: dict[str, float]  # Times the other's agent steps per second.


# What else of ours is timed: by a program of its own, or with something else in the task.
BESIDE: dict[str, tuple[str, dict[str, Any]]] = {
    "ours, c51": ("dqn", {"head": "c51"}),
    "games alone": ("games", {}),
}
TASKS = {
    "atari": Task(
        given={
            "game": "BreakoutNoFrameskip-v4",
            "num_envs": 8,
            "update_period_steps": 4,
            "collect_steps": 8,
            "batch_size": 32,
            "learning_rate": 6.25e-5,
            "capacity": 50_000,
            "warmup_steps": 2_000,
            "target_period_steps": 8_000,
        },
        steps={"ours": 6_000, "sb3": 4_000, "sbx": 3_000, "ours, c51": 6_000, "games alone": 40_000},
        at_least={"sb3": 3.0, "sbx": 6.0},
    ),
    "minatar": Task(
        given={
            "num_envs": 8,
            "update_period_steps": 4,
            "collect_steps": 4,
            "batch_size": 32,
            "learning_rate": 2.5e-4,
            "capacity": 50_000,
            "warmup_steps": 1_000,
            "target_period_steps": 4_000,
        },
        steps={"ours": 100_000, "sb3": 8_000, "jax_loop": 20_000},
        at_least={},
    ),
    "classic": Task(
        given={
            "num_envs": 1,
            "update_period_steps": 1,
            "collect_steps": 1,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "hidden": [64, 64],
            "capacity": 50_000,
            "warmup_steps": 1_000,
            "target_period_steps": 500,
            "cpu_threads": 1,
        },
        steps={"ours": 100_000, "sb3": 5_000, "sbx": 3_000},
        at_least={"sb3": 12.0, "sbx": 20.0},
    ),
}


def compare(name: str, rounds: int) -> tuple[dict, bool]:
    """Agent steps per second of every framework, by turns, and whether the bars are met."""
    task = TASKS[name]
    peers = {one: "ours" if one in BESIDE else one for one in task.steps}
    for peer in peers.values():
        python_of(peer)

    def run(one: str) -> dict:
        problem, own = BESIDE.get(one, ("dqn", {}))
        found = measure(peers[one], problem, name, task.given | own | {"steps": task.steps[one]})
        print(f"{one}: {found['agent_steps_per_second']:.0f} agent steps/s", file=sys.stderr)
        return found

    runs = by_turns({one: partial(run, one) for one in peers}, rounds)
    medians = medians_of(runs, "agent_steps_per_second")
    ratios = {one: medians["ours"] / rate for one, rate in medians.items() if peers[one] != "ours"}
    figures = ", ".join(
        f"{one} {rate:,.0f} agent steps/s" + (f" (1/{ratios[one]:.1f})" if one in ratios else "")
        for one, rate in medians.items()
    )
    table = {
        "figures": figures,
        "unit": "agent steps per second",
        "task": task.given | {"steps": task.steps},
        "runs": {one: [run["agent_steps_per_second"] for run in found] for one, found in runs.items()},
        "medians": medians,
        "ours_over": ratios,
        "peak_gib": medians_of(runs, "peak_gib"),
        "versions": {one: found[0]["versions"] for one, found in runs.items()},
    }
    return table, all(ratios[peer] >= bar for peer, bar in task.at_least.items())
