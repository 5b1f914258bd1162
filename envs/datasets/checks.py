"""Faults that a dataset of any format may have."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from envs.datasets.dataset import Dataset, DatasetError
from valuelearn.types import EnvSpec

_LARGEST_OBS = 1e6
_ACTION_SLACK = 1e-6  # Rounding of a tanh; more means other units.
_SAME_OBS = 1e-5
_BLOCK = 65536  # Rows looked at together: comparisons of all rows at once would double the memory.
_TYPES = {
    "obs": ("float32", "uint8"),
    "next_obs": ("float32", "uint8"),
    "action": ("float32", "int32"),
    "reward": ("float32",),
    "discount": ("float32",),
    "truncated": ("bool",),
    "last": ("bool",),
}
# The names that every file format gives to the fields.
_NAMES = {"obs": "observations", "next_obs": "next_observations", "reward": "rewards", "action": "actions"}


def check(
    dataset: Dataset, where: Path | str, spec: EnvSpec | None = None, env_id: str | None = None
) -> list[str]:
    """Sentences on what is odd about a dataset, though not wrong.

    Args:
        dataset: what is checked.
        where: the file to name in errors.
        spec: the shapes of the environment that it shall be of, where that is asked.
        env_id: the name of that environment, where that is asked; a dataset that notes none may be of any.

    Raises:
        DatasetError: for no rows, unequal lengths, other types than the fields have, NaN or
            infinite numbers, observations beyond 1e6, actions outside [-1, 1] or negative, episodes
            that end unmarked, sizes that are not the environment's, and another environment's name.
    """
    if env_id is not None:
        _check_name(dataset, where, env_id)
    _check_shapes(dataset, where)
    if spec is not None:
        _check_environment(dataset, where, spec)
    for field, name in _NAMES.items():
        _check_numbers(where, name, getattr(dataset, field), _LARGEST_OBS if "obs" in field else np.inf)
    for name, array in dataset.infos.items():
        _check_numbers(where, f"infos/{name}", array, np.inf)
    _check_actions(dataset, where)
    return [*_oddities(dataset)]


def _check_name(dataset: Dataset, where: Path | str, env_id: str) -> None:
    noted = dataset.notes.get("env_id")
    if noted is not None and _bare(str(noted)) != _bare(env_id):
        raise DatasetError(f"{where}: it was recorded in {noted}, and {env_id} is asked for")


def _bare(env_id: str) -> str:
    """An id as all that record in its environment write it: gym/Pendulum-v1 and classic/pendulum are one.

    Kinds, namespaces and versions are left out, and underscores, which ours have before gymnasium's capitals.
    """
    name = re.split("[/:]", env_id)[-1]
    return re.sub(r"-v\d+$", "", name).replace("_", "").lower()


def _check_shapes(dataset: Dataset, where: Path | str) -> None:
    arrays = {_NAMES.get(field, field): getattr(dataset, field) for field in dataset._fields[:-2]}
    arrays |= {f"infos/{name}": array for name, array in dataset.infos.items()}
    for name, array in arrays.items():
        if not array.size:
            raise DatasetError(f"{where}: {name} has the shape {list(array.shape)}; it is not to be empty")
        if len(array) != len(dataset.obs):
            found = f"{name} has {len(array)} rows and observations {len(dataset.obs)}"
            raise DatasetError(f"{where}: {found}; equal lengths are wanted")
    for field, wanted in _TYPES.items():
        if (found := getattr(dataset, field).dtype.name) not in wanted:
            told = f"{_NAMES.get(field, field)} has the type {found}"
            raise DatasetError(f"{where}: {told}; {' or '.join(wanted)} is wanted")
    if dataset.next_obs.shape != dataset.obs.shape:
        found = f"next_observations have the shape {list(dataset.next_obs.shape)}"
        raise DatasetError(f"{where}: {found} and observations {list(dataset.obs.shape)}; the same is wanted")
    unmarked = ((dataset.discount == 0) | dataset.truncated) & ~dataset.last
    if unmarked.any():
        row = int(unmarked.argmax())
        raise DatasetError(f"{where}: row {row} ends an episode, and `last` is not set there")
    if not dataset.last[-1]:
        raise DatasetError(f"{where}: `last` is not set in the last row, after which nothing follows")


def _check_environment(dataset: Dataset, where: Path | str, spec: EnvSpec) -> None:
    if dataset.obs.shape[1:] != spec.obs_shape:
        found = f"observations have the shape {list(dataset.obs.shape[1:])}"
        raise DatasetError(f"{where}: {found}, and those of the environment {list(spec.obs_shape)}")
    action = dataset.action
    if action.shape[1:] != spec.action_shape:
        found = f"actions have the shape {list(action.shape[1:])}"
        raise DatasetError(f"{where}: {found}, and those of the environment {list(spec.action_shape)}")
    if spec.num_actions and action.max() >= spec.num_actions:
        row = int(action.argmax())
        raise DatasetError(
            f"{where}: actions is {action[row]} in row {row}; the environment has {spec.num_actions}"
        )


def _blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(array), _BLOCK):
        yield start, array[start : start + _BLOCK]


def _check_numbers(where: Path | str, name: str, array: np.ndarray, largest: float) -> None:
    if array.dtype.kind != "f":
        return
    for start, block in _blocks(array):
        bad = ~np.isfinite(block) | (np.abs(block) > largest)
        if bad.any():
            index = np.argwhere(bad)[0]
            wanted = "a finite number" if np.isinf(largest) else f"a number within {largest:g}"
            found = f"{name} is {block[tuple(index)]} in row {start + index[0]}"
            raise DatasetError(f"{where}: {found}; {wanted} is wanted")


def _check_actions(dataset: Dataset, where: Path | str) -> None:
    action = dataset.action
    if action.dtype.kind == "f":
        outside, wanted = np.abs(action) > 1 + _ACTION_SLACK, "a number within [-1, 1]"
    else:
        outside, wanted = action < 0, "a count from 0"
    if outside.any():
        index = tuple(np.argwhere(outside)[0])
        raise DatasetError(f"{where}: actions is {action[index]} in row {index[0]}; {wanted} is wanted")


def _oddities(dataset: Dataset) -> Iterator[str]:
    if dataset.rows > 1:
        for name, array in (("observations", dataset.obs), ("actions", dataset.action)):
            if all((block == array[0]).all() for _, block in _blocks(array)):
                yield f"{name} are the same in every row"
    if not ((dataset.discount == 0) | dataset.truncated).any():
        yield "no episode ends: neither a termination nor a time limit is recorded"
    torn = sum(_torn(dataset, start, block) for start, block in _blocks(dataset.next_obs[:-1]))
    if torn:
        share = torn / np.count_nonzero(~dataset.last)
        yield f"in {share:.3%} of rows the next observation is not the observation of the row that follows"


def _torn(dataset: Dataset, start: int, next_obs: np.ndarray) -> int:
    """How many rows from `start` on, inside episodes, have not the next row's observation next."""
    rows = slice(start, start + len(next_obs))
    following = dataset.obs[start + 1 : start + 1 + len(next_obs)]
    # Unsigned bytes would wrap around.
    apart = np.abs(next_obs.astype(np.float32) - following.astype(np.float32)) > _SAME_OBS
    return int(np.count_nonzero(apart.any(axis=tuple(range(1, apart.ndim))) & ~dataset.last[rows]))
