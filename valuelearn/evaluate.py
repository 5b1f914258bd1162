"""Playing whole episodes with a trained agent."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.policies import epsilon_greedy
from valuelearn.types import Agent, Array, EnvSpec, FunctionalEnv, HostEnv, LearnerState


class Returns(NamedTuple):
    """What whole episodes brought."""

    undiscounted: np.ndarray  # f32[episodes] as the environment counts, whatever is learnt from.
    discounted: np.ndarray  # f32[episodes], [episodes, m] of the rewards that are learnt from.
    stock: np.ndarray | None  # f32[episodes, K] carried at the beginning of each.


class Policy(NamedTuple):
    """How an agent is played."""

    epsilon: float = 0.0  # Share of uniform actions.
    stochastic: bool = False  # Whether others are drawn as in training, not the best.


@functools.lru_cache  # The same function again is not compiled again.
def acting(
    agent: Agent, policy: Policy, spec: EnvSpec
) -> Callable[[LearnerState, Array, jax.Array], jax.Array]:
    """Actions [E], [E, D] of learner, observations and key, compiled."""

    def act(learner: LearnerState, obs: Array, key: jax.Array) -> jax.Array:
        act_key, key = jax.random.split(key)
        # Of training, what comes after any schedule.
        trained = jnp.int32(np.iinfo(np.int32).max)
        chosen = (
            agent.act(learner, obs, act_key, trained) if policy.stochastic else agent.greedy(learner, obs)
        )
        return epsilon_greedy(chosen, policy.epsilon, spec, key)

    return jax.jit(act)


@functools.lru_cache
def stepping(
    agent: Agent, policy: Policy, spec: EnvSpec
) -> Callable[[LearnerState, Array, jax.Array, int], jax.Array]:
    """Actions of learner, observations, an episode's key and the number of the step: one call for each."""
    act = acting(agent, policy, spec)
    return jax.jit(lambda learner, obs, key, step: act(learner, obs, jax.random.fold_in(key, step)))


def functional_returns(
    agent: Agent,
    env: FunctionalEnv,
    learner: LearnerState,
    policy: Policy,
    key: jax.Array,
    gamma: float = 1.0,
) -> Returns:
    """Returns of the first episode of each copy."""
    return Returns(*jax.tree.map(np.asarray, _playing(agent, env, policy, gamma)(learner, key)))


def first_obs(env: FunctionalEnv, key: jax.Array) -> Array:
    """Observations [E, ...] with which the episodes of `functional_returns` begin, for the same key."""
    return _begun(env, key)[-1]


def _begun(env: FunctionalEnv, key: jax.Array) -> tuple[jax.Array, Any, Array]:
    """The key of what is to come, and the environment's first state and observations."""
    key, env_key = jax.random.split(key)
    return key, *env.init(env_key)


@functools.lru_cache
def _playing(
    agent: Agent, env: FunctionalEnv, policy: Policy, gamma: float
) -> Callable[[LearnerState, jax.Array], tuple]:
    """What `Returns` holds, of learner and key, compiled."""
    act, spec = acting(agent, policy, env.spec), env.spec

    @jax.jit
    def play(learner: LearnerState, key: jax.Array) -> tuple:
        def step(carry: tuple) -> tuple:
            state, obs, key, finished, factor, undiscounted, discounted = carry
            key, act_key, env_key = jax.random.split(key, 3)
            state, timestep = env.step(state, act(learner, obs, act_key), env_key)
            undiscounted = jnp.where(timestep.last & ~finished, timestep.episode_return, undiscounted)
            over = finished.reshape(-1, *[1] * (timestep.reward.ndim - 1))
            discounted = jnp.where(over, discounted, discounted + factor * timestep.reward)
            finished = finished | timestep.last
            return state, timestep.obs, key, finished, factor * gamma, undiscounted, discounted

        key, state, obs = _begun(env, key)
        zeros = jnp.zeros(spec.num_envs)
        nothing = jnp.zeros((spec.num_envs, spec.reward_size)) if spec.reward_size else zeros
        start = (state, obs, key, zeros.astype(bool), jnp.float32(1.0), zeros, nothing)
        *_, undiscounted, discounted = jax.lax.while_loop(lambda carry: ~carry[3].all(), step, start)
        return undiscounted, discounted, obs.stock if spec.stock_size else None

    return play


def host_returns(
    agent: Agent,
    env: HostEnv,
    learner: LearnerState,
    policy: Policy,
    seed: int,
    episodes: int,
    gamma: float = 1.0,
    on_step: Callable[[Any], None] = lambda env: None,
) -> Returns:
    """Returns of whole episodes.

    Every copy plays the same number of episodes (the first ones one more, where they do not divide),
    so that short episodes are not counted more often. `on_step` sees the environment after each step.
    """
    spec = env.spec
    act = stepping(agent, policy, spec)
    quota = np.full(spec.num_envs, episodes // spec.num_envs)
    quota[: episodes % spec.num_envs] += 1
    key = jax.random.key(seed)
    obs = env.reset(seed)
    carried = obs.stock if spec.stock_size else np.zeros((spec.num_envs, 0), np.float32)
    factor = np.ones(spec.num_envs)
    discounted = np.zeros((spec.num_envs, spec.reward_size) if spec.reward_size else spec.num_envs)
    found: list[tuple] = []
    index = 0
    while quota.any():
        step = env.step(np.asarray(act(learner, obs, key, index)))
        index += 1
        on_step(env)
        weight = np.where(step.valid, factor, 0.0)
        discounted = discounted + weight.reshape(-1, *[1] * (discounted.ndim - 1)) * step.reward
        factor = np.where(step.valid, factor * gamma, factor)
        counted = step.last & (quota > 0)
        found.extend(zip(step.episode_return[counted], discounted[counted], carried[counted], strict=True))
        quota -= counted
        obs = step.obs
        factor[step.last], discounted[step.last] = 1.0, 0.0
        if spec.stock_size:
            carried = np.where(step.last[:, None], obs.stock, carried)
    columns = [np.asarray(column, np.float32) for column in zip(*found, strict=True)]
    return Returns(columns[0], columns[1], columns[2] if spec.stock_size else None)
