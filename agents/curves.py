"""Draw the learning curves of runs."""

from pathlib import Path

from agents import experiment
from valuelearn import logs, plots

_REFERENCE = Path(__file__).parent.parent / "benchmarks" / "reference" / "atari_dopamine.csv"


def plot(folders: list[Path], file: Path) -> None:
    """Draw the runs' learning curves, beside the published one where they are of one Atari game.

    Raises:
        RunFolderError: where a folder is not a run, or the picture cannot be written.
    """
    logs.check_new_file(file, (".png", ".pdf", ".svg"))
    configs = [experiment.load_run(folder) for folder in folders]
    ids = {cfg.env.id for cfg in configs}
    reference = None
    if len(ids) == 1 and (env_id := ids.pop()).startswith("atari/"):
        game = env_id.removeprefix("atari/").replace("_", "")
        published = plots.read_reference(_REFERENCE, game, "dqn_adam_mse")
        if published is not None:
            reference = ("Dopamine, DQN (Adam, MSE), 5 seeds", *published)
    title = ", ".join(sorted({cfg.env.id for cfg in configs}))
    plots.curves(folders, file, title, reference)
