"""What it costs to make no update that is not finite."""

import operator
import statistics
from unittest import mock

from agents.experiment_config import ExperimentConfig
from benchmarks.peers import ours_dqn
from benchmarks.speed import updates
from benchmarks.speed.frameworks import TASKS
from benchmarks.speed.turns import by_turns
from valuelearn import config, guard

AT_MOST = 1.01
_UPDATES = {"atari": 16, "minatar": 256, "sac": 64}  # In one compiled loop.


def _configs() -> dict[str, ExperimentConfig]:
    shipped = {"minatar": "minatar/dqn_hl_gauss.yaml", "sac": "mujoco/sac.yaml"}
    small = ["agent.replay.capacity=20_000", "train.seeds=1"]
    rest = {
        name: config.load(ExperimentConfig, ours_dqn.CONFIGS / file, small) for name, file in shipped.items()
    }
    return {"atari": ours_dqn.load("atari", TASKS["atari"].given), **rest}


def compare(rounds: int) -> tuple[dict, bool]:
    """Milliseconds of an update with and without, by turns, and whether the bar is met."""
    timers = {}
    for name, cfg in _configs().items():
        timers[name, "guarded"] = updates.timed(cfg, _UPDATES[name])
        with mock.patch.object(guard, "made", lambda agree, good, update, before: update()):
            timers[name, "unguarded"] = updates.timed(cfg, _UPDATES[name])
    runs = by_turns(timers, 8 * rounds)
    # Of neighbours in time, as the machine drifts.
    ratios = {
        name: statistics.median(map(operator.truediv, runs[name, "guarded"], runs[name, "unguarded"]))
        for name in _UPDATES
    }
    medians = {name: statistics.median(runs[name, "guarded"]) for name in _UPDATES}
    figures = ", ".join(f"{name} {medians[name]:.2f} ms (x {ratios[name]:.3f})" for name in _UPDATES)
    table = {
        "figures": figures,
        "unit": "ms per update",
        "runs": {f"{name}, {which}": found for (name, which), found in runs.items()},
        "over_unguarded": ratios,
    }
    return table, all(ratio <= AT_MOST for ratio in ratios.values())
