"""Any gymnasium environment with discrete actions, or with bounded continuous ones, on the host.

The adapter takes a vector environment in any autoreset mode and answers with the same
transitions in each: the true next observation, `last`, and the first observation of what follows.
"""

import importlib
import importlib.util
import inspect
import logging
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv

from envs.registry import UnknownEnvironmentError, unknown
from envs.watch import Watch
from valuelearn.types import EnvSpec, Timestep


class GymEnv:
    """A gymnasium vector environment behind `HostEnv`."""

    def __init__(
        self, env: VectorEnv, name: str = "the environment", patience_seconds: float | None = None
    ) -> None:
        """Wrap a vector environment with Box observations, and Discrete actions or a Box of them.

        Where it raises something, or does not answer for `patience_seconds`, it is told by its `name`.

        Raises:
            UnknownEnvironmentError: for other spaces, naming what was found.
        """
        space, action_space = env.single_observation_space, env.single_action_space
        if not isinstance(space, gymnasium.spaces.Box):
            raise UnknownEnvironmentError(f"its observations are {space}; a Box is wanted")
        self._action_space = _playable(action_space)
        self._env, self._watch = env, Watch(name, patience_seconds)
        self._mode = _mode(env)
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
        with self._watch("reset"):
            obs, _ = self._env.reset(seed=seed)
        # New arrays: the last timestep holds the old ones.
        self._resetting = np.zeros_like(self._resetting)
        self._episode_return = np.zeros_like(self._episode_return)
        return obs.astype(self.spec.obs_dtype)

    def step(self, action: np.ndarray) -> Timestep:
        """One step of every copy."""
        with self._watch("step"):
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
            with self._watch("reset"):
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
        if self._env.render_mode is None:
            raise UnknownEnvironmentError("the environment cannot be drawn: it has no render mode rgb_array")
        try:
            pictures = self._env.render()
        except (gymnasium.error.Error, ImportError) as error:
            raise UnknownEnvironmentError(f"the environment cannot be drawn: {error}") from error
        assert pictures is not None  # It was made to return them.
        return np.asarray(pictures[0])

    def close(self) -> None:
        """Close the environment."""
        self._watch.close()
        self._env.close()


def _mode(env: VectorEnv) -> AutoresetMode:
    declared = env.metadata.get("autoreset_mode")
    try:
        return AutoresetMode(declared)
    except ValueError:
        wanted = "one of gymnasium.vector.AutoresetMode is wanted"
        raise UnknownEnvironmentError(f'its metadata["autoreset_mode"] is {declared!r}; {wanted}') from None


def _playable(space: gymnasium.Space) -> gymnasium.spaces.Discrete | gymnasium.spaces.Box:
    """The action space, if agents here can play in it.

    Raises:
        UnknownEnvironmentError: for another, naming it.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return space
    if isinstance(space, gymnasium.spaces.Box) and _is_continuous(space):
        return space
    wanted = "a Discrete space, or a Box of real numbers with one axis and finite bounds, is wanted"
    raise UnknownEnvironmentError(f"its actions are {space}; {wanted}")


def _is_continuous(space: gymnasium.spaces.Box) -> bool:
    return len(space.shape) == 1 and space.is_bounded() and np.issubdtype(space.dtype, np.floating)


def check(name: str) -> None:
    """Refuse an id that gymnasium does not know.

    Raises:
        UnknownEnvironmentError: as `registered`.
    """
    registered(name)


def registered(name: str) -> gymnasium.envs.registration.EnvSpec:
    """What gymnasium knows of an id; `module:id` imports the module first, which registers it.

    Raises:
        UnknownEnvironmentError: naming the nearest id that it knows, or what is wrong with the module.
    """
    module, colon, own = name.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except Exception as error:  # Whatever a module of others raises.
            said = f"{type(error).__name__}: {error}"
            raise UnknownEnvironmentError(f"the module {module!r} cannot be imported ({said})") from error
    try:
        return gymnasium.spec(own)
    except gymnasium.error.Error as error:
        raise unknown("gymnasium environment", own, list(gymnasium.registry)) from error


def _is_mujoco(name: str) -> bool:
    return "mujoco" in str(registered(name).entry_point)


def check_mujoco(name: str) -> None:
    """Refuse an id that is not one of gymnasium's robots, or robots where MuJoCo is not installed.

    Raises:
        UnknownEnvironmentError: naming the nearest id that is, or the extra.
    """
    robots = [id for id, spec in gymnasium.registry.items() if "mujoco" in str(spec.entry_point)]
    if name not in robots:
        raise unknown("MuJoCo environment", name, robots)
    if importlib.util.find_spec("mujoco") is None:
        raise UnknownEnvironmentError("it needs MuJoCo: pip install 'valuelearn[mujoco]'")


def quiet_mujoco(name: str) -> None:
    """Keep MuJoCo, where the environment is one of its robots, from writing files of its own.

    Left alone it appends its warnings to a file in whatever folder the user is in.
    """
    if _is_mujoco(name):
        import mujoco

        mujoco.set_mju_user_warning(_log_of_mujoco)


def _log_of_mujoco(message: str) -> None:
    """Pass a warning of MuJoCo's on to Python's log, where warnings are shown and remarks are not."""
    # What is deprecated stands in a model file that came with gymnasium: nothing that a user could mend.
    level = logging.INFO if "deprecated" in message else logging.WARNING
    logging.getLogger("mujoco").log(level, message)


def _draws(name: str) -> bool:
    """Whether an environment takes the render mode that gives pictures; many that users write take none."""
    entry = registered(name).entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    assert callable(creator)
    modes = getattr(creator, "metadata", {}).get("render_modes", ["rgb_array"])
    parameters = inspect.signature(creator).parameters.values()
    takes = any(one.name == "render_mode" or one.kind is one.VAR_KEYWORD for one in parameters)
    return "rgb_array" in modes and takes


def make_gym(
    name: str,
    num_envs: int,
    wrappers: Sequence[Callable[[gymnasium.Env], gymnasium.Wrapper]] = (),
    mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    patience_seconds: float | None = None,
) -> GymEnv:
    """`num_envs` copies of a registered gymnasium environment, each within `wrappers`.

    Raises:
        UnknownEnvironmentError: for a missing dependency or an unsupported space.
    """
    try:
        quiet_mujoco(name)
        env = gymnasium.make_vec(
            name,
            num_envs=num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            wrappers=wrappers,
            **({"render_mode": "rgb_array"} if _draws(name) else {}),
        )
        if isinstance(env.single_observation_space, gymnasium.spaces.Dict):  # As dm_control's are.
            env = gymnasium.wrappers.vector.FlattenObservation(env)
    except Exception as error:  # Whatever an environment of others raises.
        raise UnknownEnvironmentError(f"gymnasium cannot make it: {error}") from error
    try:
        return GymEnv(env, name, patience_seconds)
    except UnknownEnvironmentError:
        env.close()
        raise
