"""D4RL's HDF5 files, and ours: the same layout with a manifest.

Flat arrays of N rows: `observations`, `actions`, `rewards`, `terminals`; `timeouts` and
`next_observations`, which files of version 0 lack; `infos/...`; texts and numbers under
`metadata/` (Fu et al., 2020). Ours add the attribute `valuelearn`, a JSON text with the notes and
the SHA-256 of the arrays, and `lasts` where the flags do not tell every episode's end.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets import arrays, hdf5, manifest
from envs.datasets.dataset import Dataset, DatasetError, next_obs_known, timeouts
from envs.datasets.drafts import draft

_MEMBERS = {
    "observations": True,
    "actions": True,
    "rewards": True,
    "terminals": True,
    "timeouts": False,
    "next_observations": False,
    "lasts": False,
}


def read(file: Path, max_episode_steps: int | None = None) -> Dataset:
    """The transitions of a file.

    Where it holds no `next_observations` they are rebuilt inside episodes only: rows at a time
    limit and the row at which the recording stops are dropped, and terminated rows repeat `obs`.

    Args:
        file: what to read.
        max_episode_steps: where the file holds no `timeouts`, the steps after which a time limit
            ended an episode; none are inferred without it.

    Raises:
        DatasetError: where the file is not what it should be.
    """
    remarks: list[str] = []
    with hdf5.opened(file) as root:
        found = hdf5.datasets(file, root, _MEMBERS)
        infos = _infos(file, root, remarks)
        every = {**found, **infos}
        hdf5.check_headers(file, every)
        arrays.check_lengths(file, {name: one.shape[0] for name, one in every.items()})
        raw = {name: hdf5.read(file, one) for name, one in every.items()}
        told = manifest.read(file, root.attrs)
        group = hdf5.member(file, root, "metadata")
        metadata = hdf5.scalars(file, group) if isinstance(group, hdf5.library().Group) else {}
    if told is not None:
        manifest.verify(file, told, raw)
    notes = told["notes"] if told is not None else {"metadata": metadata} if metadata else {}
    columns, infos = {name: raw[name] for name in found}, {name[6:]: raw[name] for name in infos}
    return _assembled(file, columns, infos, notes, max_episode_steps, remarks)


def _infos(file: Path, root: Any, remarks: list[str]) -> dict[str, Any]:
    group = hdf5.member(file, root, "infos")
    if group is None:
        return {}
    if not isinstance(group, hdf5.library().Group):
        raise DatasetError(f"{file}: infos is an array; a group is wanted")
    # Groups, single numbers and nothing at all have no rows, and so no place in a `Dataset`.
    flat = [name for name in group if getattr(hdf5.member(file, group, name), "shape", None)]
    remarks += [f"infos/{name} has no rows, and is left out" for name in group if name not in flat]
    found = hdf5.datasets(file, group, dict.fromkeys(flat, True))
    return {f"infos/{name}": one for name, one in found.items()}


def _assembled(
    file: Path,
    raw: Mapping[str, np.ndarray],
    infos: Mapping[str, np.ndarray],
    notes: Mapping[str, Any],
    max_episode_steps: int | None,
    remarks: list[str],
) -> Dataset:
    obs = arrays.observations(file, "observations", raw["observations"], remarks)
    terminal = arrays.flags(file, "terminals", raw["terminals"], remarks)
    if "timeouts" in raw:
        timeout = arrays.flags(file, "timeouts", raw["timeouts"], remarks)
    elif max_episode_steps is not None:
        timeout = _inferred_timeouts(terminal, max_episode_steps)
        remarks.append(f"timeouts are missing; {timeout.sum()} are inferred at {max_episode_steps} steps")
    else:
        timeout = np.zeros_like(terminal)
        remarks.append("timeouts are missing; every episode is taken to end in a terminal row")
    discount, truncated = arrays.ends(terminal, timeout, True, remarks)
    last = (discount == 0) | truncated
    if "lasts" in raw:
        last |= arrays.flags(file, "lasts", raw["lasts"], remarks)
    last[-1] = True
    known = "next_observations" in raw
    if known:
        next_obs = arrays.observations(file, "next_observations", raw["next_observations"], remarks)
    else:
        next_obs = np.concatenate([obs[1:], obs[-1:]])
    dataset = Dataset(
        obs=obs,
        action=arrays.actions(file, "actions", raw["actions"], remarks),
        reward=arrays.rewards(file, "rewards", raw["rewards"], remarks),
        discount=discount,
        truncated=truncated,
        last=last,
        next_obs=next_obs,
        infos=infos,
        notes={**notes, "remarks": remarks},
    )
    return dataset if known else _without_guesses(file, dataset, remarks)


def _inferred_timeouts(terminal: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """D4RL's rule: a time limit in every row that is the `max_episode_steps`-th since an end."""
    row = np.arange(len(terminal))
    ends = np.flatnonzero(terminal)
    begin = np.concatenate([[0], ends + 1])[np.searchsorted(ends, row)]
    return (row - begin) % max_episode_steps == max_episode_steps - 1


def _without_guesses(file: Path, dataset: Dataset, remarks: list[str]) -> Dataset:
    """Rows whose next observation is known or masked; `next_obs` holds that of the row that follows."""
    keep = ~dataset.last | (dataset.discount == 0)
    dropped = np.count_nonzero(~keep)
    remarks.append(f"next_observations are missing; {dropped} rows dropped of which none can be rebuilt")
    if not keep.any():
        raise DatasetError(f"{file}: next_observations are missing, and no row is left without them")
    next_obs = dataset.next_obs.copy()
    next_obs[dataset.discount == 0] = dataset.obs[dataset.discount == 0]
    # The row before a dropped one now ends its episode, by the same time limit.
    before = np.flatnonzero(~keep[1:] & ~dataset.last[:-1])
    last, truncated = dataset.last.copy(), dataset.truncated.copy()
    last[before], truncated[before] = True, truncated[before + 1]
    whole = dataset._replace(next_obs=next_obs, last=last, truncated=truncated)
    columns = {
        name: column[keep] for name, column in whole._asdict().items() if isinstance(column, np.ndarray)
    }
    return whole._replace(
        **columns,
        infos={name: column[keep] for name, column in dataset.infos.items()},
        notes={**dataset.notes, "unknown_at_termination": True},
    )


def write(dataset: Dataset, file: Path, with_manifest: bool) -> None:
    """Write a file in D4RL's layout, with our manifest or, of the notes, with D4RL's `metadata` alone.

    Raises:
        DatasetError: where the file cannot be written, or holds without a manifest what only one can say.
    """
    told = (dataset.discount == 0) | dataset.truncated
    told[-1] = True
    columns = {
        "observations": dataset.obs,
        "actions": dataset.action,
        "rewards": dataset.reward,
        "terminals": dataset.discount == 0,
        "timeouts": timeouts(dataset),
        "next_observations": dataset.next_obs,
        **{f"infos/{name}": array for name, array in dataset.infos.items()},
    }
    hint = "which D4RL's layout cannot say; the format valuelearn can"
    if not with_manifest and not next_obs_known(dataset).all():
        raise DatasetError(f"{file}: the next observations of terminated rows are not known, {hint}")
    if (dataset.last & ~told).any():
        if not with_manifest:
            row = int((dataset.last & ~told).argmax())
            raise DatasetError(f"{file}: row {row} ends an episode that was not finished, {hint}")
        columns["lasts"] = dataset.last
    notes = {name: note for name, note in dataset.notes.items() if name != "remarks"}
    with draft(file) as beside, hdf5.library().File(beside, "w") as root:
        for name, array in columns.items():
            hdf5.write(root, name, array)
        if with_manifest:
            root.attrs[manifest.ATTRIBUTE] = manifest.made(file, notes, columns)
        else:
            for name, value in dict(notes.get("metadata", {})).items():
                root[f"metadata/{name}"] = value
