"""A plane with a distant goal, in which short rollouts read values where nothing ever trains.

Rollouts begin in a square around the origin and move by at most 1 along each axis. After k steps they are
within the square of half-width 2 + k; those beyond 2 + (k - 1) got there with their last step, as every
rollout of k steps does that gets there at all: nothing is learnt of such states, and yet they are
bootstrapped from. That is the edge of reach of rollouts of k steps (Sims et al., 2024), here known exactly.

The published figure shows such an environment without its numbers. Starts, moves and rollout length are
those described; reward, discount and learning rate are ours, chosen so that the phenomenon shows in a minute.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import simulated
from envs.registry import unknown
from envs.simulated import Outcome
from valuelearn.types import EnvSpec, FunctionalEnv, Timestep

NAMES = ("edge_of_reach",)
HORIZON = 30  # Steps of an episode that is played to its end.
GOAL, WIDTH = 9.0, 5.0  # The reward is a bump of that width around (GOAL, GOAL).
START = 2.0  # Half-width of the square of first states.
Patch = Literal["none", "edge", "random"]
_MOST_STEPS = 64  # From nowhere within an episode's reach does the way to the goal take longer.


def check(name: str) -> None:
    """Refuse a name that is not one of `NAMES`.

    Raises:
        UnknownEnvironmentError: naming the nearest one that is.
    """
    if name not in NAMES:
        raise unknown("environment in the plane", name, list(NAMES))


def make(num_envs: int, limit: int = HORIZON) -> FunctionalEnv:
    """`num_envs` copies, whose episodes are truncated after `limit` steps."""
    spec = EnvSpec((2,), np.dtype(np.float32), num_actions=0, num_envs=num_envs, action_size=2)
    return simulated.make(spec, lambda _, *rest: starts(*rest), lambda _, *rest: dynamics(*rest), limit)


def starts(key: jax.Array, count: int) -> jax.Array:
    """First states f32[count, 2]."""
    return jax.random.uniform(key, (count, 2), minval=-START, maxval=START)


def reward(obs: jax.Array) -> jax.Array:
    """What is paid for leaving states [..., 2], from 0 to 1."""
    return jnp.exp(-jnp.square(obs - GOAL).sum(-1) / (2 * WIDTH**2))


def dynamics(obs: jax.Array, action: jax.Array, key: jax.Array) -> Outcome:
    """The action is the move; nothing is random, and nothing ends."""
    return Outcome(obs + action, reward(obs), jnp.zeros(len(obs), bool))


def at_edge(obs: jax.Array, rollout_steps: int) -> jax.Array:
    """Whether rollouts of so many steps reach states [..., 2] with their last step alone."""
    return jnp.abs(obs).max(-1) > START + rollout_steps - 1


def optimal_value(obs: jax.Array, gamma: float) -> jax.Array:
    """The discounted return of the best policy from states [..., 2], without a time limit.

    Along each axis by itself the best move is the longest towards the goal that does not pass it.
    """
    steps = jnp.arange(_MOST_STEPS).reshape(-1, *[1] * obs.ndim)
    along = obs + jnp.clip(GOAL - obs, -steps, steps)
    sums = (gamma ** steps[..., 0] * reward(along)).sum(0)
    return sums + gamma**_MOST_STEPS / (1 - gamma)


def optimal_return(obs: jax.Array) -> jax.Array:
    """The undiscounted return of the best policy in a whole episode from states [..., 2]."""
    steps = jnp.arange(HORIZON).reshape(-1, *[1] * obs.ndim)
    return reward(obs + jnp.clip(GOAL - obs, -steps, steps)).sum(0)


class _Told(NamedTuple):
    """The state of an environment that tells values."""

    inner: Any
    share: jax.Array  # f32[] of the states of the rollouts before that lay at the edge.


def patched(env: FunctionalEnv, rollout_steps: int, gamma: float, which: Patch) -> FunctionalEnv:
    """An environment that tells some states' true values, in place of what would be bootstrapped there.

    At such a state the reward brings its optimal value along, and the discount is 0; the rollout goes on.
    `edge` tells those of the edge of reach. `random` tells any, after any step, in expectation as many as
    were there in the rollouts before.
    """

    def init(key: jax.Array) -> tuple[_Told, jax.Array]:
        inner, obs = env.init(key)
        return _Told(inner, jnp.float32(0)), obs

    def step(state: _Told, action: jax.Array, key: jax.Array) -> tuple[_Told, Timestep]:
        env_key, choice_key = jax.random.split(key)
        inner, timestep = env.step(state.inner, action, env_key)
        edge = at_edge(timestep.next_obs, rollout_steps)
        told = edge if which == "edge" else jax.random.uniform(choice_key, edge.shape) < state.share
        # All rollouts end together, and only their last states lie at the edge.
        share = jnp.where(timestep.last.all(), edge.mean() / rollout_steps, state.share)
        more = gamma * optimal_value(timestep.next_obs, gamma)
        return _Told(inner, share), timestep._replace(
            reward=timestep.reward + jnp.where(told, more, 0.0),
            discount=jnp.where(told, 0.0, timestep.discount),
        )

    return env if which == "none" else FunctionalEnv(env.spec, init, step)
