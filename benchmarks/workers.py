"""Where a study's trials run: as processes of this machine, or as tasks of a Ray cluster.

A trial is a process of its own either way. It dies with the process that started it, and whoever
starts it again goes on from its checkpoint: so a lost Ray worker costs what it did since then.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from benchmarks.study import StudyConfig, Trial
from valuelearn.errors import UserError

_LOST_WORKERS = 10  # Of one trial, before it counts as failed.


class Job(Protocol):
    """A trial under way."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def stop(self) -> None:
        """Have it save and end, and wait for that."""

    def kill(self) -> None:
        """End it at once, if it still runs."""


class _Process:
    """A trial as a process of this machine."""

    def __init__(self, trial: Trial) -> None:
        trial.folder.parent.mkdir(parents=True, exist_ok=True)
        new = (trial.config, *trial.arguments, "--run", trial.folder)
        what = ("resume", trial.folder) if trial.started() else ("train", *new)
        self._log = trial.log.open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.trial", *map(str, what)],
            stdin=subprocess.PIPE,  # Its end is ours: see `benchmarks.trial`.
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is ours to hand on.
        )

    def poll(self) -> int | None:
        if (code := self._process.poll()) is not None:
            self._close()
        return code

    def wait(self) -> int:
        code = self._process.wait()
        self._close()
        return code

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self.wait()

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait()

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._log.close()


def _run(trial: Trial) -> int:
    """A trial from its start, or from where it was left, to its exit code; what a Ray worker does."""
    process = _Process(trial)
    try:
        return process.wait()
    except KeyboardInterrupt:  # How Ray hands on that the task was cancelled.
        process.stop()
        raise


class _Task:
    """A trial as a task of a Ray cluster."""

    def __init__(self, ray: Any, task: Any, trial: Trial) -> None:
        self._ray = ray
        self._ref = task.remote(trial._replace(folder=trial.folder.absolute()))

    def poll(self) -> int | None:
        return self._result(timeout=0)

    def stop(self) -> None:
        self._ray.cancel(self._ref)
        self._result(timeout=None)

    def kill(self) -> None:
        self._ray.cancel(self._ref, force=True)

    def _result(self, timeout: float | None) -> int | None:
        if not self._ray.wait([self._ref], timeout=timeout)[0]:
            return None
        try:
            return self._ray.get(self._ref)
        except self._ray.exceptions.RayError:  # Cancelled, or its workers were lost again and again.
            return 1


@contextlib.contextmanager
def workers(study: StudyConfig, jobs: int) -> Iterator[tuple[int, Callable[[Trial], Job]]]:
    """How many trials may be under way, and what starts one.

    Raises:
        UserError: where a cluster is asked for, and Ray is not installed or does not answer.
    """
    if study.cluster is None:
        yield jobs, _Process
        return
    try:
        import ray
    except ImportError:
        raise UserError("cluster is ray; it needs Ray: pip install 'valuelearn[cluster]'") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(study.ray.address, include_dashboard=False if study.ray.address is None else None, **quiet)
    except (ConnectionError, ValueError) as error:
        raise UserError(f"ray.address is {study.ray.address!r}; no cluster answers there: {error}") from None
    remote = ray.remote(num_cpus=study.ray.cpus, num_gpus=study.ray.gpus, max_retries=_LOST_WORKERS)
    task = remote(_run)
    try:
        # Which of them wait is the cluster's affair.
        yield sys.maxsize, lambda trial: _Task(ray, task, trial)
    finally:
        ray.shutdown()
