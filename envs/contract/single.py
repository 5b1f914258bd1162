"""One gymnasium environment, played with random actions: what it gives, and whether it gives it again."""

from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from envs.contract.findings import (
    ENDINGS,
    BrokenError,
    Finding,
    Findings,
    Guarantee,
    first_difference,
    of_a_reset,
    same,
    shown,
)

Make = Callable[[], gymnasium.Env]

ANSWERS = Guarantee(
    "reset and step answer as gymnasium's interface says",
    "return (observation, info) from reset and (observation, reward, terminated, truncated, info) from step",
)
OBSERVATIONS = Guarantee(
    "observations are finite and within their space",
    "return arrays of the space's shape and dtype within its bounds, or declare the space as it is",
)
KEPT = Guarantee(
    "observations stay as they were given",
    "return a copy of whatever step goes on to change (obs.copy())",
)
REWARDS = Guarantee(
    "rewards are finite numbers", "return float(reward), and find what makes it infinite or not a number"
)
FLAGS = Guarantee(
    "terminated and truncated are booleans", "return bool(terminated), bool(truncated), each by itself"
)
SEEDED = Guarantee(
    "the seed decides all that happens",
    "call super().reset(seed=seed), draw from self.np_random alone, and set back everything in reset",
)
ENDS = Guarantee(
    "every episode ends", "register it with max_episode_steps, or return truncated=True after so many steps"
)
FINAL = Guarantee(
    "an episode's last observation is its own",
    "return the observation that the last action led to; leave the reset to whoever calls reset",
)
ALL = (ANSWERS, OBSERVATIONS, KEPT, REWARDS, FLAGS, SEEDED, ENDS, FINAL)
_NAMES = ("the observation", "the reward", "terminated", "truncated")


class _Played(NamedTuple):
    """What an environment gave: a row for every step, and one for every reset."""

    rows: list[
        tuple[Any, ...]
    ]  # Observation, reward, terminated, truncated; nothing but the first of resets.
    lasts: list[int]  # Rows at which an episode ended.
    firsts: list[int]  # Rows of resets.


def of_single(make: Make, seed: int, steps: int) -> list[Finding]:
    """What holds of an environment in so many steps, each episode but the first reset without a seed."""
    found = Findings(*ALL)
    try:
        env = make()
        try:
            played = _play(env, seed, steps, found)
            _look_at_ends(env, played, steps, found)
            # In the same copy, after what it has been through, and in another.
            again = _play(env, seed, steps, found)
        finally:
            env.close()
        other = make()
        try:
            # Whoever draws from numpy's global numbers draws others by now.
            elsewhere = _play(other, seed, steps, found)
        finally:
            other.close()
    except BrokenError:
        return found.all_but_unplayed()
    if difference := first_difference(played.rows, again.rows, _NAMES):
        found.against(SEEDED, f"reset again with seed {seed}, {difference}")
    if difference := first_difference(played.rows, elsewhere.rows, _NAMES):
        found.against(SEEDED, f"made again and reset with seed {seed}, {difference}")
    return found.all()


def _play(env: gymnasium.Env, seed: int, steps: int, found: Findings) -> _Played:
    """Random actions from the seed; what is found at a step is told by its number, counted from 0."""
    actions = env.action_space
    actions.seed(seed)
    rows: list[tuple[Any, ...]] = []
    lasts: list[int] = []
    firsts = [0]
    obs = _reset(env, seed, found)
    given, kept = obs, np.array(obs)
    rows.append((kept, 0.0, False, False))
    for index in range(steps):
        try:
            answer = env.step(actions.sample())
        except Exception as error:
            raise found.broken(ANSWERS, f"step {index}", error) from error
        if not isinstance(answer, tuple) or len(answer) != 5:
            found.against(ANSWERS, f"step gives {_kind(answer)}")
            raise BrokenError
        obs, reward, terminated, truncated, info = answer
        if not isinstance(info, dict):
            found.against(ANSWERS, f"the info of step is of type {type(info).__name__}; a dict is wanted")
        if not same(given, kept):
            found.against(KEPT, f"the observation before step {index} is changed by it")
        _look_at(env, obs, f"step {index}", found)
        _look_at_reward(reward, index, found)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                found.against(FLAGS, f"{name} of step {index} is {flag!r} ({type(flag).__name__})")
        given, kept = obs, np.array(obs)
        rows.append((kept, reward, terminated, truncated))
        if terminated or truncated:
            lasts.append(len(rows) - 1)
            firsts.append(len(rows))
            given = _reset(env, None, found)
            kept = np.array(given)
            rows.append((kept, 0.0, False, False))
    return _Played(rows, lasts, firsts)


def _reset(env: gymnasium.Env, seed: int | None, found: Findings) -> Any:
    try:
        answer = env.reset(seed=seed)
    except Exception as error:
        raise found.broken(ANSWERS, "reset", error) from error
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
        found.against(ANSWERS, f"reset gives {_kind(answer)}")
        raise BrokenError
    _look_at(env, answer[0], "reset", found)
    return answer[0]


def _kind(answer: Any) -> str:
    if isinstance(answer, tuple):
        return f"({', '.join(type(part).__name__ for part in answer)})"
    return f"a {type(answer).__name__}"


def _look_at(env: gymnasium.Env, obs: Any, where: str, found: Findings) -> None:
    space = env.observation_space
    if not isinstance(space, gymnasium.spaces.Box):
        if not space.contains(obs):
            found.against(OBSERVATIONS, f"that of {where} does not lie within {space}")
        return
    array = np.asarray(obs)
    if not isinstance(obs, np.ndarray):
        found.against(OBSERVATIONS, f"that of {where} is a {type(obs).__name__}; an array is wanted")
    elif array.shape != space.shape or array.dtype != space.dtype:
        held = f"{array.dtype}{list(array.shape)}"
        found.against(
            OBSERVATIONS, f"that of {where} is {held}; {space.dtype}{list(space.shape)} is declared"
        )
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        found.against(OBSERVATIONS, f"that of {where} is {shown(array)}")
    elif not ((array >= space.low) & (array <= space.high)).all():
        place = np.argwhere((array < space.low) | (array > space.high))[0]
        low, high = space.low[tuple(place)], space.high[tuple(place)]
        held = f"{array[tuple(place)]} at {place.tolist()}"
        found.against(OBSERVATIONS, f"that of {where} is {held}, outside [{low}, {high}]")


def _look_at_reward(reward: Any, index: int, found: Findings) -> None:
    if not isinstance(reward, Real | np.number | np.bool_):
        held = f"{type(reward).__name__} {shown(reward)}" if np.ndim(reward) else repr(reward)
        found.against(REWARDS, f"that of step {index} is {held}; one number is wanted")
    elif not np.isfinite(float(reward)):
        found.against(REWARDS, f"that of step {index} is {reward}")


def _look_at_ends(env: gymnasium.Env, played: _Played, steps: int, found: Findings) -> None:
    limit = env.spec.max_episode_steps if env.spec else None
    count = len(played.lasts)
    if not count and limit is None:
        found.against(ENDS, f"no episode ended in {steps:,} steps, and it has no time limit")
    elif not count:
        found.unseen(ENDS, f"none ended in {steps:,} steps; its time limit is {limit:,}")
    if count < ENDINGS:
        found.unseen(FINAL, f"{count} episodes ended, {ENDINGS} are wanted; try more --steps")
        return
    obs = [np.asarray(row[0]) for row in played.rows]
    if len({x.shape for x in obs}) > 1 or obs[0].dtype.kind not in "biuf":
        found.unseen(FINAL, "observations cannot be compared")
        return
    finals, before, firsts = (
        np.stack([obs[index] for index in indices])
        for indices in (played.lasts, [last - 1 for last in played.lasts], played.firsts)
    )
    if of_a_reset(finals, before, firsts):
        found.against(FINAL, f"all {count} look like the first observation of an episode")
