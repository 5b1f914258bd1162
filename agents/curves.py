"""Draw the learning curves of runs, beside the published ones."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents import experiment
from agents.experiment_config import ExperimentConfig
from valuelearn import logs, plots
from valuelearn.logs import RunFolderError

_REFERENCE = Path(__file__).parent.parent / "benchmarks" / "reference"
_LABELS = {
    "dqn_adam_mse": "DQN (Adam, MSE)",
    "dqn_rmsprop_huber": "DQN (RMSProp, Huber)",
    "c51": "C51",
    "qr_dqn_n3_per": "QR-DQN (3-step, prioritised)",
    "iqn": "IQN",
    "rainbow": "Rainbow",
    "sac": "SAC",
}
_USUAL = {"atari": "dqn_adam_mse", "mujoco": "sac"}  # Drawn where no other agent is asked for.


def _read(table: str, task: str, agent: str) -> dict[str, np.ndarray]:
    """The columns of numbers, f64[K] each, of an agent on a task; none where the table has no such rows."""
    with (_REFERENCE / table).open(newline="") as file:
        header = next(csv.reader(file))
        # Looked for before they are parsed: of 70,000 lines 200 are wanted.
        found = list(csv.reader(line for line in file if line.startswith(f"{task},{agent},")))
    columns = np.array([row[2:] for row in found], float).T
    return dict(zip(header[2:], columns, strict=True)) if found else {}


def published(env_id: str, agent: str) -> plots.Published | None:
    """Dopamine's curve of one of its agents (see `benchmarks/reference/`) on an Atari game or a robot.

    With the range of five seeds on a game, and one standard deviation to either side on a robot, which is
    the same whatever its version: theirs was the second.
    """
    kind, _, task = env_id.partition("/")
    if kind == "atari" and (found := _read("atari_dopamine.csv", task.replace("_", ""), agent)):
        middle = found["million_frames"] * 1e6 - 5e5
        label = f"Dopamine, {_LABELS[agent]}, 5 seeds"
        return plots.Published(label, middle, found["mean_return"], found["min"], found["max"])
    robot = task.partition("-")[0]
    if kind == "mujoco" and (found := _read("mujoco_dopamine.csv", robot.lower(), agent)):
        mean, std = found["mean_return"], found["std"]
        label = f"Dopamine, {_LABELS[agent]}, 5 seeds, mean ± std, {robot}-v2 (older physics)"
        return plots.Published(label, found["environment_steps"], mean, mean - std, mean + std)
    return None


class Axes(NamedTuple):
    """What a run's curve is drawn against, and what it shows."""

    clock: str
    returns: str

    def over(self) -> str:
        """Both in words."""
        return f"{self.returns} over {self.clock}"


TRAINING = Axes("environment frames", "training return")


def axes(config: ExperimentConfig) -> Axes:
    """Of a run that does not learn in the environment, the policy of the moment is played there."""
    if config.offline is not None:
        return Axes("updates", "return of the policy")
    if config.rollouts is not None:
        return Axes("steps of rollouts", "return of the policy")
    return TRAINING


def _curve(config: ExperimentConfig) -> ExperimentConfig:
    """What runs have in common that are averaged: all but the seeds."""
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": 0, "seeds": 1})})


def plot(folders: list[Path], file: Path, agent: str | None = None) -> None:
    """Draw the runs' learning curves, beside a published one where they are of one game or robot.

    Runs of one config are seeds of one curve. `agent` names the published one.

    Raises:
        RunFolderError: where a folder is not a run, the runs are counted in different units, or the
            picture cannot be written.
    """
    logs.check_new_file(file, (".png", ".pdf", ".svg"))
    configs = {folder: experiment.load_run(folder) for folder in folders}
    first = axes(configs[folders[0]])
    for folder, config in configs.items():
        if axes(config) != first:
            raise RunFolderError(
                f"{folder}: its curve shows the {axes(config).over()}, and that of {folders[0]} the "
                f"{first.over()}; runs of one kind are wanted"
            )
    groups: list[list[Path]] = []
    for folder, config in configs.items():
        same = (group for group in groups if _curve(configs[group[0]]) == _curve(config))
        if (group := next(same, None)) is None:
            groups.append(group := [])
        group.append(folder)
    labels = [group[0].name + (f" and {len(group) - 1} more" if len(group) > 1 else "") for group in groups]
    ids = sorted({config.env.id for config in configs.values()})
    title = ", ".join(ids)
    kind = ids[0].partition("/")[0]
    beside = None
    # Published are curves over frames of the environment, in which other runs do not learn.
    if len(ids) == 1 and kind in _USUAL and first == TRAINING:
        beside = published(ids[0], agent or _USUAL[kind])
    if beside is not None and kind == "mujoco":
        title = f"{title}; published: v2, with older physics"
    names = {"title": title, "xlabel": first.clock, "ylabel": first.returns}
    plots.curves(list(zip(labels, groups, strict=True)), file, names, beside)
