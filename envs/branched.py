"""Rollouts of MuJoCo's own simulator: a model of a robot that is never wrong.

They begin in states that were recorded, which are set whole: observations leave a robot's place out, and
those of some clip its velocities, so that no state can be told from them (of Walker2d's hardly any).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from envs import gym_host
from envs.datasets import Dataset, DatasetError
from envs.gym_host import GymEnv


class _Branch(gymnasium.Wrapper):
    """One robot whose episodes begin in one of `states`, and are cut after so many steps."""

    def __init__(self, env: gymnasium.Env, states: Mapping[str, np.ndarray], steps: int) -> None:
        super().__init__(env)
        self._states, self._limit, self._steps = states, steps, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The observation of a recorded state."""
        _, info = super().reset(seed=seed, options=options)
        robot: Any = self.unwrapped
        row = robot.np_random.integers(len(self._states["qpos"]))
        robot.set_state(self._states["qpos"][row], self._states["qvel"][row])
        self._steps = 0
        return robot._get_obs(), info  # As its own `reset_model` does, which ends with it.

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """A step of the robot."""
        obs, reward, terminated, truncated, info = super().step(action)
        self._steps += 1
        return obs, reward, terminated, truncated or self._steps == self._limit, info


def make(env_id: str, dataset: Dataset, num_envs: int, steps: int) -> GymEnv:
    """`num_envs` copies of a robot `mujoco/...`, from states of a dataset, truncated after `steps` steps.

    Raises:
        DatasetError: where the simulator's states were not recorded, or are not of this robot.
    """
    name = env_id.partition("/")[2]
    env = gym_host.make_gym(name, 1)
    sizes = {key: state.shape[1:] for key, state in env.simulator_state().items()}
    env.close()
    for key, shape in sizes.items():
        if key not in dataset.infos:
            raise DatasetError(f"infos/{key} is wanted, the simulator's states; they were not recorded")
        if (found := dataset.infos[key].shape[1:]) != shape:
            raise DatasetError(f"infos/{key} has rows of {list(found)}, and {name} has {list(shape)}")
    states = {key: np.asarray(dataset.infos[key], np.float64) for key in sizes}
    # Ended copies start anew within the same step: in rollouts as short as these another would cost much.
    wrapper = partial(_Branch, states=states, steps=steps)
    return gym_host.make_gym(name, num_envs, (wrapper,), AutoresetMode.SAME_STEP)
