"""What the hot updates ask of the machine, and how near they come to what it can give."""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from agents.experiment_config import ExperimentConfig
from benchmarks.peers import ours_dqn
from benchmarks.speed import updates
from benchmarks.speed.frameworks import TASKS
from benchmarks.speed.turns import by_turns
from valuelearn import config

AT_LEAST = {"atari": 0.6}  # Of the peak of matrix products.
_UPDATES = {"atari": 16, "minatar": 256, "critics": 8}  # In one compiled loop.
_SIDES = (1024, 2048, 4096)  # Of square matrices; the peak is that of the fastest.
_FLOATS = 2**26  # Of an array that no cache holds.


def _configs() -> dict[str, ExperimentConfig]:
    small = ["agent.replay.capacity=20_000", "train.seeds=1"]
    critics = ["agent.num_critics=10", "agent.diversity=1.0", "agent.network.hidden=[256,256,256]"]
    folder = ours_dqn.CONFIGS
    return {
        "atari": ours_dqn.load("atari", TASKS["atari"].given),
        "minatar": config.load(ExperimentConfig, folder / "minatar" / "dqn_hl_gauss.yaml", small),
        "critics": config.load(ExperimentConfig, folder / "mujoco" / "sac.yaml", [*small, *critics]),
    }


def _seconds(function: Callable, *arguments: jax.Array) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def _matmul_gflops() -> float:
    """Float32 operations a second, in thousand millions, of the best square product."""
    product, found = jax.jit(jnp.matmul), []
    for side in _SIDES:
        x = jnp.ones((side, side))
        jax.block_until_ready(product(x, x))
        found.append(2e-9 * side**3 / min(_seconds(product, x, x) for _ in range(5)))
    return max(found)


def _gigabytes() -> float:
    """Bytes a second, in thousand millions, of a sum of two arrays that is written to a third."""
    x = jnp.ones(_FLOATS)
    add = jax.jit(lambda x, y: x + 0.5 * y)
    jax.block_until_ready(add(x, x + 1))
    y = x + 1
    return 1e-9 * 12 * _FLOATS / min(_seconds(add, x, y) for _ in range(5))


def compare(rounds: int) -> tuple[dict, bool]:
    """Milliseconds of updates by turns with the peaks, what they count, and whether the bar is met."""
    configs = _configs()
    counts = {name: updates.counted(cfg) for name, cfg in configs.items()}
    timers = {name: updates.timed(cfg, _UPDATES[name]) for name, cfg in configs.items()}
    runs = by_turns({**timers, "gflops": _matmul_gflops, "gigabytes": _gigabytes}, 2 * rounds)
    medians = {name: statistics.median(found) for name, found in runs.items()}
    peak, bandwidth = medians["gflops"], medians["gigabytes"]
    shares = {name: counts[name].flops / (1e6 * medians[name]) / peak for name in configs}
    of_bandwidth = {name: counts[name].bytes / (1e6 * medians[name]) / bandwidth for name in configs}
    figures = ", ".join(
        f"{name} {medians[name]:.2f} ms for {1e-9 * count.flops:.2f} GFLOP, {shares[name]:.0%} of the peak, "
        f"and {1e-6 * count.bytes:.0f} MB, {of_bandwidth[name]:.0%}"
        for name, count in counts.items()
    )
    table = {
        "figures": f"{figures}; peaks {peak:.0f} GFLOP/s, {bandwidth:.1f} GB/s",
        "unit": "ms per update",
        "runs": runs,
        "medians": medians,
        "flops": {name: count.flops for name, count in counts.items()},
        "bytes": {name: count.bytes for name, count in counts.items()},
        "of_matmul_peak": shares,
        "of_bandwidth": of_bandwidth,
    }
    return table, all(shares[name] >= bar for name, bar in AT_LEAST.items())
