"""What one update of an agent takes: its time, in a compiled loop of some, and what it counts."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents import experiment
from agents.experiment_config import ExperimentConfig
from valuelearn import loop
from valuelearn.types import Agent, FunctionalEnv, Memory

_STEPS = 256  # Of experience, of each environment.


class _Ready(NamedTuple):
    """An agent with something to learn from."""

    agent: Agent
    memory: Memory
    learner: Any
    experience: Any


class Count(NamedTuple):
    """What a compiler counts of one update."""

    flops: float  # As it is written, before anything is fused or left out.
    bytes: float  # Read and written by what it was compiled to, whether from memory or a cache.


def _ready(cfg: ExperimentConfig) -> _Ready:
    """The agent of a config, with random experience."""
    built = experiment.make(cfg)
    agent, memory, spec = built.algorithm.agent, built.algorithm.memory, built.env.spec
    if not isinstance(built.env, FunctionalEnv):
        built.env.close()
    rollout = loop.empty_trajectory(spec, _STEPS)
    # Some bytes and flags, or numbers of the size that observations have.
    numbers = 100 * jnp.abs(jax.random.normal(jax.random.key(0), rollout.obs.shape))
    obs = numbers / 100 if jnp.issubdtype(spec.obs_dtype, jnp.floating) else numbers.astype(spec.obs_dtype)
    step = rollout.step._replace(obs=obs, next_obs=obs, valid=jnp.ones_like(rollout.step.valid))
    experience = jax.jit(memory.add)(memory.init(), rollout._replace(obs=obs, step=step))
    learner = jax.jit(agent.init)(jax.random.key(0), obs[0])
    return _Ready(agent, memory, learner, experience)


def counted(cfg: ExperimentConfig) -> Count:
    """The operations and bytes of an update, from a batch on: of a replay all would count as read."""
    agent, memory, learner, experience = _ready(cfg)
    lowered = jax.jit(agent.update).lower(learner, jax.jit(memory.sample)(experience, jax.random.key(0)))
    written, compiled = lowered.cost_analysis(), lowered.compile().cost_analysis()
    assert written is not None and compiled is not None
    return Count(written["flops"], compiled["bytes accessed"])


def timed(cfg: ExperimentConfig, updates: int) -> Callable[[], float]:
    """A function that answers with the milliseconds of an update, from random experience."""
    agent, memory, learner, experience = _ready(cfg)
    update = jax.jit(loop.updates_of(agent, memory), donate_argnums=(0, 1))
    learner, experience, *_ = update(learner, experience, jax.random.key(0), updates)

    def once() -> float:
        nonlocal learner, experience
        start = time.perf_counter()
        learner, experience, *_ = update(learner, experience, jax.random.key(0), updates)
        jax.block_until_ready(learner.updates)
        return 1e3 * (time.perf_counter() - start) / updates

    return once
