"""Run a study's trials, as many at once as asked, and say what came of them.

Stopped or killed anywhere, the same command goes on: finished trials are kept, interrupted ones are
resumed, and only what is missing runs.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, NamedTuple

import rich.console
import rich.live
import rich.table

from agents import experiment
from benchmarks import scores
from benchmarks.scores import Score
from benchmarks.study import Settings, StudyConfig, Trial, trials, tuning_trials
from valuelearn import config, logs, signals
from valuelearn.errors import Interrupted, UserError

_POLL_SECONDS = 0.2

Say = Callable[[str], None]


class StudyError(UserError):
    """A study whose trials did not all succeed."""


class _Running(NamedTuple):
    """A trial under way."""

    trial: Trial
    process: subprocess.Popen
    log: IO[str]

    def close(self) -> None:
        """Let go of what is ours of it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.log.close()


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
    study = config.load(StudyConfig, path, arguments)
    shared = (path.parent / study.config).resolve()
    study = study.model_copy(update={"config": str(shared)})  # The study's copy in `out` has no siblings.
    grid = tuning_trials(study, path, out)
    for trial in grid or trials(study, path, out, {}):
        _check(path, trial)
    out.mkdir(parents=True, exist_ok=True)
    logs.write_whole(out / "study.yaml", config.dump(study))
    logs.write_whole(out / "command.txt", shlex.join(command) + "\n")
    _run(grid, jobs, say)
    best = _best(grid)
    for method, value in best.items():
        say(f"{scores.name(method)}: the best is {', '.join(map('='.join, value))}")
    chosen = trials(study, path, out, best)
    for trial in chosen:
        _check(path, trial)
    _run(chosen, jobs, say)
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
    found = trials(study, path, out, _best(grid)) if all(map(_finished, grid)) else []
    missing = [trial for trial in grid + found if not _finished(trial)]
    if missing:
        count = f"{len(missing)} trials are not finished"
        raise StudyError(f"{out}: {count}; go on with: {(out / 'command.txt').read_text().strip()}")
    return Finished(study, found, scores.collect(found), scores.collect(grid))


def _best(grid: list[Trial]) -> dict[Settings, Settings]:
    return scores.best(scores.collect(grid)) if grid else {}


def _check(path: Path, trial: Trial) -> None:
    """Refuse a trial that could not run, or whose folder holds something else."""
    try:
        wanted = trial.load()
    except config.ConfigError as error:
        raise config.ConfigError(f"{path}: {error}") from None
    if _started(trial) and experiment.load_run(trial.folder) != wanted:
        raise StudyError(
            f"{trial.folder}: it holds another run, as the study was changed; name another --out"
        )


def _started(trial: Trial) -> bool:
    return (trial.folder / "config.yaml").exists()


def _finished(trial: Trial) -> bool:
    return (trial.folder / "curve.png").exists()


def _start(trial: Trial) -> _Running:
    """The trial as a process of its own, which takes up what there is of it."""
    trial.folder.parent.mkdir(parents=True, exist_ok=True)
    new = (trial.config, *trial.arguments, "--run", trial.folder)
    what = ("resume", trial.folder) if _started(trial) else ("train", *new)
    log = trial.folder.with_name(f"{trial.folder.name}.log").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.trial", *map(str, what)],
        stdin=subprocess.PIPE,  # Its end is ours: see `benchmarks.trial`.
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is ours alone; `_run` hands it on.
    )
    return _Running(trial, process, log)


def _run(all_trials: list[Trial], jobs: int, say: Say) -> None:
    """Run the trials that are not finished."""
    waiting = [trial for trial in all_trials if not _finished(trial)]
    running: list[_Running] = []
    failed: list[Trial] = []
    console = rich.console.Console(stderr=True)
    live = rich.live.Live(
        get_renderable=lambda: _table(all_trials, failed), console=console, auto_refresh=False
    )
    with signals.stop_requests() as stopping:
        if console.is_terminal:
            live.start()
        try:
            while waiting or running:
                if stopping():
                    _stop(running)
                    raise Interrupted("stopped; the same command goes on")
                while waiting and len(running) < jobs:
                    running.append(_start(waiting.pop(0)))
                time.sleep(_POLL_SECONDS)
                for ended in [one for one in running if one.process.poll() is not None]:
                    running.remove(ended)
                    ended.close()
                    if ended.process.returncode:
                        failed.append(ended.trial)
                    if not console.is_terminal:
                        say(f"{ended.trial.folder}: {_state(ended.trial, failed)}")
                live.refresh()
        finally:
            _kill(running)
            live.stop()
    if failed:
        first = failed[0].folder
        log = first.with_name(f"{first.name}.log")
        last = (log.read_text().strip() or "it said nothing").splitlines()[-1]
        raise StudyError(f"{len(failed)} of {len(all_trials)} trials failed; the first said in {log}: {last}")


def _stop(running: Iterable[_Running]) -> None:
    """Have every trial save and end."""
    for one in running:
        one.process.send_signal(signal.SIGINT)
    for one in running:
        one.process.wait()


def _kill(running: Iterable[_Running]) -> None:
    for one in running:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
        one.close()


def _state(trial: Trial, failed: list[Trial]) -> str:
    """How far a trial has come, in words."""
    if _finished(trial):
        return "finished"
    if trial in failed:
        return "failed"
    try:
        frames = logs.read_timing(trial.folder)["env_frames"]
    except logs.RunFolderError:  # There is no such table yet, or half a row.
        return "starting" if _started(trial) else "waiting"
    return f"{int(frames[-1]):,} frames" if len(frames) else "starting"


def _table(all_trials: list[Trial], failed: list[Trial]) -> rich.table.Table:
    table = rich.table.Table("method", "task", "seeds", "state", expand=True)
    for trial in all_trials:
        method = scores.name((*trial.method, *trial.tuned))
        table.add_row(method, trial.env_id, trial.folder.name, _state(trial, failed))
    return table
