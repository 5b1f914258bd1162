"""DQN end to end beside other frameworks: real frames of Breakout, MinAtar's Breakout, and CartPole."""

import sys
from functools import partial
from typing import Any, NamedTuple

from benchmarks.speed.turns import by_turns, measure, medians_of, python_of


class Task(NamedTuple):
    """What every framework is given alike."""

    given: dict[str, Any]
    steps: dict[str, int]  # Agent steps that each framework is timed over; a tenth as many go before.
    at_least: dict[str, float]  # Times the other's agent steps per second.


TASKS = {
    "atari": Task(
        given={
            "game": "BreakoutNoFrameskip-v4",
            "num_envs": 8,
            "update_period_steps": 4,
            "batch_size": 32,
            "learning_rate": 6.25e-5,
            "capacity": 50_000,
            "warmup_steps": 2_000,
            "target_period_steps": 8_000,
        },
        steps={"ours": 6_000, "sb3": 4_000, "sbx": 3_000},
        at_least={"sb3": 3.0, "sbx": 6.0},
    ),
    "minatar": Task(
        given={
            "num_envs": 8,
            "update_period_steps": 4,
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
            "batch_size": 128,
            "learning_rate": 1e-3,
            "hidden": [64, 64],
            "capacity": 50_000,
            "warmup_steps": 1_000,
            "target_period_steps": 500,
        },
        steps={"ours": 100_000, "sb3": 5_000, "sbx": 3_000},
        at_least={"sb3": 12.0, "sbx": 20.0},
    ),
}


def compare(name: str, rounds: int) -> tuple[dict, bool]:
    """Agent steps per second of every framework, by turns, and whether the bars are met."""
    task = TASKS[name]
    for peer in task.steps:
        python_of(peer)

    def run(peer: str) -> dict:
        found = measure(peer, "dqn", name, task.given | {"steps": task.steps[peer]})
        print(f"{peer}: {found['agent_steps_per_second']:.0f} agent steps/s", file=sys.stderr)
        return found

    runs = by_turns({peer: partial(run, peer) for peer in task.steps}, rounds)
    medians = medians_of(runs, "agent_steps_per_second")
    ratios = {peer: medians["ours"] / rate for peer, rate in medians.items() if peer != "ours"}
    figures = ", ".join(
        f"{peer} {rate:,.0f} agent steps/s" + (f" (1/{ratios[peer]:.1f})" if peer in ratios else "")
        for peer, rate in medians.items()
    )
    table = {
        "figures": figures,
        "unit": "agent steps per second",
        "task": task.given | {"steps": task.steps},
        "runs": {peer: [run["agent_steps_per_second"] for run in found] for peer, found in runs.items()},
        "medians": medians,
        "ours_over": ratios,
        "peak_gib": medians_of(runs, "peak_gib"),
        "versions": {peer: found[0]["versions"] for peer, found in runs.items()},
    }
    return table, all(ratios[peer] >= bar for peer, bar in task.at_least.items())
