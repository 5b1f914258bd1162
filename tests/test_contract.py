"""`valuelearn check-env` catches planted faults, each by its name, and passes what is shipped."""

import re

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
from envs import contract, edge_of_reach, gridworld, probes
from envs.contract import single, steps, vector
from valuelearn.types import FunctionalEnv

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)


class Good(gymnasium.Env):
    """Walks from near 0 to either side, terminates beyond 0.5 and is truncated after 9 steps."""

    observation_space = SPACE
    action_space = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # As gymnasium has it.

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def obs(self):
        return np.array([self.place, self.steps / 10], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.uniform(-0.01, 0.01), 0
        return self.obs(), {}

    def step(self, action):
        self.place += 0.2 * action - 0.1 + self.np_random.uniform(-0.01, 0.01)
        self.steps += 1
        return self.obs(), self.place, bool(abs(self.place) > 0.5), self.steps == 9, {}


class Fault(Good):
    """A good environment with something changed in what `step` answers."""

    def step(self, action):
        return self.changed(*super().step(action))


class NaNReward(Fault):
    def changed(self, obs, reward, *rest):
        return obs, np.nan if self.steps == 5 else reward, *rest


class ArrayReward(Fault):
    def changed(self, obs, reward, *rest):
        return obs, np.array([reward]), *rest


class NaNObservation(Fault):
    def changed(self, obs, *rest):
        return obs * np.nan, *rest


class WideObservation(Fault):
    def changed(self, obs, *rest):
        return obs.astype(np.float64), *rest


class OutOfBounds(Fault):
    def changed(self, obs, *rest):
        return obs + np.float32(2), *rest


class ShortObservation(Fault):
    def changed(self, obs, *rest):
        return obs[:1], *rest


class ListObservation(Fault):
    def changed(self, obs, *rest):
        return obs.tolist(), *rest


class IntegerFlags(Fault):
    def changed(self, obs, reward, terminated, truncated, info):
        return obs, reward, int(terminated), truncated, info


class FourAnswers(Fault):
    def changed(self, obs, reward, terminated, truncated, info):
        return obs, reward, terminated or truncated, info


class Endless(Fault):
    def changed(self, obs, reward, *_):
        self.place, self.steps = np.clip(self.place, -0.5, 0.5), min(self.steps, 8)
        return obs, reward, False, False, {}


class ResetsItself(Fault):
    def changed(self, obs, reward, terminated, truncated, info):
        return self.reset()[0] if terminated or truncated else obs, reward, terminated, truncated, info


class Raises(Fault):
    def changed(self, *answer):
        if self.steps == 7:
            raise ZeroDivisionError("no way on\nfrom here")
        return answer


class GlobalNumbers(Fault):
    def changed(self, obs, reward, *rest):
        return obs, reward + np.random.uniform(0, 1e-9), *rest


class Unseeded(Good):
    def reset(self, *, seed=None, options=None):
        return super().reset()


class Remembers(Good):
    """Something is left of what went before a reset."""

    episodes = 0

    def reset(self, *, seed=None, options=None):
        self.episodes += 1
        return super().reset(seed=seed)

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, self.episodes, *rest


class OneArray(Good):
    """Every observation is the same array."""

    def __init__(self):
        super().__init__()
        self.array = np.zeros(2, np.float32)

    def obs(self):
        self.array[:] = super().obs()
        return self.array


class BareReset(Good):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


SINGLE = {
    NaNReward: (single.REWARDS, "that of step .* is nan"),
    ArrayReward: (single.REWARDS, r"ndarray \[.*\]; one number is wanted"),
    NaNObservation: (single.OBSERVATIONS, r"step 0 is \[nan nan\]"),
    WideObservation: (single.OBSERVATIONS, r"step 0 is float64\[2\]; float32\[2\] is declared"),
    OutOfBounds: (single.OBSERVATIONS, r"at \[[01]\], outside \[-1.0, 1.0\]"),
    ShortObservation: (single.OBSERVATIONS, r"float32\[1\]; float32\[2\] is declared"),
    ListObservation: (single.OBSERVATIONS, "is a list; an array is wanted"),
    IntegerFlags: (single.FLAGS, r"terminated of step 0 is 0 \(int\)"),
    FourAnswers: (single.ANSWERS, r"step gives \(ndarray, \w+, bool, dict\)"),
    Endless: (single.ENDS, "no episode ended in 400 steps"),
    ResetsItself: (single.FINAL, "look like the first"),
    Raises: (single.ANSWERS, "step .* raises ZeroDivisionError: no way on from here"),
    GlobalNumbers: (single.SEEDED, "reset again with seed 0, at step 1 the reward is"),
    Unseeded: (single.SEEDED, "at step 0 the observation is"),
    Remembers: (single.SEEDED, "reset again with seed 0, at step 1 the reward is"),
    OneArray: (single.KEPT, "before step 0 is changed"),
    BareReset: (single.ANSWERS, "reset gives a ndarray"),
}


def faults(found):
    return {finding.guarantee: finding.against for finding in found if finding.against}


def only(found, guarantee, match):
    """That is found, and nothing else."""
    against = faults(found)
    assert list(against) == [guarantee]
    assert re.search(match, against[guarantee]), against[guarantee]


def test_a_good_environment_has_no_fault():
    assert all(finding.holds for finding in contract.of_single(Good, 0, 400))


@pytest.mark.parametrize("fault", SINGLE, ids=lambda fault: fault.__name__)
def test_a_fault_of_one_environment(fault):
    only(contract.of_single(fault, 0, 400), *SINGLE[fault])


class Vector(SyncVectorEnv):
    """Eight copies of the good one; a fault changes their answer."""

    mode = AutoresetMode.SAME_STEP

    def __init__(self):
        super().__init__([Good] * 8, autoreset_mode=self.mode)

    def step(self, actions):
        return self.changed(*super().step(actions))

    def changed(self, *answer):
        return answer


class NextStep(Vector):
    mode = AutoresetMode.NEXT_STEP


class Disabled(Vector):
    mode = AutoresetMode.DISABLED


class NoFinals(Vector):
    def changed(self, *answer):
        answer[-1].pop("final_obs", None)
        return answer


class FinalsOfResets(Vector):
    def changed(self, obs, *rest):
        if "final_obs" in rest[-1]:
            rest[-1]["final_obs"] = list(obs)
        return obs, *rest


class MissingFinal(Vector):
    def changed(self, *answer):
        if "final_obs" in answer[-1]:
            answer[-1]["final_obs"] = [None] * 8
        return answer


class SaysNextStep(Vector):
    """It resets within the step, and declares another mode."""

    def __init__(self):
        super().__init__()
        self.metadata = self.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}


class SaysDisabled(Vector):
    def __init__(self):
        super().__init__()
        self.metadata = self.metadata | {"autoreset_mode": AutoresetMode.DISABLED}

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed) if options is None else (self.observations, {})

    observations = property(lambda self: np.stack([env.obs() for env in self.envs]))


class SaysNothing(Vector):
    def __init__(self):
        super().__init__()
        self.metadata = {}


class PaysForResets(NextStep):
    def changed(self, obs, reward, *rest):
        return obs, reward + 1, *rest


class ColumnOfRewards(Vector):
    def changed(self, obs, reward, *rest):
        return obs, reward[:, None], *rest


class Raises(Vector):
    def changed(self, *answer):
        raise ValueError("mine is broken")


VECTOR = {
    NoFinals: (vector.FINAL, 'info has no "final_obs"'),
    FinalsOfResets: (vector.FINAL, "in mode SAME_STEP all .* look like the first"),
    MissingFinal: (vector.FINAL, "of copy . is nothing at step"),
    SaysNothing: (vector.DECLARED, "it is None"),
    PaysForResets: (vector.RESETS, "which follows an end, pays"),
    ColumnOfRewards: (vector.SHAPES, r"rewards of step 0 are float64\[8, 1\], not float\[8\]"),
}


@pytest.mark.parametrize("good", [Vector, NextStep, Disabled])
def test_a_good_vector_environment_in_every_mode(good):
    assert all(finding.holds for finding in contract.of_vector(good, 0, 100))


@pytest.mark.parametrize("fault", VECTOR, ids=lambda fault: fault.__name__)
def test_a_fault_of_a_vector_environment(fault):
    only(contract.of_vector(fault, 0, 100), *VECTOR[fault])


def test_a_vector_environment_that_raises():
    found = contract.of_vector(Raises, 0, 100)
    assert faults(found) == {vector.ANSWERS: "step 0 raises ValueError: mine is broken"}
    assert not any(finding.holds for finding in found)


@pytest.mark.parametrize("fault", [SaysNextStep, SaysDisabled])
def test_a_mode_that_is_not_the_declared_one(fault):
    assert "look like the first one" in faults(contract.of_vector(fault, 0, 100))[vector.FINAL]


def changed(change):
    """Ours, with something changed in its steps."""
    env = envs.make("classic/cartpole", num_envs=8)

    def step(state, action, key):
        state, timestep = env.step(state, action, key)
        return state, change(timestep)

    return FunctionalEnv(env.spec, env.init, step)


OURS = {
    "final": (steps.FINAL, lambda step: step._replace(next_obs=step.obs), "look like the first"),
    "discount": (steps.DISCOUNTS, lambda step: step._replace(discount=0.99 * step.discount), "other than 0"),
    "follows": (steps.FOLLOWS, lambda step: step._replace(obs=-step.obs), "step 0 of copy 0 is within"),
    "valid": (steps.VALID, lambda step: step._replace(valid=~step.valid), "step 0 of copy 0 is not valid"),
    "counted": (
        steps.COUNTED,
        lambda step: step._replace(episode_return=-step.episode_return),
        "begins with a return already",
    ),
    "type": (
        steps.SHAPES,
        lambda step: step._replace(reward=step.reward.astype(int)),
        r"reward is int32\[8\]; float32\[8\] is wanted",
    ),
    "finite": (steps.FINITE, lambda step: step._replace(reward=step.reward / 0), "reward of step 0 is"),
}


@pytest.mark.parametrize("name", OURS)
def test_a_fault_of_an_environment_of_ours(name):
    guarantee, change, match = OURS[name]
    against = faults(contract.of_steps(lambda: changed(change), 0, 100))
    assert re.search(match, against[guarantee]), against[guarantee]
    assert len(against) == 1 or name == "valid"  # A copy that never plays ends no episode rightly, either.


SHIPPED = [
    *(f"minatar/{name}" for name in ("asterix", "breakout", "freeway", "seaquest", "space_invaders")),
    *(f"classic/{name}" for name in ("acrobot", "cartpole", "mountain_car", "pendulum")),
    *(f"grid/{name}" for name in gridworld.GRIDWORLDS),
    *(f"plane/{name}" for name in edge_of_reach.NAMES),
    *(f"probe/{name}" for name in probes.NAMES),
    "pong/3",
    "atari/breakout",
    "mujoco/Hopper-v5",
    "mujoco/HalfCheetah-v5",
    "CartPole-v1",
]


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_has_no_fault(call, name):
    said = call("check-env", name)
    assert "FAILS" not in said and said.endswith(": nothing was found against it\n"), said


def test_a_fault_is_told_with_its_mending(call):
    gymnasium.register("planted/NaN-v0", NaNReward)
    said = call("check-env", "planted/NaN-v0", "--steps", 80, code=1)
    assert re.search(
        r"FAILS   rewards are finite numbers: that of step \d is nan\n +mend it: return float", said
    )
    assert said.endswith("gym/planted/NaN-v0: 2 things were found against it\n"), said  # For agents, too.


def test_a_vector_environment_of_its_own_is_looked_at(call):
    gymnasium.register("planted/Finals-v0", Good, vector_entry_point=lambda num_envs: FinalsOfResets())
    said = call("check-env", "planted/Finals-v0", code=1)
    assert "its own vector environment, of autoreset mode SAME_STEP" in said
    assert said.endswith("gym/planted/Finals-v0: 1 thing was found against it\n"), said


def test_a_vector_environment_that_cannot_be_made(call, capsys):
    def fails(num_envs):
        raise RuntimeError("no licence")

    gymnasium.register("planted/Fails-v0", vector_entry_point=fails)
    assert "gymnasium cannot make it: no licence" in call("check-env", "planted/Fails-v0", code=2)


def test_an_unknown_environment_is_refused(call):
    assert "there is no gymnasium environment 'CartPoole-v1'; did you mean" in call(
        "check-env", "CartPoole-v1", code=2
    )
