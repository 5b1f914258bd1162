"""One update of DQN's network of Atari with each value head."""

import operator
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from agents import experiment
from benchmarks.peers import ours_dqn
from benchmarks.speed.frameworks import TASKS
from benchmarks.speed.turns import by_turns
from valuelearn import heads, loop

AT_MOST = {"hl_gauss": 1.05}
UPDATES = 16  # In one compiled loop.


def one_update(head: str) -> Callable[[], float]:
    """A function that answers with the milliseconds of an update of the Nature network with that head."""
    built = experiment.make(ours_dqn.load("atari", TASKS["atari"], f"agent.head={head}"))
    agent, memory, spec = built.algorithm.agent, built.algorithm.memory, built.env.spec
    built.env.close()
    rollout = loop.empty_trajectory(spec, 256)
    pixels = jax.random.randint(jax.random.key(0), rollout.obs.shape, 0, 256).astype(spec.obs_dtype)
    step = rollout.step._replace(obs=pixels, next_obs=pixels, valid=jnp.ones_like(rollout.step.valid))
    experience = jax.jit(memory.add)(memory.init(), rollout._replace(obs=pixels, step=step))
    learner = jax.jit(agent.init)(jax.random.key(0), pixels[0])
    update = jax.jit(loop.updates_of(agent, memory), donate_argnums=(0, 1))
    learner, experience, _ = update(learner, experience, jax.random.key(0), UPDATES)

    def timed() -> float:
        nonlocal learner, experience
        start = time.perf_counter()
        learner, experience, _ = update(learner, experience, jax.random.key(0), UPDATES)
        jax.block_until_ready(learner.updates)
        return 1e3 * (time.perf_counter() - start) / UPDATES

    return timed


def compare(rounds: int) -> tuple[dict, bool]:
    """Milliseconds of an update with each head, by turns, and whether the bars are met."""
    runs = by_turns({head: one_update(head) for head in heads.NAMES}, 8 * rounds)
    medians = {head: statistics.median(found) for head, found in runs.items()}
    # Of neighbours in time, as the machine drifts.
    ratios = {
        head: statistics.median(map(operator.truediv, found, runs["mse"])) for head, found in runs.items()
    }
    figures = ", ".join(f"{head} {medians[head]:.1f} ms (x {ratios[head]:.2f})" for head in medians)
    table = {
        "figures": figures,
        "unit": "ms per update",
        "batch_size": TASKS["atari"]["batch_size"],
        "runs": runs,
    }
    good = all(ratios[head] <= bar for head, bar in AT_MOST.items())
    return table | {"medians": medians, "over_mse": ratios}, good
