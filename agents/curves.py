"""Draw the learning curves of runs, beside the published ones."""

import csv
from pathlib import Path

import numpy as np

from agents import experiment
from valuelearn import logs, plots

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


def plot(folders: list[Path], file: Path, agent: str | None = None) -> None:
    """Draw the runs' learning curves, beside a published one where they are of one game or robot.

    `agent` names the published one.

    Raises:
        RunFolderError: where a folder is not a run, or the picture cannot be written.
    """
    logs.check_new_file(file, (".png", ".pdf", ".svg"))
    configs = [experiment.load_run(folder) for folder in folders]
    ids = sorted({config.env.id for config in configs})
    title = ", ".join(ids)
    kind = ids[0].partition("/")[0]
    beside = None
    # Published are curves over frames, of which a run on a dataset has none.
    if len(ids) == 1 and kind in _USUAL and all(config.offline is None for config in configs):
        beside = published(ids[0], agent or _USUAL[kind])
    if beside is not None and kind == "mujoco":
        title = f"{title}; published: v2, with older physics"
    plots.curves([(folder.name, [folder]) for folder in folders], file, title, beside)
