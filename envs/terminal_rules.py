"""When episodes end by themselves, told from the next observation.

A model of the dynamics is fitted to what follows what, and hardly ever saw an end; so ends are declared here,
of robots with the ranges that the installed environments have. What is not listed has no rule.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
from gymnasium.envs.registration import load_env_creator

from envs.registry import UnknownEnvironmentError

Rule = Callable[[jax.Array], jax.Array]  # Next observations f32[..., D] -> bool[...].


def _within(x: jax.Array, ends: tuple[float, float]) -> jax.Array:
    return (x > ends[0]) & (x < ends[1])


def _hopper(options: Mapping[str, Any], obs: jax.Array) -> jax.Array:
    states = _within(obs[..., 1:], options["healthy_state_range"]).all(-1)
    height = _within(obs[..., 0], options["healthy_z_range"])
    return states & height & _within(obs[..., 1], options["healthy_angle_range"])


def _walker(options: Mapping[str, Any], obs: jax.Array) -> jax.Array:
    height = _within(obs[..., 0], options["healthy_z_range"])
    return height & _within(obs[..., 1], options["healthy_angle_range"])


def _humanoid(options: Mapping[str, Any], obs: jax.Array) -> jax.Array:
    return _within(obs[..., 0], options["healthy_z_range"])


def _pendulum(options: Mapping[str, Any], obs: jax.Array) -> jax.Array:
    return jnp.abs(obs[..., 1]) <= 0.2


def _always(options: Mapping[str, Any], obs: jax.Array) -> jax.Array:
    return jnp.ones(obs.shape[:-1], bool)


# By name without version: whether an episode goes on.
_GOES_ON: dict[str, Callable[[Mapping[str, Any], jax.Array], jax.Array]] = {
    "HalfCheetah": _always,
    "Hopper": _hopper,
    "Humanoid": _humanoid,
    "InvertedPendulum": _pendulum,
    "Pendulum": _always,
    "Pusher": _always,
    "Reacher": _always,
    "Swimmer": _always,
    "Walker2d": _walker,
}


def _options(name: str) -> dict[str, Any]:
    """What an environment is constructed with where nothing else is asked."""
    spec = gymnasium.spec(name)
    if not isinstance(spec.entry_point, str):  # What is left of versions that gymnasium gave up.
        raise UnknownEnvironmentError(f"{name}: gymnasium makes it no longer; a later version is wanted")
    signature = inspect.signature(load_env_creator(spec.entry_point))
    return {key: parameter.default for key, parameter in signature.parameters.items()} | spec.kwargs


def rule(env_id: str) -> Rule:
    """Whether episodes of `mujoco/...`, `gym/...` or `plane/...` have terminated at an observation.

    Raises:
        UnknownEnvironmentError: where nothing is declared.
    """
    kind, _, name = env_id.partition("/")
    if kind == "plane":
        return lambda obs: ~jnp.isfinite(obs).all(-1)
    goes_on = _GOES_ON.get(name.partition("-")[0]) if kind in ("mujoco", "gym") else None
    if goes_on is None:
        known = f"there are rules for {', '.join(_GOES_ON)}"
        raise UnknownEnvironmentError(f"{env_id}: no rule says when its episodes end; {known}")
    options = _options(name)
    # An observation that is not a number ends an episode, too.
    return lambda obs: ~(goes_on(options, obs) & jnp.isfinite(obs).all(-1))
