"""gymnasium's vector environments: the autoreset mode that they declare, and what they do at an end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

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

Make = Callable[[], VectorEnv]

DECLARED = Guarantee(
    "the autoreset mode is declared",
    'set metadata["autoreset_mode"] to gymnasium.vector.AutoresetMode.NEXT_STEP, SAME_STEP or DISABLED',
)
ANSWERS = Guarantee(
    "reset and step answer", "find what raises; gymnasium.vector.VectorEnv says what they are given"
)
SHAPES = Guarantee(
    "arrays have a row for every copy",
    "return observations [num_envs, ...] of the single space's dtype, rewards [num_envs] of floats, and "
    "booleans [num_envs] for terminated and for truncated",
)
FINITE = Guarantee("observations and rewards are finite", "find what makes them infinite or not a number")
KEPT = Guarantee("observations stay as they were given", "return copies of what step goes on to change")
SEEDED = Guarantee(
    "the seed decides all that happens", "give every copy its own generator, made from the seed in reset"
)
FINAL = Guarantee(
    "an episode's last observation is the true one",
    'in mode SAME_STEP give it as info["final_obs"], in the others as the observation of the step that ends',
)
RESETS = Guarantee(
    "copies are reset when the mode says so",
    "in mode NEXT_STEP the step after an end only resets: reward 0, neither terminated nor truncated; in "
    "mode DISABLED only reset(options={'reset_mask': ...}) resets",
)
ALL = (DECLARED, ANSWERS, SHAPES, FINITE, KEPT, SEEDED, FINAL, RESETS)
_NAMES = ("the observation", "the reward", "terminated", "truncated")


class _Ends(NamedTuple):
    """What copies showed around the ends of their episodes, a row for each."""

    before: list[np.ndarray]  # The observation on which the last action was chosen.
    finals: list[np.ndarray]  # What is given as the last one.
    firsts: list[np.ndarray]  # What is given as the first one of what follows, and those of the first reset.


def mode_of(env: VectorEnv) -> AutoresetMode | None:
    """The autoreset mode that a vector environment declares; None where it declares none."""
    try:
        return AutoresetMode(env.metadata.get("autoreset_mode"))
    except ValueError:
        return None


def of_vector(make: Make, seed: int, steps: int) -> list[Finding]:
    """What holds of a vector environment in so many steps of all its copies."""
    found = Findings(*ALL)
    rows = []
    for number in range(2):
        env = make()
        try:
            mode = mode_of(env)
            if mode is None:
                found.against(DECLARED, f"it is {env.metadata.get('autoreset_mode')!r}")
                for guarantee in ALL[1:]:
                    found.unseen(guarantee, "it depends on the mode")
                return found.all()
            played, ends = _play(env, mode, seed, steps, found)
        except BrokenError:
            return found.all_but_unplayed()
        finally:
            env.close()
        rows.append(played)
        if number == 0:
            _look_at_ends(ends, mode, found)
    if difference := first_difference(rows[0], rows[1], _NAMES):
        found.against(SEEDED, f"made again and reset with seed {seed}, {difference}")
    return found.all()


def _play(
    env: VectorEnv, mode: AutoresetMode, seed: int, steps: int, found: Findings
) -> tuple[list[tuple[Any, ...]], _Ends]:
    env.action_space.seed(seed)
    obs, _ = _answer(found, "reset", env.reset, seed=seed)
    ends = _Ends([], [], [*np.array(obs)])
    rows: list[tuple[Any, ...]] = [(np.array(obs), 0.0, False, False)]
    resetting = np.zeros(env.num_envs, bool)
    for index in range(steps):
        kept = np.array(obs)
        given = obs
        obs, reward, terminated, truncated, info = _answer(
            found, f"step {index}", env.step, env.action_space.sample()
        )
        # One that gives its own array every time (`copy=False` of gymnasium's) is copied by whoever reads it.
        if given is not obs and not same(given, kept):
            found.against(KEPT, f"the observations before step {index} are changed by it")
        _look_at(env, index, obs, reward, terminated, truncated, found)
        last = np.asarray(terminated, bool) | np.asarray(truncated, bool)
        if mode is AutoresetMode.NEXT_STEP:
            _look_at_resets(index, resetting, np.asarray(reward), last, found)
            ends.firsts.extend(np.array(obs)[resetting])
            last = last & ~resetting
            resetting = last
        finals = np.array(obs)
        if last.any() and mode is AutoresetMode.SAME_STEP:
            finals = _finals(index, info, finals, last, found)
            ends.firsts.extend(np.array(obs)[last])
        ends.before.extend(kept[last])
        ends.finals.extend(finals[last])
        rows.append((np.array(obs), reward, terminated, truncated))
        if last.any() and mode is AutoresetMode.DISABLED:
            obs, _ = _answer(found, "reset", env.reset, options={"reset_mask": last})
            ends.firsts.extend(np.array(obs)[last])
    return rows, ends


def _answer(found: Findings, where: str, asked: Callable, *arguments: Any, **named: Any) -> tuple:
    try:
        return asked(*arguments, **named)
    except Exception as error:
        raise found.broken(ANSWERS, where, error) from error


def _look_at(
    env: VectorEnv, index: int, obs: Any, reward: Any, terminated: Any, truncated: Any, found: Findings
) -> None:
    space = env.single_observation_space
    assert isinstance(space, gymnasium.spaces.Box)
    for name, array, shape, kinds in (
        ("observations", obs, (env.num_envs, *space.shape), np.dtype(space.dtype).kind),
        ("rewards", reward, (env.num_envs,), "fiu"),
        ("terminated", terminated, (env.num_envs,), "b"),
        ("truncated", truncated, (env.num_envs,), "b"),
    ):
        x = np.asarray(array)
        if x.shape != shape or x.dtype.kind not in kinds:
            wanted = {"b": "bool", "fiu": "float"}.get(kinds, str(space.dtype))
            found.against(
                SHAPES, f"{name} of step {index} are {x.dtype}{list(x.shape)}, not {wanted}{list(shape)}"
            )
        elif x.dtype.kind == "f" and not np.isfinite(x).all():
            found.against(FINITE, f"{name} of step {index} are {shown(x)}")


def _look_at_resets(
    index: int, resetting: np.ndarray, reward: np.ndarray, last: np.ndarray, found: Findings
) -> None:
    """Of the copies that have nothing to do in this step but to reset themselves."""
    if (reward[resetting] != 0).any() or last[resetting].any():
        what = "ends an episode" if last[resetting].any() else f"pays {shown(reward[resetting])}"
        found.against(RESETS, f"step {index}, which follows an end, {what}: its action was carried out")


def _finals(index: int, info: dict, obs: np.ndarray, last: np.ndarray, found: Findings) -> np.ndarray:
    """What is given as the last observations, in place of those of the copies that ended."""
    given = info.get("final_obs")
    if given is None:
        found.against(FINAL, f'episodes end at step {index}, and info has no "final_obs"')
        return obs
    obs = obs.copy()
    for copy in np.flatnonzero(last):
        if given[copy] is None or np.shape(given[copy]) != obs[copy].shape:
            what = "nothing" if given[copy] is None else f"of shape {list(np.shape(given[copy]))}"
            found.against(FINAL, f'info["final_obs"] of copy {copy} is {what} at step {index}, where it ends')
        else:
            obs[copy] = given[copy]
    return obs


def _look_at_ends(ends: _Ends, mode: AutoresetMode, found: Findings) -> None:
    count = len(ends.finals)
    if count < ENDINGS:
        for guarantee in (FINAL, RESETS):
            found.unseen(guarantee, f"{count} episodes ended, {ENDINGS} are wanted; try more --steps")
    elif of_a_reset(np.stack(ends.finals), np.stack(ends.before), np.stack(ends.firsts)):
        found.against(FINAL, f"in mode {mode.name} all {count} look like the first one of an episode")
