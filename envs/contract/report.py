"""What `valuelearn check-env` says of an environment."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import gymnasium

from envs import gym_host, registry
from envs.contract.findings import Finding
from envs.contract.single import of_single
from envs.contract.steps import of_steps
from envs.contract.vector import mode_of, of_vector
from valuelearn.types import EnvSpec, FunctionalEnv

_COPIES = 2
Say = Callable[[str], None]
Part = tuple[str, Callable[[], list[Finding]]]


def check(env_id: str, seed: int, steps: int, say: Say) -> bool:
    """Play an environment and say which guarantees hold; whether nothing was found against any.

    Args:
        env_id: a name of ours, such as minatar/breakout, or any of gymnasium's, with or without gym/.
        seed: of random actions, and of all else that is random.
        steps: how long each part is played, of all copies together.
        say: takes a line.

    Raises:
        UnknownEnvironmentError: where there is none of that name, or no agent here can play it.
    """
    ours = env_id.partition("/")[0] in registry.KINDS
    name = env_id if ours else f"gym/{env_id}"
    registry.check(name)
    failed = unseen = 0
    for title, examine in _parts(name, seed, steps):
        say(title)
        for finding in examine():
            failed, unseen = failed + (finding.against is not None), unseen + (finding.unseen is not None)
            for line in _lines(finding):
                say(f"  {line}")
    count = {0: "nothing was found", 1: "1 thing was found"}.get(failed, f"{failed} things were found")
    more = f", {unseen} could not be looked at" if unseen else ""
    say(f"{name}: {count} against it{more}")
    return not failed


def _lines(finding: Finding) -> Iterator[str]:
    name = finding.guarantee.name
    if finding.against is not None:
        yield f"FAILS   {name}: {finding.against}"
        yield f"        mend it: {finding.guarantee.fix}"
    else:
        yield f"unseen  {name}: {finding.unseen}" if finding.unseen else f"holds   {name}"


def _parts(name: str, seed: int, steps: int) -> Iterator[Part]:
    """What is looked at, one after the other, each with a title."""
    kind, _, own = name.partition("/")
    if kind in ("gym", "mujoco"):
        gym_host.quiet_mujoco(own)
        registered = gym_host.registered(own)
        if registered.entry_point is not None:
            yield f"one copy of {own}", partial(of_single, partial(_single, own), seed, steps)
        if registered.vector_entry_point is not None:
            make = partial(_vector, own)
            vector = make()
            mode = mode_of(vector)
            vector.close()
            title = f"its own vector environment, of autoreset mode {mode.name if mode else 'unknown'}"
            yield title, partial(of_vector, make, seed, steps // _COPIES)
    env = registry.make(name, num_envs=_COPIES)
    spec = env.spec
    if isinstance(env, FunctionalEnv):
        where = "inside the compiled loop, each copy reset within the step that ends its episode"
    else:
        where = "on the host"
        env.close()
    title = f"{name} as agents here play it, {where}: {_shapes(spec)}"
    yield title, partial(of_steps, partial(registry.make, name, num_envs=_COPIES), seed, steps // _COPIES)


def _single(name: str) -> gymnasium.Env:
    with _making():
        return gymnasium.make(name)


def _vector(name: str) -> gymnasium.vector.VectorEnv:
    with _making():
        return gymnasium.make_vec(name, num_envs=_COPIES, vectorization_mode="vector_entry_point")


@contextlib.contextmanager
def _making() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Whatever an environment of others raises.
        raise registry.UnknownEnvironmentError(f"gymnasium cannot make it: {error}") from error


def _shapes(spec: EnvSpec) -> str:
    actions = f"{spec.num_actions} actions" if spec.num_actions else f"actions of {spec.action_size} numbers"
    return f"observations {spec.obs_dtype}{list(spec.obs_shape)}, {actions}"
