"""Recorded transitions for the tests."""

from pathlib import Path

import numpy as np

import envs
from envs import datasets
from envs.datasets import Dataset


def made(ends, finished=True, obs_size=3, seed=0, known=True):
    """A dataset of episodes as (steps, terminated); the last may be left unfinished."""
    random = np.random.default_rng(seed)
    rows = sum(steps for steps, _ in ends)
    last, terminal = np.zeros(rows, bool), np.zeros(rows, bool)
    at = np.cumsum([steps for steps, _ in ends]) - 1
    last[at] = True
    terminal[at] = [terminated for _, terminated in ends]
    truncated = last & ~terminal
    if not finished:
        terminal[-1] = truncated[-1] = False
    obs = random.normal(size=(rows, obs_size)).astype(np.float32)
    next_obs = np.roll(obs, -1, 0)
    next_obs[at] = random.normal(size=(len(at), obs_size))
    return Dataset(
        obs=obs,
        action=random.uniform(-1, 1, (rows, 2)).astype(np.float32),
        reward=random.normal(size=rows).astype(np.float32),
        discount=1 - terminal.astype(np.float32),
        truncated=truncated,
        last=last,
        next_obs=next_obs,
        infos={"qpos": random.normal(size=(rows, 4)), "logp": random.normal(size=rows).astype(np.float32)},
        notes={"env_id": "mujoco/Hopper-v5"},
    )


def played(rows):
    """So many steps of a pendulum on the host, cut off after the last."""
    env = envs.make("gym/Pendulum-v1", num_envs=1)
    obs, found = env.reset(0), []
    for index in range(rows):
        action = np.sin([[index]]).astype(np.float32)
        step = env.step(action)
        one = (obs, action, step.reward, step.discount, step.last, step.last, step.next_obs)
        found.append([column[0] for column in one])
        obs = step.obs
    env.close()
    columns = [np.stack(column) for column in zip(*found, strict=True)]
    columns[5][-1] = True
    return Dataset(*columns)


def ogbench_arrays():
    """Two trajectories of 3 and 2 transitions, in 4 and 3 rows."""
    random = np.random.default_rng(0)
    return {
        "observations": random.normal(size=(7, 3)).astype(np.float32),
        "actions": random.uniform(-1, 1, (7, 2)).astype(np.float32),
        "terminals": np.array([0, 0, 0, 1, 0, 0, 1], np.float32),
        "qpos": random.normal(size=(7, 5)),
    }


def sound(folder: Path) -> Path:
    """A folder with a sound file of 300 rows in each format, to be copied and spoilt."""
    dataset = made([(100, False), (150, True), (50, False)], finished=False)
    datasets.save(dataset, folder / "d4rl.hdf5", "d4rl")
    datasets.save(dataset, folder / "own.hdf5")
    datasets.save(dataset, folder / "minari-v0", "minari")
    np.savez_compressed(folder / "ogbench.npz", **ogbench_arrays())
    return folder
