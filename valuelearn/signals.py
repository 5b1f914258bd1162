"""Stopping when asked to."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; what schedulers send before they kill.


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """A function that answers whether the process was asked to stop; asked again, it stops at once.

    Outside the main thread nothing is caught, and the answer is always no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()
        restore()
        # Not through Python's files: the signal may have come in the middle of a write to one.
        os.write(2, b"\nstopping after this chunk; ask again to stop at once\n")

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        restore()
