"""Recorded transitions: D4RL, Minari, OGBench and our own files behind one type.

`load` reads any of them, checked; `save` writes D4RL's layout, ours or Minari's. `dqn_replay` streams
Atari's checkpoints, which no memory holds. Nothing is ever unpickled, nor read before its size is known.
"""

from envs.datasets.checks import check
from envs.datasets.dataset import (
    Dataset,
    DatasetError,
    episode_returns,
    episodes,
    finished,
    joined,
    next_action,
    next_obs_known,
    returns_to_go,
    rows,
)
from envs.datasets.formats import load, save
from envs.datasets.scores import normalized_deviation, normalized_score
from envs.datasets.scores import reference as d4rl_reference

__all__ = [
    "Dataset",
    "DatasetError",
    "check",
    "d4rl_reference",
    "episode_returns",
    "episodes",
    "finished",
    "joined",
    "load",
    "next_action",
    "next_obs_known",
    "normalized_deviation",
    "normalized_score",
    "returns_to_go",
    "rows",
    "save",
]
