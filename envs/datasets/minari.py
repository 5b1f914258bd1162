"""Minari's datasets in HDF5, without Minari: a folder with `data/metadata.json` and `data/main_data.hdf5`.

Each episode of T steps is a group with T + 1 observations, so that every next observation is there
and no row is lost. `infos` have T + 1 rows, too: those beside the T observations in which actions were
taken are read, and what is written repeats the last. Where next observations are not the observations
that follow they are written among the infos, too, so that a dataset comes back as it was.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets import arrays, hdf5, manifest
from envs.datasets.dataset import Dataset, DatasetError

_FILES = ("metadata.json", "main_data.hdf5")
_MEMBERS = ("observations", "actions", "rewards", "terminations", "truncations")
NEXT_OBS = "next_observations"
_METADATA_BYTES = 1 << 24  # Spaces of pictures are written out, number by number.


def root_folder() -> Path:
    """Where Minari keeps datasets: MINARI_DATASETS_PATH, or ~/.minari/datasets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def folder_of(path: Path) -> Path | None:
    """The folder with the metadata and the data, of a dataset's folder or of a file in it; None elsewhere."""
    if path.is_file():
        return path.parent if path.name in _FILES else None
    for folder in (path / "data", path):
        if any((folder / name).is_file() for name in _FILES):
            return folder
    return None


def read(folder: Path) -> Dataset:
    """The transitions in a folder as `folder_of` finds it, actions scaled to [-1, 1].

    Raises:
        DatasetError: where it is not what Minari writes, or holds other spaces than arrays.
    """
    remarks: list[str] = []
    metadata = _metadata(folder / "metadata.json")
    file = folder / "main_data.hdf5"
    if not file.is_file():
        raise DatasetError(f"{file}: there is no such file; a dataset in Minari's HDF5 form has one")
    with hdf5.opened(file) as root:
        headers = _headers(file, root, metadata)
        parts = [{name: hdf5.read(file, one) for name, one in episode.items()} for episode in headers]
    whole = {
        name: np.concatenate([part[name][: len(part["rewards"])] for part in parts]) for name in parts[0]
    }
    next_obs = np.concatenate([part["observations"][1:] for part in parts])
    del parts
    terminal, timeout = (
        arrays.flags(file, name, whole[name], remarks) for name in ("terminations", "truncations")
    )
    discount, truncated = arrays.ends(terminal, timeout, False, remarks)
    last = np.zeros_like(truncated)
    last[np.cumsum([len(episode["rewards"]) for episode in headers]) - 1] = True
    if ((terminal | timeout) & ~last).any():
        row = int(((terminal | timeout) & ~last).argmax())
        raise DatasetError(f"{file}: terminations or truncations end an episode in row {row}, inside it")
    obs = arrays.observations(file, "observations", whole["observations"], remarks)
    _check_space(folder / "metadata.json", obs, metadata)
    next_obs = arrays.observations(file, "observations", whole.get(f"infos/{NEXT_OBS}", next_obs), [])
    action = arrays.actions(file, "actions", whole["actions"], remarks)
    notes = manifest.parsed(folder / "metadata.json", "valuelearn", metadata.get("valuelearn", "{}"))
    return Dataset(
        obs=obs,
        action=_scaled(folder / "metadata.json", action, metadata, remarks),
        reward=arrays.rewards(file, "rewards", whole["rewards"], remarks),
        discount=discount,
        truncated=truncated,
        last=last,
        next_obs=next_obs,
        infos={name[6:]: whole[name] for name in whole if name.startswith("infos/") and name[6:] != NEXT_OBS},
        notes={**(notes or _foreign_notes(metadata)), "remarks": remarks},
    )


def _metadata(file: Path) -> dict[str, Any]:
    try:
        if (size := file.stat().st_size) > _METADATA_BYTES:
            raise DatasetError(f"{file}: it has {size} bytes; {_METADATA_BYTES} at most are wanted")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{file}: it is not text; JSON is wanted") from None
    metadata = manifest.parsed(file, "it", text)
    form = metadata.get("data_format", "hdf5")
    if form != "hdf5":
        raise DatasetError(f"{file}: data_format is {form!r}; 'hdf5' is wanted (Minari can convert it)")
    for name in ("total_episodes", "total_steps"):
        if not isinstance(metadata.get(name), int) or metadata[name] < 1:
            raise DatasetError(f"{file}: {name} is {metadata.get(name)!r}; a whole number from 1 is wanted")
    return metadata


def _foreign_notes(metadata: Mapping[str, Any]) -> dict[str, Any]:
    notes = {
        name: metadata[name]
        for name in ("dataset_id", "algorithm_name", "minari_version")
        if name in metadata
    }
    try:
        notes["env_id"] = json.loads(metadata["env_spec"])["id"]
    except (KeyError, TypeError, ValueError):
        return notes  # Minari allows datasets of no registered environment.
    return notes


def _headers(file: Path, root: Any, metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The datasets of each episode, unread, checked against each other and the metadata."""
    groups = sum(name.startswith("episode_") for name in root)
    if groups != metadata["total_episodes"]:
        told = f"it has {groups} episodes, and metadata.json says {metadata['total_episodes']}"
        raise DatasetError(f"{file}: {told}; the same is wanted")
    headers = [_header(file, root, f"episode_{index}") for index in range(groups)]
    steps = sum(header["rewards"].shape[0] for header in headers)
    if steps != metadata["total_steps"]:
        told = f"it has {steps} steps, and metadata.json says {metadata['total_steps']}"
        raise DatasetError(f"{file}: {told}; the same is wanted")
    hdf5.check_headers(file, {one.name[1:]: one for header in headers for one in header.values()})
    for header in headers:
        for name in {**headers[0], **header}:
            shapes = [list(one[name].shape[1:]) if name in one else None for one in (headers[0], header)]
            if shapes[0] != shapes[1]:
                where = header["rewards"].parent.name[1:]
                told = f"{where}/{name} has rows of the shape {shapes[1]} and those of episode_0 {shapes[0]}"
                raise DatasetError(f"{file}: {told}; the same is wanted")
    return headers


def _header(file: Path, root: Any, name: str) -> dict[str, Any]:
    group = hdf5.member(file, root, name)
    if not isinstance(group, hdf5.library().Group):
        told = "missing" if group is None else "an array"
        raise DatasetError(f"{file}: {name} is {told}; a group is wanted")
    found = hdf5.datasets(file, group, dict.fromkeys(_MEMBERS, True))
    infos = hdf5.member(file, group, "infos")
    if isinstance(infos, hdf5.library().Group):
        found |= _infos(file, infos)
    steps = found["rewards"].shape[0]
    lengths = {}
    for key, one in found.items():
        # Minari's infos begin with those of the reset; some writers leave them out.
        more = key == "observations" or (key.startswith("infos/") and one.shape[0] == steps + 1)
        lengths[f"{name}/{key}{' less one' if more else ''}"] = one.shape[0] - more
    arrays.check_lengths(file, lengths)
    return found


def _infos(file: Path, infos: Any) -> dict[str, Any]:
    """Datasets of numbers; Minari allows groups, texts and pictures, too, which have no place here."""
    flat = [name for name in infos if getattr(hdf5.member(file, infos, name), "shape", None)]
    found = hdf5.datasets(file, infos, dict.fromkeys(flat, True))
    return {f"infos/{name}": one for name, one in found.items() if one.dtype.kind in "biuf"}


def _check_space(file: Path, obs: np.ndarray, metadata: Mapping[str, Any]) -> None:
    """Refuse observations of another shape than the metadata tells, such as pictures packed as JPEG."""
    if "observation_space" in metadata:
        shape = manifest.parsed(file, "observation_space", metadata["observation_space"]).get("shape")
        if shape is not None and shape != list(obs.shape[1:]):
            told = f"observation_space has the shape {shape} and observations {list(obs.shape[1:])}"
            raise DatasetError(f"{file}: {told}; the same is wanted (pictures without jpeg_encoding)")


def _scaled(file: Path, action: np.ndarray, metadata: Mapping[str, Any], remarks: list[str]) -> np.ndarray:
    """Actions within [-1, 1], of a Box with other bounds; counts from 0, of a Discrete with another start."""
    if "action_space" not in metadata:
        return action
    space = manifest.parsed(file, "action_space", metadata["action_space"])
    try:
        if action.dtype.kind == "i":
            return action - np.int32(space.get("start", 0))
        low, high = (np.asarray(space[name], np.float64) for name in ("low", "high"))
        if low.shape != action.shape[1:] or high.shape != low.shape:
            raise ValueError(f"bounds of the shape {list(low.shape)} for actions of {list(action.shape[1:])}")
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file}: action_space does not fit the actions ({error})") from None
    if ((low == -1) & (high == 1)).all() or not np.isfinite([low, high]).all() or not (low < high).all():
        return action
    remarks.append(f"actions lie within {low.tolist()} and {high.tolist()}; scaled to [-1, 1]")
    middle, half = (low + high) / 2, (high - low) / 2
    return ((action - middle) / half).astype(np.float32)
