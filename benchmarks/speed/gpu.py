"""Atari's DQN on a GPU: its speed, that of five seeds at once, and where the time goes."""

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import numpy as np

from agents import experiment
from agents.experiment import ExperimentConfig
from benchmarks.peers import ours_dqn
from benchmarks.speed import updates
from benchmarks.speed.frameworks import TASKS
from benchmarks.speed.turns import by_turns, measure
from valuelearn.types import FunctionalEnv

AT_LEAST = 14_000.0  # Agent steps a second: 200 million frames in an hour.
HEADS = ("mse", "hl_gauss")
SEEDS = 5
GIVEN = TASKS["atari"].given | {"num_envs": 128, "warmup_steps": 20_000, "capacity": 200_000}
STEPS = 200_000  # That a run is timed over.
UPDATES = 1_000  # In one compiled loop.


def run(task: dict, head: str) -> float:
    """Agent steps a second, in a process of its own."""
    return measure("ours", "dqn", "atari", task | {"head": head})["agent_steps_per_second"]


def at_once(task: dict, seeds: int) -> float:
    """Agent steps a second of all seeds together: processes side by side, as games run on the host."""
    with ThreadPoolExecutor(seeds) as pool:
        return sum(pool.map(partial(run, task), ["mse"] * seeds))


def environment(cfg: ExperimentConfig, steps: int) -> float:
    """Agent steps a second of the games alone, under random actions."""
    env = experiment.make(cfg).env
    assert not isinstance(env, FunctionalEnv)
    chance = np.random.default_rng(0)
    actions = chance.integers(env.spec.num_actions, size=(-(-steps // env.spec.num_envs), env.spec.num_envs))
    env.reset(0)
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    rate = actions.size / (time.perf_counter() - start)
    env.close()
    return rate


def compare(rounds: int) -> tuple[dict, bool]:
    """Agent steps a second with each head and with five seeds, and what a step takes of each part."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # Several processes share the device.
    if jax.default_backend() == "cpu":
        raise SystemExit("speed gpu: JAX finds no GPU or TPU on this machine, so nothing was measured")
    task = GIVEN | {"steps": STEPS}
    configs = {head: ours_dqn.load("atari", GIVEN | {"head": head}) for head in HEADS}
    end_to_end = {head: partial(run, task, head) for head in HEADS}
    runs = by_turns(
        {
            **end_to_end,
            f"{SEEDS} seeds": partial(at_once, task, SEEDS),
            "environment": partial(environment, configs["mse"], STEPS),
            **{f"update {head}": updates.timed(cfg, UPDATES) for head, cfg in configs.items()},
        },
        rounds,
    )
    medians = {name: statistics.median(found) for name, found in runs.items()}
    period = GIVEN["update_period_steps"]
    micros = {  # Of one agent step. Games and updates overlap, so that the longer of the two is the least.
        "end to end": 1e6 / medians["mse"],
        "environment alone": 1e6 / medians["environment"],
        "updates alone": 1e3 * medians["update mse"] / period,
    }
    over = medians["update hl_gauss"] / medians["update mse"]
    device = jax.devices()[0].device_kind
    figures = (
        f"{medians['mse']:,.0f} agent steps/s with squared error and {medians['hl_gauss']:,.0f} with "
        f"HL-Gauss on {device}, {medians[f'{SEEDS} seeds']:,.0f} of {SEEDS} seeds at once; HL-Gauss's update "
        f"takes {over:.2f} times squared error's; microseconds of a step: "
        + ", ".join(f"{name} {value:.1f}" for name, value in micros.items())
    )
    table = {
        "figures": figures,
        "device": device,
        "task": task,
        "runs": runs,
        "medians": medians,
        "microseconds_of_a_step": micros,
        "hl_gauss_over_mse": over,
    }
    return table, medians["mse"] >= AT_LEAST and medians[f"{SEEDS} seeds"] >= AT_LEAST
