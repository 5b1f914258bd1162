"""OGBench's .npz files: trajectories of T transitions in T + 1 rows (Park et al., 2025).

`terminals` is 1 in the last row of a trajectory, which holds its last observation and a dummy action,
and says nothing of the process. Files of one task have `rewards`, and `masks` that are 0 only where
the task is completed. In the others both follow from the goal that is chosen later: they are read as
rewards of 0 that never terminate.
"""

from pathlib import Path

import numpy as np

from envs.datasets import arrays, npy
from envs.datasets.dataset import Dataset, DatasetError

_NEEDED = ("observations", "actions", "terminals")


def read(file: Path) -> Dataset:
    """The transitions of a file; `qpos`, `qvel` and the like become infos.

    Raises:
        DatasetError: where the file is not what it should be.
    """
    remarks: list[str] = []
    raw = npy.read_npz(file, _NEEDED)
    for name, array in raw.items():
        if not array.ndim:
            raise DatasetError(f"{file}: {name} has no rows; an array is wanted")
    arrays.check_lengths(file, {name: len(array) for name, array in raw.items()})
    end = arrays.flags(file, "terminals", raw["terminals"], remarks)
    if not end[-1]:
        raise DatasetError(f"{file}: terminals is 0 in the last row; every trajectory is to end in a 1")
    start, last = ~end, end[1:]
    if not start.any():
        raise DatasetError(f"{file}: terminals is 1 in every row; no transition is left")
    obs = arrays.observations(file, "observations", raw["observations"], remarks)
    if "rewards" in raw:
        reward = arrays.rewards(file, "rewards", raw["rewards"], remarks)
    else:
        reward = np.zeros(len(end), np.float32)
        remarks.append("rewards are missing; read as 0")
    masks = arrays.flags(file, "masks", raw["masks"], remarks) if "masks" in raw else np.ones(len(end), bool)
    inside = np.flatnonzero(~masks[:-1] & start[:-1] & ~last)
    if len(inside):
        remarks.append(f"masks is 0 in {len(inside)} rows inside trajectories; each ends an episode there")
    kept = start[:-1]
    ended = (last | ~masks[:-1])[kept]
    known = {*_NEEDED, "rewards", "masks"}
    return Dataset(
        obs=obs[:-1][kept],
        action=arrays.actions(file, "actions", raw["actions"], remarks)[:-1][kept],
        reward=reward[:-1][kept],
        discount=masks[:-1][kept].astype(np.float32),
        truncated=(last & masks[:-1])[kept],
        last=ended,
        next_obs=obs[1:][kept],
        infos={name: array[:-1][kept] for name, array in raw.items() if name not in known},
        notes={"remarks": remarks},
    )
