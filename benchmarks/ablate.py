"""Run a study's trials, as many at once as asked, and say what came of them.

Stopped or killed anywhere, the same command goes on: finished trials are kept, interrupted ones are
resumed, and only what is missing runs.
"""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import rich.console
import rich.live
import rich.table

from agents import experiment
from benchmarks import scores
from benchmarks.scores import Score
from benchmarks.study import Settings, StudyConfig, Trial, trials, tuning_trials
from benchmarks.workers import Job, workers
from valuelearn import config, logs, signals
from valuelearn.errors import Interrupted, UserError

_POLL_SECONDS = 0.2

Say = Callable[[str], None]


class StudyError(UserError):
    """A study whose trials did not all succeed."""


class Finished(NamedTuple):
    """A study, and what came of it."""

    study: StudyConfig
    trials: list[Trial]
    table: list[Score]
    tuning: list[Score]


def ablate(path: Path, arguments: list[str], out: Path, jobs: int, command: list[str], say: Say) -> None:
    """Run what is missing of the study in `path`, with `key=value` over its values, into `out`.

    Raises:
        ConfigError: for a mistake in the study or in a config that it makes, before anything runs.
        StudyError: where `out` holds another study, or a trial failed.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    study = config.load(StudyConfig, path, arguments).anchored(path.parent)
    grid = tuning_trials(study, path, out)
    for trial in grid or trials(study, path, out, {}):
        _check(trial)
    out.mkdir(parents=True, exist_ok=True)
    with logs.held(out):
        logs.write_whole(out / "study.yaml", config.dump(study))
        logs.write_whole(out / "command.txt", shlex.join(command) + "\n")
        _run(study, grid, jobs, say)
        best = _best(grid)
        for method, value in best.items():
            say(f"{scores.name(method)}: the best is {', '.join(map('='.join, value))}")
        chosen = trials(study, path, out, best)
        for trial in chosen:
            _check(trial)
        _run(study, chosen, jobs, say)
    done = load_finished(out)
    scores.write(out / "scores.csv", done.table, done.tuning)
    for line in scores.summary(study, done.table):
        say(line)


def load_finished(out: Path) -> Finished:
    """The study in `out`.

    Raises:
        StudyError: where there is none, or one with trials missing.
    """
    path = out / "study.yaml"
    if not path.is_file():
        raise StudyError(f"{out}: this is not the folder of a study: it has no study.yaml")
    study = config.load(StudyConfig, path)
    grid = tuning_trials(study, path, out)
    found = trials(study, path, out, _best(grid)) if all(trial.finished() for trial in grid) else []
    missing = [trial for trial in grid + found if not trial.finished()]
    if missing:
        count = f"{len(missing)} trials are not finished"
        raise StudyError(f"{out}: {count}; go on with: {(out / 'command.txt').read_text().strip()}")
    return Finished(study, found, scores.collect(found), scores.collect(grid))


def _best(grid: list[Trial]) -> dict[Settings, Settings]:
    return scores.best(scores.collect(grid)) if grid else {}


def _check(trial: Trial) -> None:
    """Refuse a trial whose folder holds something else."""
    if trial.started() and experiment.load_run(trial.folder) != trial.load():
        raise StudyError(
            f"{trial.folder}: it holds another run, as the study was changed; name another --out"
        )


def _run(study: StudyConfig, all_trials: list[Trial], jobs: int, say: Say) -> None:
    """Run the trials that are not finished."""
    waiting = [trial for trial in all_trials if not trial.finished()]
    running: dict[Trial, Job] = {}
    failed: list[Trial] = []
    if not waiting:
        return
    console = rich.console.Console(stderr=True)
    live = rich.live.Live(
        get_renderable=lambda: _table(all_trials, failed), console=console, auto_refresh=False
    )
    with workers(study, jobs) as (most, start), signals.stop_requests() as stopping:
        if console.is_terminal:
            live.start()
        try:
            while waiting or running:
                if stopping():
                    for job in running.values():
                        job.stop()
                    raise Interrupted("stopped; the same command goes on")
                while waiting and len(running) < most:
                    running[waiting[0]] = start(waiting[0])
                    waiting.pop(0)
                time.sleep(_POLL_SECONDS)
                codes = {trial: job.poll() for trial, job in running.items()}
                for trial in [trial for trial, code in codes.items() if code is not None]:
                    del running[trial]
                    failed += [trial] if codes[trial] else []
                    if not console.is_terminal:
                        say(f"{trial.folder}: {_state(trial, failed)}")
                live.refresh()
        finally:
            for job in running.values():
                job.kill()
            live.stop()
    if failed:
        log = failed[0].log
        last = (log.read_text().strip() or "it said nothing").splitlines()[-1]
        raise StudyError(f"{len(failed)} of {len(all_trials)} trials failed; the first said in {log}: {last}")


def _state(trial: Trial, failed: list[Trial]) -> str:
    """How far a trial has come, in words."""
    if trial.finished():
        return "finished"
    if trial in failed:
        return "failed"
    try:
        unit, come = logs.clock(logs.read_timing(trial.folder))
    except logs.RunFolderError:  # There is no such table yet, or half a row.
        return "starting" if trial.started() else "waiting"
    return f"{int(come[-1]):,} {unit}" if len(come) else "starting"


def _table(all_trials: list[Trial], failed: list[Trial]) -> rich.table.Table:
    table = rich.table.Table("method", "task", "seeds", "state", expand=True)
    for trial in all_trials:
        method = scores.name((*trial.method, *trial.tuned))
        table.add_row(method, trial.task, trial.folder.name, _state(trial, failed))
    return table
