"""A breath of the storm: a fault of each quick kind, and nothing is lost."""

import subprocess
import sys

from benchmarks.faults.__main__ import KINDS

SLOW = ("killed in a sweep", "killed while datasets are made", "clock goes backwards", "asked to stop")


def test_nothing_is_lost():
    kinds = [kind for kind in KINDS if kind not in SLOW]
    command = [sys.executable, "-m", "benchmarks.faults", "--share", "0.05", "--jobs", "1", "--kinds", *kinds]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 lost" in done.stdout.splitlines()[-1]
