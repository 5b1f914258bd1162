"""DQN end to end beside other frameworks: real frames of Breakout, and CartPole."""

import statistics
import sys

from benchmarks.speed.turns import measure, python_of

# What every framework is given alike; the steps are timed, a tenth as many go before.
TASKS: dict[str, dict] = {
    "atari": {
        "game": "BreakoutNoFrameskip-v4",
        "num_envs": 8,
        "update_period_steps": 4,
        "batch_size": 32,
        "learning_rate": 6.25e-5,
        "capacity": 50_000,
        "warmup_steps": 2_000,
        "steps": {"ours": 6_000, "sb3": 4_000},
        "target_period_steps": 8_000,
    },
    "classic": {
        "num_envs": 1,
        "update_period_steps": 1,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "hidden": [64, 64],
        "capacity": 50_000,
        "warmup_steps": 1_000,
        "steps": {"ours": 100_000, "sb3": 5_000, "sbx": 3_000},
        "target_period_steps": 500,
    },
}
AT_LEAST = {"atari": {"sb3": 2.5}, "classic": {"sb3": 8.0, "sbx": 20.0}}


def compare(name: str, rounds: int) -> tuple[dict, bool]:
    """Agent steps per second of every framework, by turns, and whether the bars are met."""
    peers, task = ("ours", *AT_LEAST[name]), TASKS[name]
    for peer in peers:
        python_of(peer)
    runs: dict[str, list[dict]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            runs[peer].append(measure(peer, "dqn", name, task | {"steps": task["steps"][peer]}))
            print(f"{peer}: {runs[peer][-1]['agent_steps_per_second']:.0f} agent steps/s", file=sys.stderr)
    rates = {peer: [run["agent_steps_per_second"] for run in found] for peer, found in runs.items()}
    medians = {peer: statistics.median(found) for peer, found in rates.items()}
    ratios = {peer: medians["ours"] / medians[peer] for peer in AT_LEAST[name]}
    figures = ", ".join(
        f"{peer} {rate:,.0f} agent steps/s" + (f" (1/{ratios[peer]:.1f})" if peer in ratios else "")
        for peer, rate in medians.items()
    )
    table = {
        "figures": figures,
        "unit": "agent steps per second",
        "task": task,
        "runs": rates,
        "medians": medians,
        "ours_over": ratios,
        "versions": {peer: found[0]["versions"] for peer, found in runs.items()},
    }
    return table, all(ratios[peer] >= bar for peer, bar in AT_LEAST[name].items())
