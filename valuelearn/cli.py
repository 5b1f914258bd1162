"""The front door: `valuelearn train | resume | replay-update | verify | evaluate | plot | reproduce |
ablate | report | solve | model | reach | support | doctor | check-env | dataset`.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import datetime
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

_LARGEST_SEED = 2**31 - 1

app = typer.Typer(
    help="Deep reinforcement learning in JAX in which the value head is the thing you swap.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

dataset = typer.Typer(
    help="Look at, check, convert, make and download recorded transitions.", no_args_is_help=True
)
app.add_typer(dataset, name="dataset")

_Source = Annotated[
    str, typer.Argument(metavar="PATH", help="A file, a folder of Minari's, or the name of a dataset.")
]
_Limit = Annotated[
    int | None, typer.Option("--max-episode-steps", min=1, help="Time limit of a D4RL file that tells none.")
]


def _run_folder(config: Path, env_id: str, seed: int) -> Path:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.stem}-{env_id.replace('/', '-')}-{seed}-{stamp}"


def _objective_names(overrides: list[str] | None) -> list[str]:
    """The arguments with a bare objective as a name: its other options are keys of their own."""
    return [re.sub(r"^objective=(\w+)$", r"objective.name=\1", text) for text in overrides or []]


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
    from agents import training
    from agents.experiment_config import ExperimentConfig
    from valuelearn.config import load, placing

    cfg = load(ExperimentConfig, config, overrides or [])
    folder = run or _run_folder(config, cfg.env.id, cfg.train.seed)
    with placing(config, overrides or []):
        training.train(cfg, folder, sys.argv, typer.echo)
    typer.echo(f"wrote {folder}")


@app.command()
def resume(run: Annotated[Path, typer.Argument(help="A folder that `train` left unfinished.")]) -> None:
    """Go on with a run that was interrupted or killed, from its newest checkpoint."""
    from agents import training
    from valuelearn.config import placing

    with placing(run / "config.yaml"):
        training.resume(run, sys.argv, typer.echo)
    typer.echo(f"wrote {run}")


@app.command("replay-update")
def replay_update(
    run: Annotated[Path, typer.Argument(help="A folder whose run stopped at a number that was not finite.")],
) -> None:
    """Make the update that a run stopped at once more; say where NaN or an infinity first arises."""
    from agents import flight
    from valuelearn.config import placing

    with placing(run / "config.yaml"):
        flight.replay_update(run, typer.echo)


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A folder that `train` wrote.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another.")],
) -> None:
    """Say whether two runs are the same in every bit, or from which step on they differ, and in what."""
    from agents import verification

    if not verification.verify(first, second, typer.echo):
        raise typer.Exit(1)


@app.command()
def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A folder that `train` wrote.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Over the run's `evaluation`; objective=cvar objective.tau=0.1 asks a stock_dqn for that.",
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Whole episodes to play with each seed.")] = 100,
    video: Annotated[
        Path | None, typer.Option(help="A .gif of one episode (atari/, mujoco/ and gym/).")
    ] = None,
    fitted: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET", help="Judge the policy by this dataset, too, by fitted Q evaluation."
        ),
    ] = None,
    updates: Annotated[int, typer.Option(min=1, help="Updates of --fitted.")] = 50_000,
    head: Annotated[str, typer.Option(help="The critics' head of --fitted.")] = "mse",
) -> None:
    """Play greedy episodes with a trained agent."""
    from agents import evaluation
    from valuelearn.config import placing
    from valuelearn.errors import UserError

    if fitted is None:
        _refuse_given(context, ("updates", "head"), "they are of --fitted DATASET, which is not given")
    else:
        _refuse_given(context, ("video",), "--fitted asks a dataset, and draws nothing")
        _evaluate_fitted(run, overrides or [], episodes, fitted, updates, head)
        return
    for text in overrides or []:
        if text.startswith("episodes="):
            raise UserError(f"argument {text!r}: how many are played is said by --episodes")
    arguments = [f"evaluation.{text}" for text in _objective_names(overrides)]
    with placing(run / "config.yaml", arguments):
        evaluation.evaluate_run(run, episodes, video, typer.echo, arguments)


def _evaluate_fitted(
    run: Path, overrides: list[str], episodes: int, dataset: str, updates: int, head: str
) -> None:
    import pydantic

    from agents import fitted
    from valuelearn import heads
    from valuelearn.config import placing
    from valuelearn.errors import UserError, did_you_mean

    if overrides:
        raise UserError(f"argument {overrides[0]!r}: --fitted judges the greedy policy, and takes no values")
    try:
        config = fitted.FittedConfig.model_validate({"head": head})
    except pydantic.ValidationError:
        known = [name for name in heads.NAMES if name != "iqn"]  # Its fractions do not enter these critics.
        mend = did_you_mean(head, known) or f"one of {', '.join(known)} is wanted"
        raise UserError(f"--head {head}: {mend}") from None
    with placing(run / "config.yaml"):
        fitted.evaluate(run, dataset, config, updates, episodes, typer.echo)


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `train` wrote.")],
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("curves.png"),
) -> None:
    """Draw the learning curves of runs, beside the published curve where there is one."""
    from agents import curves

    curves.plot(runs, out)
    typer.echo(f"wrote {out}")


@app.command()
def reproduce(
    context: typer.Context,
    env_id: Annotated[str, typer.Argument(help="Such as atari/breakout or mujoco/Hopper-v5.")],
    agent: Annotated[
        str, typer.Option(help="dqn_mse, dqn_huber_rmsprop, c51, qr_dqn, iqn or rainbow; sac of robots.")
    ],
    million_frames: Annotated[int, typer.Option(min=2, max=199, help="Atari: how far to train.")] = 3,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Atari: room on each side, in published means.")
    ] = 0.2,
    steps: Annotated[
        int, typer.Option(min=50_000, max=1_000_000, help="Robots: how far to train.")
    ] = 300_000,
    seeds: Annotated[int, typer.Option(min=1, help="Robots: how many runs, from --seed upwards.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Robots: folder of the table and the picture; --run if not given.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=_LARGEST_SEED, help="Fixes every random number of the run.")
    ] = 0,
    run: Annotated[Path | None, typer.Option(help="Folder of the run or runs, taken up if there.")] = None,
) -> None:
    """Train a published agent and compare the curves; exit code 1 where ours does not hold."""
    from benchmarks import reproduce_atari, reproduce_robots

    name = f"reproduce-{agent}-{env_id.replace('/', '-')}"
    if env_id.startswith("mujoco/"):
        _refuse_given(context, ("million_frames", "tolerance"), "robots take --steps and --seeds")
        folder = run or Path("runs") / f"{name}-{steps}"
        chosen = range(seed, seed + seeds)
        good = reproduce_robots.reproduce(
            env_id, agent, steps, chosen, folder, out or folder, sys.argv, typer.echo
        )
    else:
        _refuse_given(context, ("steps", "seeds", "out"), "Atari's games take --million-frames and --seed")
        folder = run or Path("runs") / f"{name}-{million_frames}M-{seed}"
        good = reproduce_atari.reproduce(
            env_id, agent, million_frames, seed, tolerance, folder, sys.argv, typer.echo
        )
    typer.echo(f"wrote {folder}")
    raise typer.Exit(not good)


def _refuse_given(context: typer.Context, names: tuple[str, ...], reason: str) -> None:
    """Refuse options that have no meaning beside the others."""
    from valuelearn.errors import UserError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(f"--{name.replace('_', '-')}: {reason}")


@app.command()
def ablate(
    study: Annotated[Path, typer.Argument(help="A YAML file, such as benchmarks/studies/smoke.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values over the study's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; runs/NAME if not given.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trials that run at once.")] = 1,
) -> None:
    """Change one thing, over seeds and tasks, and say whether it made a difference."""
    from benchmarks import ablate

    folder = out or Path("runs") / study.stem
    ablate.ablate(study, overrides or [], folder, jobs, sys.argv, typer.echo)
    typer.echo(f"wrote {folder}")


@app.command()
def report(study: Annotated[Path, typer.Argument(help="A folder that `ablate` wrote.")]) -> None:
    """Write a page on a finished study: curves, scores with intervals, cost, and how it was made."""
    from benchmarks import report

    typer.echo(f"wrote {report.report(study)}")


@app.command()
def solve(
    process: Annotated[Path, typer.Argument(help="A YAML file, such as agents/processes/two_step.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Such as objective=cvar objective.tau=0.1"),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A picture of the return's law to write.")] = None,
) -> None:
    """Find the best that any policy can do on a finite process, for any objective of the return's law."""
    from agents import solving
    from valuelearn.config import load, placing

    arguments = _objective_names(overrides)
    config = load(solving.SolveConfig, process, arguments)
    with placing(process, arguments):
        solving.solve(config, plot, typer.echo)


@app.command()
def model(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as agents/dynamics/mujoco.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as dataset=FILE")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("model"),
) -> None:
    """Fit a model of an environment's dynamics to a dataset, and report how good it is."""
    from agents import model_fitting, models
    from valuelearn.config import load, placing

    cfg = load(models.ModelConfig, config, overrides or [])
    with placing(config, overrides or []):
        model_fitting.fit(cfg, out, sys.argv, typer.echo)
    typer.echo(f"wrote {out}")


@app.command()
def reach(
    run: Annotated[Path, typer.Argument(help="A finished run in rollouts of `train`.")],
) -> None:
    """Draw what a run in rollouts holds of the states that they end in, and where its model leads."""
    from agents import reach_report
    from valuelearn.config import placing

    with placing(run / "config.yaml"):
        reach_report.report(run, typer.echo)
    typer.echo(f"wrote {run / 'reach.png'}")


@app.command()
def support(
    reward_range: Annotated[tuple[float, float], typer.Option(help="Least and greatest reward of a step.")],
    gamma: Annotated[float, typer.Option(help="Discount per step.")] = 0.99,
    n_step: Annotated[int, typer.Option(min=1, help="Steps of a target.")] = 1,
    head: Annotated[str, typer.Option(help="The value head.")] = "hl_gauss",
    num_bins: Annotated[int, typer.Option(min=2, help="Bins of the support.")] = 51,
    sigma_ratio: Annotated[float, typer.Option(min=0, help="Smoothing of hl_gauss, in bin widths.")] = 0.75,
) -> None:
    """Recommend the support of a value head, with the reason."""
    from valuelearn import heads, support_doctor
    from valuelearn.errors import UserError, did_you_mean

    if head not in heads.WITH_SUPPORT:
        known = f"a head with a support is one of {', '.join(heads.WITH_SUPPORT)}"
        raise UserError(f"--head {head}: {did_you_mean(head, heads.WITH_SUPPORT) or known}")
    wanted = support_doctor.Support(0.0, 0.0, num_bins, gamma, sigma_ratio if head == "hl_gauss" else 0.0)
    try:
        typer.echo(support_doctor.prescription(wanted, *reward_range, n_step))
    except ValueError as error:
        raise UserError(f"support: {error}") from None


@app.command()
def doctor() -> None:
    """Say what this machine has and lacks for training; exit code 1 where the quick config does not run."""
    from agents import doctor

    if not doctor.examine(typer.echo):
        raise typer.Exit(1)


@app.command("check-env")
def check_env(
    env_id: Annotated[
        str, typer.Argument(metavar="ID", help="Such as minatar/breakout, CartPole-v1 or my_package:Mine-v0.")
    ],
    steps: Annotated[int, typer.Option(min=8, help="Steps that each part is played.")] = 6000,
    seed: Annotated[
        int, typer.Option(min=0, max=_LARGEST_SEED, help="Of random actions, and of all else.")
    ] = 0,
) -> None:
    """Play an environment and say which guarantees it gives; exit code 1 where one does not hold."""
    from envs import contract

    if not contract.check(env_id, seed, steps, typer.echo):
        raise typer.Exit(1)


@dataset.command("info")
def dataset_info(source: _Source, limit: _Limit = None) -> None:
    """Print a dataset's card: rows, episodes, returns, scores, and what is odd about it."""
    from envs.datasets import describe

    describe.info(source, limit, typer.echo)


@dataset.command("check")
def dataset_check(
    source: _Source,
    env: Annotated[str | None, typer.Option(help="The environment that it shall be of.")] = None,
    limit: _Limit = None,
) -> None:
    """Look for faults; exit code 2 where there is one."""
    from envs.datasets import describe

    describe.check(source, env, limit, typer.echo)


@dataset.command("convert")
def dataset_convert(
    source: _Source,
    out: Annotated[Path, typer.Argument(help="A new file, or for Minari a new folder such as mine-v0.")],
    form: Annotated[str, typer.Option("--format", help="valuelearn, d4rl or minari.")] = "valuelearn",
    limit: _Limit = None,
) -> None:
    """Write a dataset in another format."""
    from envs.datasets import describe

    describe.convert(source, out, form, limit, typer.echo)
    typer.echo(f"wrote {out}")


@dataset.command("make")
def dataset_make(
    source: Annotated[
        Path, typer.Argument(help="A finished run, or a YAML file to train from first, into OUT/run.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values over the YAML file's.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the datasets.")] = Path("datasets"),
    quality: Annotated[
        list[str],
        typer.Option(help="random, medium, medium-replay, medium-expert or expert; may be repeated."),
    ] = ["medium"],  # noqa: B006  # As typer takes it.
    rows: Annotated[int, typer.Option(min=1, help="Transitions of each policy.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, max=_LARGEST_SEED, help="Fixes what is recorded.")] = 0,
) -> None:
    """Record datasets of an agent's own, by D4RL's protocol; killed half-way, the same command goes on."""
    from agents import recorder
    from valuelearn.config import placing

    arguments = overrides or []
    with placing(source, arguments):
        run = recorder.trained(source, arguments, quality, out / "run", sys.argv, typer.echo)
    with placing(run / "config.yaml"):
        recorder.make(run, quality, rows, out, seed, typer.echo)


@dataset.command("download")
def dataset_download(
    name: Annotated[str, typer.Argument(help="A dataset of D4RL's, such as halfcheetah-medium-v2.")],
    into: Annotated[Path | None, typer.Option(help="Folder to keep it in; D4RL's own if not given.")] = None,
) -> None:
    """Download a published dataset, going on where an earlier try broke off."""
    from envs.datasets import download

    typer.echo(f"wrote {download.fetch(download.named(name), into or download.folder(), echo=typer.echo)}")


def _keep_compiled_programs() -> None:
    """Have JAX keep what it compiles for the next run, unless the user has chosen a place for it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "valuelearn"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    # Small programs, too: a run has dozens, which take a second or two together.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _lacking(error: Exception) -> str | None:
    """A sentence on what the machine lacks, memory or a disk that can be written; None for other errors."""
    of_device = type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
    if isinstance(error, MemoryError) or of_device:
        less = "smaller batches, networks and replays, or fewer copies and seeds, take less"
        told = str(error).partition("\n")[0] or type(error).__name__
        return f"out of memory ({told}); {less}"
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{error.filename or 'the disk'}: {error.strerror}"
    return None


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2, an interruption 130."""
    from valuelearn.errors import Interrupted, UserError

    _keep_compiled_programs()
    try:
        app()
    except UserError as error:
        typer.echo(f"valuelearn: {error}", err=True)
        raise SystemExit(2) from None
    except Interrupted as interrupted:
        typer.echo(f"valuelearn: {interrupted}", err=True)
        raise SystemExit(130) from None
    except Exception as error:
        if (sentence := _lacking(error)) is None:
            raise
        typer.echo(f"valuelearn: {sentence}", err=True)
        raise SystemExit(2) from None
