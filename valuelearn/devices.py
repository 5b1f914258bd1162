"""What the machine can still give."""

from pathlib import Path

import jax
import psutil

_CGROUP = Path("/sys/fs/cgroup")  # Of the container or the job that this process is in, on Linux.


def free_bytes() -> int:
    """Memory that the default device can still give."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return free_host_bytes()
    stats = device.memory_stats()
    return stats["bytes_limit"] - stats["bytes_in_use"]


def free_host_bytes() -> int:
    """Memory that the host can still give this process, files that it merely keeps at hand not counted."""
    free = psutil.virtual_memory().available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        held = int((_CGROUP / "memory.current").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        files = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, StopIteration, ValueError):  # No such container, or one without a limit ("max").
        return free
    return min(free, limit - held + files)
