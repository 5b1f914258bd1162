"""gymnax environments as pure functions, many copies at once."""

import importlib.util
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.registry import UnknownEnvironmentError, unknown
from valuelearn.types import EnvSpec, FunctionalEnv, Timestep

_IDS = {
    "minatar": {
        "asterix": "Asterix-MinAtar",
        "breakout": "Breakout-MinAtar",
        "freeway": "Freeway-MinAtar",
        "seaquest": "Seaquest-MinAtar",
        "space_invaders": "SpaceInvaders-MinAtar",
    },
    "classic": {
        "acrobot": "Acrobot-v1",
        "cartpole": "CartPole-v1",
        "mountain_car": "MountainCar-v0",
        "pendulum": "Pendulum-v1",
    },
}


class _State(NamedTuple):
    env: Any  # The copies' own states.
    episode_return: jax.Array  # f32[E]


def gymnax_id(kind: str, name: str) -> str:
    """gymnax's own name for the environment.

    Raises:
        UnknownEnvironmentError: for an unknown name, or where gymnax is not installed.
    """
    if name not in _IDS[kind]:
        raise unknown(f"{kind} environment", name, list(_IDS[kind]))
    if importlib.util.find_spec("gymnax") is None:
        raise UnknownEnvironmentError("it needs gymnax: pip install 'valuelearn[fast]'")
    return _IDS[kind][name]


def make(kind: str, name: str, num_envs: int) -> FunctionalEnv:
    """`num_envs` copies of a gymnax environment; MinAtar observations are bool[10, 10, C]."""
    import gymnax  # Slow to import, and optional.

    env, params = gymnax.make(gymnax_id(kind, name))
    dtype = np.dtype(bool if kind == "minatar" else np.float32)
    space, actions = env.observation_space(params), env.action_space(params)
    continuous = isinstance(actions, gymnax.environments.spaces.Box)

    def init(key: jax.Array) -> tuple[_State, jax.Array]:
        obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, num_envs), params)
        return _State(state, jnp.zeros(num_envs)), obs.astype(dtype)

    def step(state: _State, action: jax.Array, key: jax.Array) -> tuple[_State, Timestep]:
        keys = jax.random.split(key, num_envs)
        if continuous:  # Ours lie within [-1, 1].
            action = (actions.low * (1 - action) + actions.high * (1 + action)) / 2
        obs, env_state, reward, terminated, truncated, info = jax.vmap(env.step, (0, 0, 0, None))(
            keys, state.env, action, params
        )
        last = terminated | truncated
        episode_return = state.episode_return + reward
        timestep = Timestep(
            next_obs=info["final_observation"].astype(dtype),
            obs=obs.astype(dtype),
            reward=reward.astype(jnp.float32),
            discount=1.0 - terminated.astype(jnp.float32),
            last=last,
            valid=jnp.ones(num_envs, bool),
            episode_return=episode_return,
        )
        return _State(env_state, jnp.where(last, 0.0, episode_return)), timestep

    spec = EnvSpec(
        tuple(space.shape),
        dtype,
        num_actions=0 if continuous else actions.n,
        num_envs=num_envs,
        action_size=actions.shape[0] if continuous else 0,
    )
    return FunctionalEnv(spec, init, step)
