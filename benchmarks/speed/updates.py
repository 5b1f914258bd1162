"""The time that one update of an agent takes, in a compiled loop of some."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from agents import experiment
from agents.experiment import ExperimentConfig
from valuelearn import loop
from valuelearn.types import FunctionalEnv

_STEPS = 256  # Of experience, of each environment.


def timed(cfg: ExperimentConfig, updates: int) -> Callable[[], float]:
    """A function that answers with the milliseconds of an update, from random experience."""
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
    update = jax.jit(loop.updates_of(agent, memory), donate_argnums=(0, 1))
    learner, experience, *_ = update(learner, experience, jax.random.key(0), updates)

    def once() -> float:
        nonlocal learner, experience
        start = time.perf_counter()
        learner, experience, *_ = update(learner, experience, jax.random.key(0), updates)
        jax.block_until_ready(learner.updates)
        return 1e3 * (time.perf_counter() - start) / updates

    return once
