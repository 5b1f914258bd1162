"""The command line for one trial of a study: it dies with the process that started it.

    python -m benchmarks.trial train CONFIG key=value ... --run FOLDER

Otherwise a study that was killed would leave its trials running, beside those of its resumption.
"""

import os
import signal
import threading

from valuelearn import cli


def _die_with_parent() -> None:
    """Wait for the end of standard input, which only the parent's end brings."""
    while os.read(0, 1):  # Not through `sys.stdin`, whose lock would be held at our own end.
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_die_with_parent, daemon=True).start()
    cli.main()
