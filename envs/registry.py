"""From an environment's name to the environment."""

import dataclasses

from valuelearn.errors import UserError, did_you_mean
from valuelearn.types import FunctionalEnv, HostEnv

_INSIDE = ("minatar", "classic", "grid", "plane", "pong", "probe")  # Kinds that run inside the compiled loop.
_OUTSIDE = ("atari", "mujoco", "gym")
KINDS = (*_INSIDE, *_OUTSIDE)


class UnknownEnvironmentError(UserError):
    """No environment has that name, what it needs is not installed, or no agent here can play it."""


@dataclasses.dataclass(frozen=True)
class AtariOptions:
    """The evaluation protocol of an Atari run; the defaults are Dopamine's (Machado et al., 2018)."""

    sticky_actions: float = 0.25
    noop_max: int = 0
    life_loss_terminates: bool = False
    clip_rewards: bool = True
    max_episode_frames: int = 108_000


def unknown(kind: str, name: str, names: list[str]) -> UnknownEnvironmentError:
    """The error for a name that is not among `names`, with the nearest one that is."""
    some = sorted(names)
    known = f"there are {', '.join(some[:8])}{' and others' if some[8:] else ''}"
    return UnknownEnvironmentError(f"there is no {kind} {name!r}; {did_you_mean(name, some) or known}")


def is_functional(env_id: str) -> bool:
    """Whether the environment runs inside the compiled loop."""
    return env_id.partition("/")[0] in _INSIDE


def check(env_id: str) -> None:
    """Refuse a name that `make` would refuse, without starting anything.

    Raises:
        UnknownEnvironmentError: for an unknown kind or name, or a missing extra.
    """
    kind, _, name = env_id.partition("/")
    # Each kind's package is imported only when asked for: they are slow, and optional.
    match kind:
        case "minatar" | "classic":
            from envs import functional

            functional.gymnax_id(kind, name)
        case "grid":
            from envs import gridworld

            gridworld.named(name)
        case "plane":
            from envs import edge_of_reach

            edge_of_reach.check(name)
        case "pong":
            from envs import pong

            pong.points(name)
        case "probe":
            from envs import probes

            probes.check(name)
        case "atari":
            from envs import atari

            atari.check(name)
        case "gym":
            from envs import gym_host

            gym_host.check(name)
        case "mujoco":
            from envs import gym_host

            gym_host.check_mujoco(name)
        case _:
            raise unknown("kind of environment", kind, list(KINDS))


def make(
    env_id: str,
    *,
    num_envs: int,
    atari: AtariOptions | None = None,
    patience_seconds: float | None = None,
) -> FunctionalEnv | HostEnv:
    """`num_envs` copies of the environment `env_id`.

    Args:
        env_id: `kind/name` as in the package's docstring.
        num_envs: copies stepped together.
        atari: protocol of `atari/` environments; Dopamine's where None.
        patience_seconds: how long one of gymnasium's may not answer before the process ends; for ever where
            None.

    Raises:
        UnknownEnvironmentError: for an unknown kind or name, or a missing extra.
    """
    check(env_id)
    kind, _, name = env_id.partition("/")
    match kind:
        case "atari":
            from envs.atari import AtariEnv

            return AtariEnv(name, num_envs, atari or AtariOptions())
        case "gym" | "mujoco":
            from envs.gym_host import make_gym

            return make_gym(name, num_envs, patience_seconds=patience_seconds)
        case "grid":
            from envs import gridworld

            return gridworld.named(name).make(num_envs)
        case "plane":
            from envs import edge_of_reach

            return edge_of_reach.make(num_envs)
        case "pong":
            from envs import pong

            return pong.make(pong.points(name), num_envs)
        case "probe":
            from envs import probes

            return probes.make(name, num_envs)
    from envs import functional

    return functional.make(kind, name, num_envs)
