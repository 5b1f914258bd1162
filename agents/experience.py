"""What a run leaves of its experience, so that datasets can be made of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from agents.actor_critic import LearnerConfig
from agents.q_learning import QConfig
from envs import datasets
from envs.datasets import Dataset, DatasetError
from valuelearn.config import Misfit, Section
from valuelearn.loop import Chunk
from valuelearn.replay import ReplayState
from valuelearn.types import EnvSpec

FILE = "experience.hdf5"  # In the folder of a run.


class Marks(NamedTuple):
    """Moments of a run, in rows of each copy of its environment; saved with checkpoints, as JSON."""

    policies: Mapping[str, list[int]]  # By environment frames: rows before the policy that was kept then.
    cuts: list[list[int]]  # Copy and rows of each episode that a checkpoint cut.


def check(agent: Section, env_frames: int, spec: EnvSpec) -> None:
    """Refuse a run whose whole experience could not be left as a dataset.

    Raises:
        Misfit: naming what stands against it.
    """
    key = "checkpoint.experience"
    if not isinstance(agent, LearnerConfig | QConfig):
        raise Misfit(key, True, "this agent has no replay", "agent.name")
    if isinstance(agent, LearnerConfig) and agent.return_size is not None:
        raise Misfit(key, True, "the replay keeps rewards beside their scale", "agent.return_size")
    if spec.stock_size:
        raise Misfit(key, True, "a dataset has no place for the stock beside observations", "agent.name")
    if len(spec.obs_shape) != 1:
        raise Misfit(key, True, f"observations have the shape {spec.obs_shape}; vectors are wanted", "env.id")
    # Ends of episodes take a row each, and an episode may be one step long; a little is collected beyond.
    least = 2 * env_frames + 32 * spec.num_envs
    if agent.replay.capacity < least:
        reason = f"{least} rows are wanted for {env_frames} frames and the ends of episodes"
        raise Misfit("agent.replay.capacity", agent.replay.capacity, reason, key)


def marked(marks: Marks, chunk: Chunk, policy_frames: int | None) -> Marks:
    """The marks after a chunk, at whose end a policy was kept after so many frames, or none was."""
    if policy_frames is None and chunk.cut is None:
        return marks
    counts = _counts(chunk.state.memory)
    cuts = [] if chunk.cut is None else [[int(copy), counts[copy]] for copy in np.flatnonzero(chunk.cut)]
    kept = {} if policy_frames is None else {str(policy_frames): counts}
    return Marks({**marks.policies, **kept}, [*marks.cuts, *cuts])


def _counts(state: ReplayState) -> list[int]:
    """Transitions of each copy of the environment in a replay that has not written over any."""
    return np.asarray(state.start).reshape(len(state.written), -1).sum(1).tolist()


def recorded(state: ReplayState, marks: Marks, env_id: str) -> Dataset:
    """Everything that a replay holds, the episodes of one copy of the environment after those of another.

    Raises:
        DatasetError: where it does not hold all that was ever put into it.
    """
    held = jax.tree.map(np.asarray, state._replace(priorities=None))
    slots = len(held.start) // len(held.written)
    if (held.written >= slots).any():
        raise DatasetError(f"{env_id}: of the replay's {slots} rows the first were written over")
    rows, counts = np.flatnonzero(held.start), _counts(state)
    starts = np.cumsum([0, *counts])
    last, truncated = held.last[rows].copy(), held.last[rows] & (held.discount[rows] == 1)
    last[starts[1:] - 1] = True  # Those that go on are cut off here.
    truncated[[starts[copy] + count - 1 for copy, count in marks.cuts]] = False
    return Dataset(
        obs=held.frame[rows],
        action=held.action[rows],
        reward=held.reward[rows],
        discount=held.discount[rows],
        truncated=truncated,
        last=last,
        next_obs=held.frame[rows + 1],
        notes={"env_id": env_id, "rows_of_copies": counts, "rows_before_policies": dict(marks.policies)},
    )


def until(experience: Dataset, frames: int) -> Dataset:
    """What a run had done, of all that `recorded` left of it, when a policy was kept after so many frames.

    Raises:
        DatasetError: where its notes do not tell.
    """
    notes: Mapping[str, Any] = experience.notes
    try:
        counts, before = notes["rows_of_copies"], notes["rows_before_policies"][str(frames)]
    except KeyError as error:
        raise DatasetError(
            f"{FILE}: its notes do not hold {error}, as those that training writes do"
        ) from None
    starts = np.cumsum([0, *counts[:-1]])
    parts = zip(starts, before, strict=True)
    return datasets.joined([datasets.rows(experience, slice(start, start + count)) for start, count in parts])
