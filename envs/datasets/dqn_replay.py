"""The DQN replay data of Atari (Agarwal et al., 2020): what Dopamine's replay logged, a million rows a file.

A checkpoint with the number i is a set of files `$store$_observation_ckpt.i.gz`, `..._action_...`,
`..._reward_...`, `..._terminal_...` and `add_count_ckpt.i.gz`, each an .npy under gzip. Rows are single
frames in a ring. Before an episode stand up to three blank rows, as padding of its first stacks; the
replays here know without them. Frames take 7 GB a checkpoint, so they are unpacked to a file, once,
and mapped into memory.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.datasets import arrays, npy
from envs.datasets.dataset import DatasetError
from envs.datasets.drafts import draft
from valuelearn.types import Timestep, Trajectory

_COLUMNS = ("action", "reward", "terminal")
_COUNT = "add_count"
_PADDING = 3  # Rows that Dopamine puts before an episode: its stack of 4, less 1.


class Recording(NamedTuple):
    """A checkpoint's steps, oldest first."""

    frames: np.ndarray  # u8[C, H, W] in the order of the ring, mapped into memory.
    first: int  # Where in `frames` the oldest row lies.
    action: np.ndarray  # i32[N]
    reward: np.ndarray  # f32[N]
    discount: np.ndarray  # f32[N] 0 where the episode terminated, otherwise 1.
    last: np.ndarray  # bool[N] the episode ended, or the recording did.
    valid: np.ndarray  # bool[N] False for padding, and where the next frame is not there.


def numbers(folder: Path) -> list[int]:
    """The numbers of a folder's whole checkpoints; [] where it has none."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found = [re.fullmatch(r"\$store\$_observation_ckpt\.(\d+)\.gz", name) for name in names]
    every = sorted(int(match[1]) for match in found if match)
    needed = (*_COLUMNS, _COUNT)
    return [number for number in every if {_file(folder, name, number).name for name in needed} <= names]


def _file(folder: Path, name: str, number: int) -> Path:
    return folder / f"{'' if name == _COUNT else '$store$_'}{name}_ckpt.{number}.gz"


def read(folder: Path, number: int, clip_rewards: bool = True) -> Recording:
    """One checkpoint; the frames are unpacked beside it where they are not yet.

    Args:
        folder: where the checkpoints are, such as Pong/1/replay_logs.
        number: which of them.
        clip_rewards: whether rewards are clipped to [-1, 1], as DQN does.

    Raises:
        DatasetError: where a file of it is missing, damaged or of another size than the others.
    """
    for name in ("observation", *_COLUMNS, _COUNT):
        if not (file := _file(folder, name, number)).is_file():
            raise DatasetError(f"{file}: there is no such file; the checkpoint needs it")
    raw = {name: npy.read_gzipped(_file(folder, name, number), name) for name in (*_COLUMNS, _COUNT)}
    frames = _unpacked(_file(folder, "observation", number))
    arrays.check_lengths(folder, {"observation": len(frames), **{name: raw[name].size for name in _COLUMNS}})
    added = raw[_COUNT]
    if added.size != 1 or added.dtype.kind not in "iu" or added.item() < 2:
        told = f"{_COUNT} has the shape {list(added.shape)} and begins with {added.reshape(-1)[:1].tolist()}"
        raise DatasetError(f"{_file(folder, _COUNT, number)}: {told}; one number of rows from 2 is wanted")
    capacity, written = len(frames), int(added.item())
    first = written % capacity if written >= capacity else 0
    order = (first + np.arange(min(written, capacity))) % capacity
    # Rows of the ring that were not reached hold whatever lay in memory: they are not looked at.
    action, reward, terminal = (
        convert(_file(folder, name, number), name, raw[name].reshape(-1)[order], [])
        for name, convert in zip(_COLUMNS, (arrays.actions, arrays.rewards, arrays.flags), strict=True)
    )
    if not np.isfinite(reward).all():
        told = f"reward is {reward[~np.isfinite(reward)][0]} in row {order[~np.isfinite(reward)][0]}"
        raise DatasetError(f"{_file(folder, 'reward', number)}: {told}; a finite number is wanted")
    valid = ~_padding(frames, order, terminal, (action == 0) & (reward == 0) & ~terminal)
    last = terminal.copy()
    if not terminal[-1]:  # Its next frame is not there: the step before is the last of what is left.
        valid[-1], last[-2] = False, True
    return Recording(
        frames=frames,
        first=first,
        action=action,
        reward=np.clip(reward, -1, 1) if clip_rewards else reward,
        discount=1 - terminal.astype(np.float32),
        last=last & valid,
        valid=valid,
    )


def _padding(frames: np.ndarray, order: np.ndarray, terminal: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """Rows bool[N] of blank frames at the beginning of an episode, in which nothing happened."""
    padding = np.zeros(len(order), bool)
    begins = np.concatenate([[0], np.flatnonzero(terminal[:-1]) + 1])
    for row in begins:
        for place in range(row, min(row + _PADDING, len(order))):
            if not idle[place] or frames[order[place]].any():
                break
            padding[place] = True
    return padding


def _unpacked(file: Path) -> np.ndarray:
    """The frames of a file, mapped into memory from an .npy file beside it.

    Raises:
        DatasetError: where they cannot be unpacked, or are no frames.
    """
    beside = file.with_suffix(".npy")
    if not beside.exists():
        with draft(beside) as unpacked:
            npy.unpack(file, "observation", unpacked)
    with npy.readable(beside, "observation"):
        frames = np.load(beside, mmap_mode="r", allow_pickle=False)
    if frames.ndim != 3 or frames.dtype != np.uint8:
        found = f"observation has the shape {list(frames.shape)} and the type {frames.dtype}"
        raise DatasetError(f"{file}: {found}; single frames [N, H, W] of bytes are wanted")
    return frames


def trajectories(recording: Recording, steps: int) -> Iterator[Trajectory]:
    """The recording in parts of `steps` steps each, [T, 1, ...], ready for a replay's `add`.

    Observations are single frames [T, 1, H, W, 1]: a replay with a frame stack keeps the newest
    frame of each and stacks them itself. The last part is filled up with invalid steps, so that
    every part has one shape.
    """
    size = len(recording.action)
    returns = _running_returns(recording)
    for start in range(0, size, steps):
        here = np.arange(start, start + steps)
        row = np.minimum(here, size - 1)
        place = recording.first + np.arange(start, start + steps + 1)
        obs = recording.frames[place % len(recording.frames)][:, None, ..., None]
        terminated = recording.discount[row] == 0
        # The frame after a termination is another episode's.
        next_obs = np.where(terminated.reshape(-1, 1, 1, 1, 1), obs[:-1], obs[1:])
        timestep = Timestep(
            next_obs=next_obs,
            obs=obs[1:],
            reward=recording.reward[row, None],
            discount=recording.discount[row, None],
            last=(recording.last[row] & (here < size))[:, None],
            valid=(recording.valid[row] & (here < size))[:, None],
            episode_return=returns[row, None],
        )
        yield Trajectory(obs[:-1], recording.action[row, None], timestep)


def _running_returns(recording: Recording) -> np.ndarray:
    """Sums f32[N] of the rewards since each episode began."""
    total = np.cumsum(recording.reward, dtype=np.float64)
    ends = np.flatnonzero(recording.last)
    before = np.concatenate([[0.0], total[ends]])
    return (total - before[np.searchsorted(ends, np.arange(len(total)))]).astype(np.float32)
