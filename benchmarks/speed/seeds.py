"""Training with one seed, and with several at once."""

import operator
import statistics
import time
from collections.abc import Callable

from agents import experiment
from agents.experiment_config import ExperimentConfig
from benchmarks.peers import ours_dqn
from benchmarks.speed.turns import by_turns
from valuelearn import config, loop
from valuelearn.types import FunctionalEnv

SEEDS = 10
SEEDS_AT_MOST = 4.0
CHUNK = 16_384  # Agent steps of each seed.


def one_chunk(name: str, seeds: int) -> Callable[[], float]:
    """A function that answers with the seconds of a chunk of a MinAtar config, so many seeds at once."""
    path = ours_dqn.CONFIGS / "minatar" / f"{name}.yaml"
    arguments = [f"train.log_frames={CHUNK}", f"train.seeds={seeds}"]
    built = experiment.make(config.load(ExperimentConfig, path, arguments))
    assert isinstance(built.env, FunctionalEnv)
    agent, memory = built.algorithm.agent, built.algorithm.memory
    chunks = loop.train_functional(agent, built.env, memory, built.schedule, range(seeds))
    while not next(chunks).metrics["updates"].all():  # Through the warm-up.
        pass

    def timed() -> float:
        start = time.perf_counter()
        next(chunks)
        return time.perf_counter() - start

    return timed


def compare(rounds: int) -> tuple[dict, bool]:
    """Seconds of training with one seed and with several at once, and whether the bar is met."""
    names = ("pqn_hl_gauss", "dqn_hl_gauss")
    runs = {}
    for name in names:
        # Many first: they ask for the devices that the process then has.
        timers = {str(seeds): one_chunk(name, seeds) for seeds in (SEEDS, 1)}
        runs[name] = by_turns(timers, 3 * rounds)
    ratios = {
        name: statistics.median(map(operator.truediv, found[str(SEEDS)], found["1"]))
        for name, found in runs.items()
    }
    figures = ", ".join(f"{SEEDS} seeds of {name} in {ratios[name]:.1f} times one seed" for name in names)
    table = {
        "figures": figures,
        "unit": f"seconds per {CHUNK} agent steps of each seed",
        "runs": runs,
        "over_one_seed": ratios,
    }
    return table, all(ratio <= SEEDS_AT_MOST for ratio in ratios.values())
