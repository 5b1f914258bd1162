"""Draw the learning curves of runs."""

from pathlib import Path

from agents import experiment
from valuelearn import logs, plots

_REFERENCE = Path(__file__).parent.parent / "benchmarks" / "reference" / "atari_dopamine.csv"
_LABELS = {
    "dqn_adam_mse": "DQN (Adam, MSE)",
    "dqn_rmsprop_huber": "DQN (RMSProp, Huber)",
    "c51": "C51",
    "qr_dqn_n3_per": "QR-DQN (3-step, prioritised)",
    "iqn": "IQN",
    "rainbow": "Rainbow",
}


def published(env_id: str, agent: str) -> plots.Published | None:
    """Dopamine's curve of one of its agents (see `benchmarks/reference/`) on an Atari game."""
    kind, _, game = env_id.partition("/")
    return plots.read_reference(_REFERENCE, game.replace("_", ""), agent) if kind == "atari" else None


def plot(folders: list[Path], file: Path, agent: str = "dqn_adam_mse") -> None:
    """Draw the runs' learning curves, beside `agent`'s published one where they are of one Atari game.

    Raises:
        RunFolderError: where a folder is not a run, or the picture cannot be written.
    """
    logs.check_new_file(file, (".png", ".pdf", ".svg"))
    ids = sorted({experiment.load_run(folder).env.id for folder in folders})
    curve = published(ids[0], agent) if len(ids) == 1 else None
    beside = None if curve is None else (f"Dopamine, {_LABELS[agent]}, 5 seeds", curve)
    plots.curves(folders, file, ", ".join(ids), beside)
