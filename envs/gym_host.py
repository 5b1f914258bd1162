"""Any gymnasium environment with discrete actions, or with bounded continuous ones, on the host.

The adapter takes a vector environment in any autoreset mode and answers with the same
transitions in each: the true next observation, `last`, and the first observation of what follows.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from envs.registry import UnknownEnvironmentError, unknown
from valuelearn.types import EnvSpec, Timestep


class GymEnv:
    """A gymnasium vector environment behind `HostEnv`."""

    def __init__(self, env: VectorEnv) -> None:
        """Wrap a vector environment with Box observations, and Discrete actions or a Box of them.

        Raises:
            UnknownEnvironmentError: for other spaces, naming what was found.
        """
        space, action_space = env.single_observation_space, env.single_action_space
        if not isinstance(space, gymnasium.spaces.Box):
            raise UnknownEnvironmentError(f"its observations are {space}; a Box is wanted")
        self._action_space = _playable(action_space)
        self._env = env
        self._mode = AutoresetMode(env.metadata["autoreset_mode"])
        dtype = np.dtype(np.uint8 if space.dtype == np.uint8 else np.float32)
        spec = EnvSpec(space.shape, dtype, num_actions=0, num_envs=env.num_envs)
        if isinstance(self._action_space, gymnasium.spaces.Discrete):
            self.spec = spec._replace(num_actions=int(self._action_space.n))
        else:
            self.spec = spec._replace(action_size=len(self._action_space.low))
        self._resetting = np.zeros(env.num_envs, bool)
        self._episode_return = np.zeros(env.num_envs, np.float32)

    def reset(self, seed: int) -> np.ndarray:
        """First observations; the seed fixes everything that follows."""
        obs, _ = self._env.reset(seed=seed)
        # New arrays: the last timestep holds the old ones.
        self._resetting = np.zeros_like(self._resetting)
        self._episode_return = np.zeros_like(self._episode_return)
        return obs.astype(self.spec.obs_dtype)

    def step(self, action: np.ndarray) -> Timestep:
        """One step of every copy."""
        obs, reward, terminated, truncated, info = self._env.step(self._own(action))
        # In next-step mode this step only reset the copies that ended before it.
        valid = ~self._resetting
        last = (terminated | truncated) & valid
        self._episode_return = np.where(valid, self._episode_return + reward, 0).astype(np.float32)
        next_obs = obs = obs.astype(self.spec.obs_dtype)
        if last.any() and self._mode is AutoresetMode.SAME_STEP:
            next_obs = obs.copy()
            next_obs[last] = np.stack(list(info["final_obs"][last]))
        elif last.any() and self._mode is AutoresetMode.DISABLED:
            fresh, _ = self._env.reset(options={"reset_mask": last})
            obs = np.where(last.reshape(-1, *[1] * (obs.ndim - 1)), fresh, obs).astype(self.spec.obs_dtype)
        self._resetting = last if self._mode is AutoresetMode.NEXT_STEP else np.zeros_like(last)
        timestep = Timestep(
            next_obs=next_obs,
            obs=obs,
            reward=reward.astype(np.float32),
            discount=1 - (terminated & valid).astype(np.float32),
            last=last,
            valid=valid,
            episode_return=self._episode_return,
        )
        if self._mode is not AutoresetMode.NEXT_STEP:
            self._episode_return = np.where(last, 0, self._episode_return).astype(np.float32)
        return timestep

    def _own(self, action: np.ndarray) -> np.ndarray:
        """The environment's own actions for ours, which count from 0 or lie within [-1, 1]."""
        space = self._action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return action + space.start
        # In this form -1 and 1 give the bounds exactly.
        return (space.low * (1 - action) + space.high * (1 + action)) / 2

    def simulator_state(self) -> dict[str, np.ndarray]:
        """Where each copy's simulator stands, by MuJoCo's names, f64[E, ...]; {} where there is no simulator.

        Positions `qpos` and velocities `qvel`, from which gymnasium's `set_state` goes on.
        """
        copies = [copy.unwrapped for copy in getattr(self._env, "envs", ())]
        if not copies or not all(hasattr(getattr(copy, "data", None), "qpos") for copy in copies):
            return {}
        return {name: np.stack([getattr(copy.data, name) for copy in copies]) for name in ("qpos", "qvel")}

    def render(self) -> np.ndarray:
        """A picture [H, W, 3] u8 of the first copy.

        Raises:
            UnknownEnvironmentError: where the environment draws with a package that is not installed.
        """
        try:
            pictures = self._env.render()
        except (gymnasium.error.Error, ImportError) as error:
            raise UnknownEnvironmentError(f"the environment cannot be drawn: {error}") from error
        assert pictures is not None  # It was made to return them.
        return np.asarray(pictures[0])

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _playable(space: gymnasium.Space) -> gymnasium.spaces.Discrete | gymnasium.spaces.Box:
    """The action space, if agents here can play in it.

    Raises:
        UnknownEnvironmentError: for another, naming it.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return space
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1 and space.is_bounded():
        return space
    wanted = "a Discrete space, or a Box with one axis and finite bounds, is wanted"
    raise UnknownEnvironmentError(f"its actions are {space}; {wanted}")


def check(name: str) -> None:
    """Refuse an id that gymnasium does not know.

    Raises:
        UnknownEnvironmentError: naming the nearest id that it does.
    """
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise unknown("gymnasium environment", name, list(gymnasium.registry)) from error


def _is_mujoco(name: str) -> bool:
    return "mujoco" in str(gymnasium.spec(name).entry_point)


def check_mujoco(name: str) -> None:
    """Refuse an id that is not one of gymnasium's robots, or robots where MuJoCo is not installed.

    Raises:
        UnknownEnvironmentError: naming the nearest id that is, or the extra.
    """
    robots = [id for id in gymnasium.registry if _is_mujoco(id)]
    if name not in robots:
        raise unknown("MuJoCo environment", name, robots)
    if importlib.util.find_spec("mujoco") is None:
        raise UnknownEnvironmentError("it needs MuJoCo: pip install 'valuelearn[mujoco]'")


def _log_of_mujoco(message: str) -> None:
    """Pass a warning of MuJoCo's on to Python's log, where warnings are shown and remarks are not."""
    # What is deprecated stands in a model file that came with gymnasium: nothing that a user could mend.
    level = logging.INFO if "deprecated" in message else logging.WARNING
    logging.getLogger("mujoco").log(level, message)


def make_gym(
    name: str,
    num_envs: int,
    wrappers: Sequence[Callable[[gymnasium.Env], gymnasium.Wrapper]] = (),
    mode: AutoresetMode = AutoresetMode.NEXT_STEP,
) -> GymEnv:
    """`num_envs` copies of a registered gymnasium environment, each within `wrappers`.

    Raises:
        UnknownEnvironmentError: for a missing dependency or an unsupported space.
    """
    try:
        if _is_mujoco(name):
            import mujoco

            # Left alone, MuJoCo appends its warnings to a file in whatever folder the user is in.
            mujoco.set_mju_user_warning(_log_of_mujoco)
        env = gymnasium.make_vec(
            name,
            num_envs=num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            wrappers=wrappers,
            render_mode="rgb_array",
        )
        if isinstance(env.single_observation_space, gymnasium.spaces.Dict):  # As dm_control's are.
            env = gymnasium.wrappers.vector.FlattenObservation(env)
    except (gymnasium.error.Error, ImportError) as error:
        raise UnknownEnvironmentError(f"gymnasium cannot make it: {error}") from error
    try:
        return GymEnv(env)
    except UnknownEnvironmentError:
        env.close()
        raise
