"""Waiting for an environment that others wrote: it is told where it fails, and where it never answers."""

import os
import threading
import traceback
from types import TracebackType
from typing import Self

from valuelearn.errors import UserError


class EnvironmentFailedError(UserError):
    """An environment raised something."""


class Watch:
    """A context within which an environment is asked for something: `with watch("step"): ...`.

    What it raises becomes one sentence that names the file and the line. Where it has not answered for
    `patience_seconds` the process says so and ends with exit code 2, as nothing else ends code that does not
    come back; a run goes on from its last checkpoint then. While a process is paused no time is counted.
    """

    def __init__(self, name: str, patience_seconds: float | None) -> None:
        """Watch the environment of that name, for ever where no patience is given."""
        self._name, self._patience = name, patience_seconds
        self._what, self._calls, self._waiting = "", 0, False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, what: str) -> Self:
        """What it is asked for."""
        self._what = what
        if self._patience is not None and self._thread is None:
            self._thread = threading.Thread(target=self._look, args=(self._patience,), daemon=True)
            self._thread.start()
        return self

    def __enter__(self) -> None:
        """It is asked."""
        self._calls += 1
        self._waiting = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It has answered, or raised."""
        self._waiting = False
        if isinstance(error, Exception | SystemExit) and not isinstance(error, UserError):
            place = traceback.extract_tb(trace)[-1]
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            text = f"{self._name}: {self._what} raised {said} ({place.filename}, line {place.lineno})"
            raise EnvironmentFailedError(text) from error

    def _look(self, patience: float) -> None:
        """Count for how many looks the same question has been open; a paused process looks at nothing."""
        between = min(1.0, patience / 4)
        asked, waited = 0, 0.0
        while not self._closed.wait(between):
            waited = waited + between if self._waiting and self._calls == asked else 0.0
            asked = self._calls
            if waited > patience:
                text = f"valuelearn: {self._name}: {self._what} has not answered for {patience:g} seconds"
                os.write(2, f"\n{text} (env.patience_seconds)\n".encode())
                os._exit(2)

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()
