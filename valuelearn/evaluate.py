"""Playing whole episodes with a trained agent."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.policies import epsilon_greedy
from valuelearn.types import Agent, FunctionalEnv, HostEnv, LearnerState


def _policy(agent: Agent, epsilon: float, num_actions: int) -> Callable:
    def act(learner: LearnerState, obs: jax.Array, key: jax.Array) -> jax.Array:
        return epsilon_greedy(agent.greedy(learner, obs), epsilon, num_actions, key)

    return act


def functional_returns(
    agent: Agent, env: FunctionalEnv, learner: LearnerState, epsilon: float, key: jax.Array
) -> np.ndarray:
    """Undiscounted returns f32[E] of the first episode of each copy."""
    policy = _policy(agent, epsilon, env.spec.num_actions)

    def step(carry: tuple) -> tuple:
        state, obs, key, finished, returns = carry
        key, act_key, env_key = jax.random.split(key, 3)
        state, timestep = env.step(state, policy(learner, obs, act_key), env_key)
        returns = jnp.where(timestep.last & ~finished, timestep.episode_return, returns)
        return state, timestep.obs, key, finished | timestep.last, returns

    @jax.jit
    def play(key: jax.Array) -> jax.Array:
        key, env_key = jax.random.split(key)
        start = (*env.init(env_key), key, jnp.zeros(env.spec.num_envs, bool), jnp.zeros(env.spec.num_envs))
        return jax.lax.while_loop(lambda carry: ~carry[3].all(), step, start)[4]

    return np.asarray(play(key))


def host_returns(
    agent: Agent,
    env: HostEnv,
    learner: LearnerState,
    epsilon: float,
    seed: int,
    episodes: int,
    on_step: Callable[[Any], None] = lambda env: None,
) -> np.ndarray:
    """Undiscounted returns f32[episodes].

    Every copy plays the same number of episodes (the first ones one more, where they do not divide),
    so that short episodes are not counted more often. `on_step` sees the environment after each step.
    """
    act = jax.jit(_policy(agent, epsilon, env.spec.num_actions))
    quota = np.full(env.spec.num_envs, episodes // env.spec.num_envs)
    quota[: episodes % env.spec.num_envs] += 1
    key = jax.random.key(seed)
    obs = env.reset(seed)
    returns: list[float] = []
    while quota.any():
        key, act_key = jax.random.split(key)
        step = env.step(np.asarray(act(learner, obs, act_key)))
        on_step(env)
        counted = step.last & (quota > 0)
        returns.extend(step.episode_return[counted])
        quota -= counted
        obs = step.obs
    return np.array(returns, np.float32)
