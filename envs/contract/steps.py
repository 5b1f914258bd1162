"""The steps that agents here are given by any kind of environment: what `Timestep` promises of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from envs.contract.findings import ENDINGS, Finding, Findings, Guarantee, first_difference, of_a_reset, shown
from valuelearn.types import EnvSpec, FunctionalEnv, HostEnv, Timestep

Env = FunctionalEnv | HostEnv
Make = Callable[[], Env]
# From a seed first observations [E, ...], and steps [T, E, ...] of random actions.
Play = Callable[[int], tuple[Any, Timestep]]

SHAPES = Guarantee("arrays are of the declared shapes and types", "give what EnvSpec and Timestep say")
FINITE = Guarantee("observations and rewards are finite", "find what makes them infinite or not a number")
ENDS = Guarantee("every episode ends", "end it after so many steps, with last=True and a discount of 1")
DISCOUNTS = Guarantee(
    "terminations have a discount of 0, all else of 1",
    "discount = 1 - terminated; a time limit leaves it at 1",
)
FOLLOWS = Guarantee(
    "within an episode the next action is chosen on the next observation",
    "obs = next_obs where last is False",
)
FINAL = Guarantee(
    "an episode's last observation is the true one", "keep the observation before it is replaced by a reset's"
)
COUNTED = Guarantee(
    "an episode's return begins with it", "set episode_return to 0 where an episode has ended before"
)
VALID = Guarantee(
    "only a reset makes a step that is not valid", "valid = False in steps after an end, and nowhere else"
)
SEEDED = Guarantee(
    "the seed decides all that happens",
    "draw random numbers from the seed alone, and set back everything in reset",
)
ALL = (SHAPES, FINITE, ENDS, DISCOUNTS, FOLLOWS, FINAL, COUNTED, VALID, SEEDED)


def of_steps(make: Make, seed: int, steps: int) -> list[Finding]:
    """What holds of an environment in so many steps of all its copies, with random actions."""
    found = Findings(*ALL)
    env = make()
    play = _inside(env, steps) if isinstance(env, FunctionalEnv) else partial(_outside, env, steps)
    first, step = play(seed)
    differences = {"begun again": _difference(first, step, *play(seed))}
    if not isinstance(env, FunctionalEnv):
        env.close()
        other = make()
        assert not isinstance(other, FunctionalEnv)
        # Whoever draws from numpy's global numbers draws others by now.
        differences["made again and begun"] = _difference(first, step, *_outside(other, steps, seed))
        other.close()
    for what, difference in differences.items():
        if difference:
            found.against(SEEDED, f"{what} with seed {seed}, {difference}")
    if _look_at_arrays(env.spec, step, found):
        _look_at_episodes(first, step, found)
    else:
        for guarantee in ALL[2:-1]:
            found.unseen(guarantee, "its arrays cannot be read")
    return found.all()


def _inside(env: FunctionalEnv, steps: int) -> Play:
    def one(state: Any, key: jax.Array) -> tuple[Any, Timestep]:
        action_key, env_key = jax.random.split(key)
        if env.spec.action_size:
            action = jax.random.uniform(action_key, (env.spec.num_envs, env.spec.action_size), minval=-1)
        else:
            action = jax.random.randint(action_key, (env.spec.num_envs,), 0, env.spec.num_actions)
        return env.step(state, action, env_key)

    def play(key: jax.Array) -> tuple[Any, Timestep]:
        init_key, key = jax.random.split(key)
        state, obs = env.init(init_key)
        return obs, jax.lax.scan(one, state, jax.random.split(key, steps))[1]

    compiled = jax.jit(play)
    return lambda seed: jax.tree.map(np.asarray, compiled(jax.random.key(seed)))


def _outside(env: HostEnv, steps: int, seed: int) -> tuple[Any, Timestep]:
    random, spec = np.random.default_rng(seed), env.spec
    first = np.array(env.reset(seed))
    found = []
    for _ in range(steps):
        if spec.action_size:
            action = random.uniform(-1, 1, (spec.num_envs, spec.action_size)).astype(np.float32)
        else:
            action = random.integers(0, spec.num_actions, spec.num_envs, np.int32)
        found.append(jax.tree.map(np.array, env.step(action)))
    return first, jax.tree.map(lambda *x: np.stack(x), *found)


def _difference(first: Any, step: Timestep, other_first: Any, other: Timestep) -> str | None:
    one, another = (list(zip(*each, strict=True)) for each in (step, other))
    start = first_difference([(first,)], [(other_first,)], ("the observation",))
    return start or first_difference(one, another, Timestep._fields)


def _look_at_arrays(spec: EnvSpec, step: Timestep, found: Findings) -> bool:
    """Whether the arrays can be looked at any further."""
    count = (len(step.last), spec.num_envs)
    rewards = (spec.reward_size,) if spec.reward_size else ()
    wanted = Timestep(
        next_obs=(spec.obs_dtype, spec.obs_shape),
        obs=(spec.obs_dtype, spec.obs_shape),
        reward=(np.dtype(np.float32), rewards),
        discount=(np.dtype(np.float32), ()),
        last=(np.dtype(bool), ()),
        valid=(np.dtype(bool), ()),
        episode_return=(np.dtype(np.float32), ()),
    )
    good = True
    for name, x, (dtype, shape) in zip(Timestep._fields, step, wanted, strict=True):
        if x.dtype != dtype or x.shape != (*count, *shape):
            whole = [spec.num_envs, *shape]
            found.against(SHAPES, f"{name} is {x.dtype}{list(x.shape[1:])}; {dtype}{whole} is wanted")
            good = False
        elif x.dtype.kind == "f" and not np.isfinite(x).all():
            index = int(np.argwhere(~np.isfinite(x))[0][0])
            found.against(FINITE, f"{name} of step {index} is {shown(x[index])}")
    return good


def _look_at_episodes(first: Any, step: Timestep, found: Findings) -> None:
    last, valid = step.last, step.valid
    count = int(last.sum())
    if not count:
        found.unseen(ENDS, f"none ended in {len(last):,} steps of {last.shape[1]} copies; try more --steps")
    before = np.concatenate([first[None], step.obs[:-1]])
    after_end = np.concatenate([np.zeros_like(last[:1]), last[:-1]])
    begins = valid & np.concatenate([np.ones_like(last[:1]), (last | ~valid)[:-1]])
    reward = step.reward.reshape(*last.shape, -1).sum(-1)  # Clipped rewards have the sign of whole ones.
    for guarantee, wrong, what in (
        (DISCOUNTS, ~np.isin(step.discount, (0, 1)), "has a discount other than 0 and 1"),
        (DISCOUNTS, (step.discount == 0) & ~valid, "resets a copy and has a discount of 0"),
        (FOLLOWS, _unlike(step.obs, step.next_obs) & ~last, "is within an episode, and obs is not next_obs"),
        (VALID, ~valid & ~after_end, "is not valid and follows no end"),
        (VALID, ~valid & (reward != 0), "is not valid and has a reward"),
        (VALID, ~valid & last, "is not valid and ends an episode"),
        (COUNTED, ~valid & (step.episode_return != 0), "is not valid and has a return"),
        (COUNTED, begins & (np.sign(step.episode_return) != np.sign(reward)), "begins with a return already"),
    ):
        if wrong.any():
            index, copy = np.argwhere(wrong)[0]
            found.against(guarantee, f"step {index} of copy {copy} {what}")
    if count < ENDINGS:
        for guarantee in (FINAL, COUNTED):
            found.unseen(guarantee, f"{count} episodes ended, {ENDINGS} are wanted; try more --steps")
        return
    # Copies that reset themselves in a step of their own show the first observation there.
    begun = ~valid if not valid.all() else last
    firsts = np.concatenate([first, step.obs[begun]])
    if of_a_reset(step.next_obs[last], before[last], firsts):
        found.against(FINAL, f"all {count} look like the first observation of an episode")


def _unlike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where observations [T, E, ...] are not the same."""
    return (one != other).reshape(*one.shape[:2], -1).any(-1)
