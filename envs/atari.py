"""Atari games on ale-py's vector environment, ROMs included.

Fixed by every protocol here: frame skip 4, the maximum of the last two frames, 84 x 84 grey,
stacks of 4. The rest is in `AtariOptions`.
"""

import importlib.util
from pathlib import Path

import gymnasium
import numpy as np

from envs.registry import AtariOptions, UnknownEnvironmentError, unknown
from valuelearn.types import EnvSpec, Timestep

_FRAME_SKIP, _STACK, _SIZE = 4, 4, 84


def check(game: str) -> None:
    """Refuse a game that ale-py does not ship, or that one alone cannot play, as Combat.

    Raises:
        UnknownEnvironmentError: for an unknown game, or where ale-py is not installed.
    """
    if importlib.util.find_spec("ale_py") is None:
        raise UnknownEnvironmentError("it needs ale-py: pip install 'valuelearn[atari]'")
    import ale_py

    gymnasium.register_envs(ale_py)
    games = {spec.kwargs["game"] for spec in gymnasium.registry.values() if spec.id.startswith("ALE/")}
    if game not in games:
        if game in roms():  # The emulator would end the whole process.
            raise UnknownEnvironmentError(f"{game} is a game for two, which no agent here plays")
        raise unknown("Atari game", game, list(games))


def roms() -> dict[str, bool]:
    """Every game that ale-py ships, and whether its ROM is there."""
    from ale_py import roms

    return {game: Path(roms.get_rom_path(game) or "").is_file() for game in roms.get_all_rom_ids()}


class AtariEnv:
    """Copies of one game behind `HostEnv`; observations u8[84, 84, 4], newest frame last.

    ale-py resets a game on the step after its end, so that step is marked as not valid. Returns
    are those of the raw score over whole games, whatever the agent learns from.
    """

    def __init__(self, game: str, num_envs: int, options: AtariOptions) -> None:
        """Start `num_envs` emulators of a game that `check` accepts."""
        from ale_py.vector_env import AtariVectorEnv

        self._options = options
        self._env = AtariVectorEnv(
            game,
            num_envs,
            max_num_frames_per_episode=options.max_episode_frames,
            repeat_action_probability=options.sticky_actions,
            noop_max=options.noop_max,
            img_height=_SIZE,
            img_width=_SIZE,
            stack_num=_STACK,
            frameskip=_FRAME_SKIP,
            maxpool=True,
            episodic_life=False,
            reward_clipping=False,
            use_fire_reset=False,
        )
        action_space = self._env.single_action_space
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        self.spec = EnvSpec(
            obs_shape=(_SIZE, _SIZE, _STACK),
            obs_dtype=np.dtype(np.uint8),
            num_actions=int(action_space.n),
            num_envs=num_envs,
            frame_stack=_STACK,
            frames_per_step=_FRAME_SKIP,
        )
        self._resetting = np.zeros(num_envs, bool)
        self._episode_return = np.zeros(num_envs, np.float32)
        self._lives = np.zeros(num_envs, np.int32)
        self._obs: np.ndarray = np.zeros((num_envs, *self.spec.obs_shape), np.uint8)

    def reset(self, seed: int) -> np.ndarray:
        """First observations; the seed fixes everything that follows."""
        frames: np.ndarray
        frames, info = self._env.reset(seed=seed)
        # New arrays: the last timestep holds the old ones.
        self._resetting = np.zeros_like(self._resetting)
        self._episode_return = np.zeros_like(self._episode_return)
        self._lives = np.array(info["lives"])
        self._obs = np.moveaxis(frames, 1, -1)
        return self._obs

    def step(self, action: np.ndarray) -> Timestep:
        """One agent step, four frames, of every game."""
        obs, score, terminated, truncated, info = self._env.step(np.asarray(action))
        valid = ~self._resetting
        terminated, truncated = terminated & valid, truncated & valid
        last = terminated | truncated
        self._episode_return = np.where(valid, self._episode_return + score, 0).astype(np.float32)
        ends_value = terminated
        if self._options.life_loss_terminates:
            ends_value = terminated | ((info["lives"] < self._lives) & valid)
        self._lives = info["lives"].copy()
        self._resetting = last
        self._obs = np.moveaxis(obs, 1, -1)
        reward = np.clip(score, -1, 1) if self._options.clip_rewards else score
        return Timestep(
            next_obs=self._obs,
            obs=self._obs,
            reward=np.where(valid, reward, 0).astype(np.float32),
            discount=1 - ends_value.astype(np.float32),
            last=last,
            valid=valid,
            episode_return=self._episode_return,
        )

    def render(self) -> np.ndarray:
        """The newest 84 x 84 frame of the first game, as the agent sees it, in three channels."""
        return np.repeat(self._obs[0, :, :, -1:], 3, -1)

    def close(self) -> None:
        """Stop the emulators."""
        self._env.close()
