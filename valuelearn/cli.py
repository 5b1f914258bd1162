"""The front door: `valuelearn train | evaluate | plot`.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import datetime
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Deep reinforcement learning in JAX in which the value head is the thing you swap.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _run_folder(config: Path, env_id: str, seed: int) -> Path:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.stem}-{env_id.replace('/', '-')}-{seed}-{stamp}"


@app.command()
def train(
    config: Annotated[
        Path, typer.Argument(help="A YAML file, such as agents/configs/minatar/pqn_hl_gauss.yaml.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values over the file's.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder to write; made under runs/ if not given.")] = None,
) -> None:
    """Train an agent from a config; leave metrics, a curve and parameters in a run folder."""
    from agents import run as runner
    from agents.experiment import ExperimentConfig
    from valuelearn.config import load, placing

    cfg = load(ExperimentConfig, config, overrides or [])
    folder = run or _run_folder(config, cfg.env.id, cfg.train.seed)
    with placing(config, overrides or []):
        runner.train(cfg, folder, sys.argv, typer.echo)
    typer.echo(f"wrote {folder}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder that `train` wrote.")],
    episodes: Annotated[int, typer.Option(min=1, help="Whole episodes to play with each seed.")] = 100,
    video: Annotated[Path | None, typer.Option(help="A .gif of one episode (atari/ and gym/).")] = None,
) -> None:
    """Play greedy episodes with a trained agent."""
    from agents import run as runner
    from valuelearn.config import placing

    with placing(run / "config.yaml"):
        runner.evaluate_run(run, episodes, video, typer.echo)


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `train` wrote.")],
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("curves.png"),
) -> None:
    """Draw the learning curves of runs, beside the published curve where there is one."""
    from agents import run as runner

    runner.plot(runs, out)
    typer.echo(f"wrote {out}")


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    from valuelearn.errors import UserError

    try:
        app()
    except UserError as error:
        typer.echo(f"valuelearn: {error}", err=True)
        raise SystemExit(2) from None
