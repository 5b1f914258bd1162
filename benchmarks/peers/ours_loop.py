"""The speed of valuelearn's training loop."""

import importlib.metadata
import json
import resource
import time

from agents import experiment
from agents.experiment_config import ExperimentConfig
from valuelearn import loop
from valuelearn.types import FunctionalEnv


def versions(*packages: str) -> dict[str, str]:
    """Those of valuelearn, JAX and the packages."""
    return {name: importlib.metadata.version(name) for name in ("valuelearn", "jax", *packages)}


def report(config: ExperimentConfig, steps: int, *packages: str) -> None:
    """Print agent steps per second over so many with their updates, and the peak of memory.

    The warm-up and a tenth as many steps go before.
    """
    built = experiment.make(config)
    agent, memory = built.algorithm.agent, built.algorithm.memory
    chunk_steps = steps // 10
    warm = built.schedule.warmup_steps + chunk_steps  # Compilation lies in the first chunk with updates.
    schedule = built.schedule._replace(
        total_steps=warm + steps, chunk_steps=chunk_steps, checkpoint_steps=None
    )
    if isinstance(built.env, FunctionalEnv):
        chunks = loop.train_functional(agent, built.env, memory, schedule, [0])
    else:
        chunks = loop.train_host(agent, built.env, memory, schedule, 0)
    start = before = None
    for chunk in chunks:
        made = chunk.metrics["env_steps"].item()
        if start is None and made >= warm:
            start, before = time.perf_counter(), made
    assert start is not None and before is not None
    say((made - before) / (time.perf_counter() - start), *packages)


def say(rate: float, *packages: str) -> None:
    """Print agent steps per second, the peak of this process's memory, and versions."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"agent_steps_per_second": rate, "peak_gib": peak, "versions": versions(*packages)}))
