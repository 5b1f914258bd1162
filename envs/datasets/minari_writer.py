"""Datasets written as Minari's, without Minari, so that Minari can load them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets import hdf5, manifest, minari
from envs.datasets.dataset import Dataset, DatasetError, episodes, next_obs_known, timeouts
from envs.datasets.drafts import draft

_ID = re.compile(r"([-\w]+/)*[-\w]+-v\d+")
_VERSION = "0.5.3"  # Of the layout.


def write(dataset: Dataset, path: Path) -> None:
    """Write a folder that Minari can load.

    Raises:
        DatasetError: where it cannot be written, its name is none that Minari allows, or observations that
            Minari's layout wants are not known.
    """
    root = minari.root_folder().absolute()
    full = path.absolute()
    dataset_id = full.relative_to(root).as_posix() if full.is_relative_to(root) else full.name
    if not _ID.fullmatch(dataset_id):
        raise DatasetError(f"{path}: Minari wants a name of letters, digits and -, with -v0 at its end")
    if not next_obs_known(dataset).all():
        told = "the next observations of terminated rows are not known, which Minari's layout cannot say"
        raise DatasetError(f"{path}: {told}; the format valuelearn can")
    # Bits are compared, as zeros of either sign are equal.
    now, then = (array.view(f"u{array.itemsize}") for array in (dataset.obs[1:], dataset.next_obs[:-1]))
    torn = (now != then).any(axis=tuple(range(1, now.ndim))) & ~dataset.last[:-1]
    extra = {minari.NEXT_OBS: dataset.next_obs} if torn.any() else {}
    infos = {**dataset.infos, **extra}
    parts = episodes(dataset)
    with draft(path) as beside:
        data = beside / "data"
        data.mkdir(parents=True)
        with hdf5.library().File(data / "main_data.hdf5", "w", track_order=True) as file:
            for index, rows in enumerate(parts):
                _write_episode(file.create_group(f"episode_{index}"), index, dataset, infos, rows)
        notes = {name: note for name, note in dataset.notes.items() if name != "remarks"}
        metadata = {
            "dataset_id": dataset_id,
            "minari_version": _VERSION,
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "total_episodes": len(parts),
            "total_steps": dataset.rows,
            "observation_space": json.dumps(_box(dataset.obs)),
            "action_space": json.dumps(_actions(dataset.action)),
            "valuelearn": manifest.dumped(path, notes),
        }
        (data / "metadata.json").write_text(json.dumps(metadata))


def _write_episode(
    group: Any, index: int, dataset: Dataset, infos: Mapping[str, np.ndarray], rows: slice
) -> None:
    group.attrs["id"] = index
    group.attrs["total_steps"] = steps = rows.stop - rows.start
    obs = np.concatenate([dataset.obs[rows], dataset.next_obs[rows.stop - 1 : rows.stop]])
    group.create_dataset("observations", data=obs)
    group.create_dataset("actions", data=dataset.action[rows])
    group.create_dataset("rewards", data=dataset.reward[rows])
    group.create_dataset("terminations", data=dataset.discount[rows] == 0)
    group.create_dataset("truncations", data=timeouts(dataset)[rows])
    inner = group.create_group("infos")  # Minari's own episodes want one, if empty.
    for name, array in infos.items():
        part = array[rows]
        inner.create_dataset(name, data=part[np.minimum(np.arange(steps + 1), steps - 1)])


def _box(array: np.ndarray) -> dict[str, Any]:
    shape = array.shape[1:]
    low, high = (0, 255) if array.dtype == np.uint8 else (-np.inf, np.inf)
    bounds = {name: np.full(shape, value, float).tolist() for name, value in (("low", low), ("high", high))}
    return {"type": "Box", "dtype": str(array.dtype), "shape": list(shape), **bounds}


def _actions(action: np.ndarray) -> dict[str, Any]:
    if action.ndim == 1:
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": int(action.max()) + 1}
    shape = action.shape[1:]
    bound = np.ones(shape)
    box = {"type": "Box", "dtype": "float32", "shape": list(shape)}
    return {**box, "low": (-bound).tolist(), "high": bound.tolist()}
