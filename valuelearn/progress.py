"""What a run shows while it trains."""

import sys
import time
from collections.abc import Mapping
from typing import Literal

import numpy as np
import rich.console
import rich.progress
import rich.table


class Progress:
    """A progress bar on a terminal, plain lines elsewhere; `compile_seconds` are those so far."""

    def __init__(
        self,
        total: int,
        wall_seconds: float = 0.0,
        compile_seconds: float = 0.0,
        unit: Literal["frames", "updates"] = "frames",
    ) -> None:
        """Start the clock, at what earlier sittings of the run took; `total` are the units to come."""
        self._console = rich.console.Console(file=sys.stderr)
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(12),
            rich.progress.TaskProgressColumn(),
            # Its lines are broken where the terminal is narrow; the other columns keep theirs.
            rich.progress.TextColumn("{task.description}", table_column=rich.table.Column(ratio=1)),
            rich.progress.TimeRemainingColumn(),
            console=self._console,
            expand=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=total)
        self._unit = unit
        self._start = time.perf_counter() - wall_seconds
        self.compile_seconds = compile_seconds
        self._bar.start()

    def chunk(self, frames: int, summary: Mapping[str, float], compile_seconds: float) -> dict[str, float]:
        """Show one chunk; returns its row of timing. Compilation does not count as training time."""
        self.compile_seconds += compile_seconds
        wall = time.perf_counter() - self._start
        come = {"frames": frames, "updates": int(summary["updates"])}
        rates = {unit: count / max(wall - self.compile_seconds, 1e-9) for unit, count in come.items()}
        clipped = summary.get("clipped_below", np.nan) + summary.get("clipped_above", np.nan)
        parts = {
            **{unit: f"{count:,}" for unit, count in come.items() if count or unit == self._unit},
            "return": _number(summary["episode_return"]),
            "loss": _number(summary.get("loss", np.nan)),
            "clipped": "-" if np.isnan(clipped) else f"{clipped:.1%}",
            f"{self._unit}/s": f"{rates[self._unit]:,.0f}",
            "compile": f"{self.compile_seconds:.0f}s",
        }
        text = "  ".join(f"{name} {value}" for name, value in parts.items())
        self._bar.update(self._task, completed=come[self._unit], description=text)
        if not self._console.is_terminal:
            print(text, file=sys.stderr, flush=True)
        return {
            "env_frames": frames,
            "updates": come["updates"],
            "wall_seconds": wall,
            "frames_per_second": rates["frames"],
            "updates_per_second": rates["updates"],
            "compile_seconds": compile_seconds,
        }

    def warn(self, text: str) -> None:
        """Say something above the bar."""
        self._console.print(f"warning: {text}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"
