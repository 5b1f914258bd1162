"""Runs killed with SIGKILL, as real processes."""

import subprocess
import sys


def test_three_kills():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kill", "--kills", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills in" in done.stdout and "0 failed resumptions, 0 differences" in done.stdout
