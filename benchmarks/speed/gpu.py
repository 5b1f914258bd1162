"""Atari's DQN on a GPU: its speed, that of other variants and five seeds at once, and where the time goes."""

import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax

from benchmarks.peers import ours_dqn
from benchmarks.speed import updates
from benchmarks.speed.frameworks import TASKS
from benchmarks.speed.turns import by_turns, measure

AT_LEAST = 14_000.0  # Agent steps a second: 200 million frames in an hour.
VARIANTS = {  # By their names in the table.
    "mse": {},
    "hl_gauss": {"head": "hl_gauss"},
    "bfloat16": {"precision": "bfloat16"},
}
SEEDS = 5
GIVEN = TASKS["atari"].given | {"num_envs": 128, "warmup_steps": 20_000, "capacity": 200_000}
STEPS = 200_000  # That a run is timed over.
UPDATES = 1_000  # In one compiled loop.


def run(task: dict, problem: str = "dqn") -> float:
    """Agent steps a second, in a process of its own."""
    return measure("ours", problem, "atari", task)["agent_steps_per_second"]


def at_once(task: dict, seeds: int) -> float:
    """Agent steps a second of all seeds together: processes side by side, as games run on the host."""
    with ThreadPoolExecutor(seeds) as pool:
        return sum(pool.map(run, [task] * seeds))


def compare(rounds: int) -> tuple[dict, bool]:
    """Agent steps a second with each head and with five seeds, and what a step takes of each part."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # Several processes share the device.
    if jax.default_backend() == "cpu":
        raise SystemExit("speed gpu: JAX finds no GPU or TPU on this machine, so nothing was measured")
    task = GIVEN | {"steps": STEPS}
    configs = {name: ours_dqn.load("atari", GIVEN | own) for name, own in VARIANTS.items()}
    end_to_end = {name: partial(run, task | own) for name, own in VARIANTS.items()}
    runs = by_turns(
        {
            **end_to_end,
            f"{SEEDS} seeds": partial(at_once, task, SEEDS),
            "games": partial(run, task, "games"),
            **{f"update {name}": updates.timed(cfg, UPDATES) for name, cfg in configs.items()},
        },
        rounds,
    )
    medians = {name: statistics.median(found) for name, found in runs.items()}
    period = GIVEN["update_period_steps"]
    micros = {  # Of one agent step. Games and updates overlap, so that the longer of the two is the least.
        "end to end": 1e6 / medians["mse"],
        "games alone": 1e6 / medians["games"],
        "updates alone": 1e3 * medians["update mse"] / period,
    }
    over = {name: medians[f"update {name}"] / medians["update mse"] for name in VARIANTS if name != "mse"}
    device = jax.devices()[0].device_kind
    figures = (
        f"{medians['mse']:,.0f} agent steps/s with squared error, {medians['hl_gauss']:,.0f} with HL-Gauss "
        f"and {medians['bfloat16']:,.0f} in bfloat16 on {device}, {medians[f'{SEEDS} seeds']:,.0f} of "
        f"{SEEDS} seeds at once; an update takes {over['hl_gauss']:.2f} times as long with HL-Gauss and "
        f"{over['bfloat16']:.2f} times in bfloat16; microseconds of a step: "
        + ", ".join(f"{name} {value:.1f}" for name, value in micros.items())
    )
    table = {
        "figures": figures,
        "device": device,
        "task": task,
        "runs": runs,
        "medians": medians,
        "microseconds_of_a_step": micros,
        "over_mse": over,
    }
    return table, medians["mse"] >= AT_LEAST and medians[f"{SEEDS} seeds"] >= AT_LEAST
