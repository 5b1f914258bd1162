"""Transitions that were recorded once and for all, and what follows from their order."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from valuelearn.errors import UserError


class DatasetError(UserError):
    """A dataset that cannot be read, written or trusted."""


class Dataset(NamedTuple):
    """Transitions in the order in which they were made, one episode after another.

    `notes` is what a manifest holds: `env_id`, `policy`, `versions`, `reference_returns` and
    whatever else is known. A reader adds `remarks`, the sentences that tell what was odd about
    the file; and `unknown_at_termination` where `next_obs` of terminated rows was not recorded
    (it then repeats `obs`, which a discount of 0 masks).
    """

    obs: np.ndarray  # f32[N, ...] or u8[N, ...]
    action: np.ndarray  # f32[N, D] within [-1, 1], or i32[N]
    reward: np.ndarray  # f32[N]
    discount: np.ndarray  # f32[N] 0 where the episode terminated, otherwise 1.
    truncated: np.ndarray  # bool[N] a time limit ended the episode.
    last: np.ndarray  # bool[N] no transition of the same episode follows.
    next_obs: np.ndarray  # [N, ...] as `obs`: the true next observation.
    infos: Mapping[str, np.ndarray] = MappingProxyType({})  # What else was recorded of each row, [N, ...].
    notes: Mapping[str, Any] = MappingProxyType({})

    @property
    def rows(self) -> int:
        """Number of transitions N."""
        return len(self.reward)


def timeouts(dataset: Dataset) -> np.ndarray:
    """Where a time limit alone ended the episode, bool[N]: not at a last step that terminates, too."""
    return dataset.truncated & (dataset.discount > 0)


def episodes(dataset: Dataset) -> list[slice]:
    """The rows of each episode, in order; the last may be unfinished."""
    ends = np.flatnonzero(dataset.last) + 1
    starts = np.concatenate([[0], ends[:-1]])
    return [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def finished(dataset: Dataset) -> np.ndarray:
    """Whether each episode came to its end, bool[episodes]: not where only the recording ended."""
    ended = (dataset.discount == 0) | dataset.truncated
    return ended[dataset.last]


def episode_returns(dataset: Dataset) -> np.ndarray:
    """Undiscounted returns f64[episodes] of the finished episodes."""
    parts = zip(episodes(dataset), finished(dataset), strict=True)
    return np.array([dataset.reward[rows].sum(dtype=np.float64) for rows, whole in parts if whole])


def returns_to_go(dataset: Dataset, gamma: float) -> np.ndarray:
    """Discounted sums f32[N] of rewards until the episode's end; NaN in an unfinished episode.

    A time limit counts as an end here: what would have come after it was not recorded.
    """
    sums = np.empty(dataset.rows)
    following = 0.0
    # Plain floats: a loop over a million numpy scalars would take ten times as long.
    rewards, lasts = dataset.reward.tolist(), dataset.last.tolist()
    for row in reversed(range(dataset.rows)):
        following = rewards[row] + gamma * (0.0 if lasts[row] else following)
        sums[row] = following
    for rows, whole in zip(episodes(dataset), finished(dataset), strict=True):
        if not whole:
            sums[rows] = np.nan
    return sums.astype(np.float32)


def next_action(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The action taken in `next_obs`, as `action`, and bool[N] the rows that may be learnt from.

    Actions never cross episodes. Of a terminated row the next action is zero and masked by the
    discount; a row after which the episode was cut has none, and may not be used.
    """
    following = np.zeros_like(dataset.action)
    following[:-1] = dataset.action[1:]
    following[dataset.last] = 0
    return following, ~dataset.last | (dataset.discount == 0)


def next_obs_known(dataset: Dataset) -> np.ndarray:
    """Rows bool[N] whose `next_obs` was recorded: those that a model of the dynamics may learn from."""
    if not dataset.notes.get("unknown_at_termination"):
        return np.ones(dataset.rows, bool)
    return dataset.discount != 0


def rows(dataset: Dataset, which: slice) -> Dataset:
    """Some consecutive rows; the last of them ends its episode's record, without being an end."""
    columns, infos = _columns(dataset), dataset.infos
    last = dataset.last[which].copy()
    last[-1:] = True
    cut: dict[str, Any] = {name: x[which] for name, x in columns.items()} | {"last": last}
    return dataset._replace(**cut, infos={name: x[which] for name, x in infos.items()})


def joined(parts: Sequence[Dataset]) -> Dataset:
    """Datasets one after another, with those of the `infos` that all have, and without notes."""
    columns = [_columns(part) for part in parts]
    whole: dict[str, Any] = {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
    names = [name for name in parts[0].infos if all(name in part.infos for part in parts)]
    infos = {name: np.concatenate([part.infos[name] for part in parts]) for name in names}
    return Dataset(**whole, infos=infos)


def _columns(dataset: Dataset) -> dict[str, np.ndarray]:
    return {name: x for name, x in dataset._asdict().items() if isinstance(x, np.ndarray)}
