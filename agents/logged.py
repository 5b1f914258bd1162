"""Atari's logged replays (Agarwal et al., 2020) in the replay of the agent that learns from them."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from agents.dqn import DQNConfig
from envs.datasets import DatasetError, dqn_replay
from valuelearn.config import Misfit
from valuelearn.types import EnvSpec, Memory, Trajectory

_PART = 4_096  # Steps that are put into the replay at once.


def is_logged(dataset: str) -> bool:
    """Whether a dataset is a folder of such checkpoints."""
    return bool(dqn_replay.numbers(Path(dataset)))


def memory(folder: Path, agent: DQNConfig, spec: EnvSpec, updates: int, clip_rewards: bool) -> Memory:
    """The agent's replay with what the checkpoints in a folder hold, the first first, until it is full.

    Frames are stacked, rewards summed and transitions drawn as they are while playing.

    Raises:
        DatasetError: where a checkpoint is damaged, or of another environment.
        Misfit: for importance weights that change with steps played, of which there are none.
    """
    if agent.replay.importance_exponent_end is not None:
        found, reason = agent.replay.importance_exponent_end, "nothing is played by which it could change"
        raise Misfit("agent.replay.importance_exponent_end", found, reason, "offline.dataset")
    spec = spec._replace(num_envs=1)
    empty = agent.replay.make(spec, agent.gamma, updates)
    state, add = jax.jit(empty.init)(), jax.jit(empty.add, donate_argnums=0)
    room = agent.replay.capacity - spec.frame_stack - 1  # Rows that all may be drawn.
    for whole in _parts(folder, spec, clip_rewards):
        part, rows = _fitting(whole, room)
        state, room = add(state, part), room - rows
        if (part.step.valid != whole.step.valid).any():
            break
    return empty._replace(init=lambda: state)


def _parts(folder: Path, spec: EnvSpec, clip_rewards: bool) -> Iterator[Trajectory]:
    for number in dqn_replay.numbers(folder):
        recording = dqn_replay.read(folder, number, clip_rewards)
        _check(folder, number, recording, spec)
        yield from dqn_replay.trajectories(recording, _PART)


def _check(folder: Path, number: int, recording: dqn_replay.Recording, spec: EnvSpec) -> None:
    frame = spec.obs_shape[:-1] if spec.frame_stack > 1 else None
    if recording.frames.shape[1:] != frame:
        wanted = "stacks of frames are wanted, as of atari/" if frame is None else f"{list(frame)} is wanted"
        found = f"frames have the shape {list(recording.frames.shape[1:])}"
        raise DatasetError(f"{folder}, checkpoint {number}: {found}; of this environment {wanted}")
    if (most := int(recording.action.max())) >= spec.num_actions:
        found = f"there is an action {most}, and the environment has {spec.num_actions}"
        raise DatasetError(f"{folder}, checkpoint {number}: {found}; another game's is not wanted")


def _fitting(part: Trajectory, room: int) -> tuple[Trajectory, int]:
    """The steps for which there is room, and the rows that they take."""
    step = part.step
    taken = np.cumsum(step.valid[:, 0] * np.where(step.last[:, 0], 2, 1))  # An episode's end takes one.
    keep = (taken <= room)[:, None]
    step = step._replace(valid=step.valid & keep, last=step.last & keep)
    return part._replace(step=step), int(taken[keep[:, 0]].max(initial=0))
