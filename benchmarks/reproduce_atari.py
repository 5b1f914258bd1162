"""Atari's games: is our curve within the range of the published seeds?

Published are the mean training returns of each million frames, of five seeds (Dopamine; see
`benchmarks/reference/`). Ours must lie within their range, widened on either side by a share of
their mean; the first million, which is hardly more than random play, is shown and not judged.
"""

import math
from pathlib import Path
from typing import NamedTuple

from agents import curves
from benchmarks import reproduce as shared
from valuelearn import logs
from valuelearn.plots import Published

_FIRST_JUDGED = 2  # Million frames.


class Comparison(NamedTuple):
    """Our mean training return in one million frames beside the published range."""

    million: int
    ours: float
    mean: float
    low: float  # Least and greatest of the published seeds.
    high: float
    slack: float  # By which the range is widened, return units.

    @property
    def judged(self) -> bool:
        """Whether it counts."""
        return self.million >= _FIRST_JUDGED

    @property
    def outside(self) -> float:
        """How far outside the widened range ours lies; 0 inside."""
        return max(self.low - self.slack - self.ours, self.ours - self.high - self.slack, 0.0)

    def __str__(self) -> str:
        """One line of the table."""
        verdict = f"{self.outside:.2f} outside" if self.outside else "inside"
        seen = f"{self.million:7d}  {self.ours:9.2f}  {self.mean:9.2f}  {self.low:9.2f} to {self.high:9.2f}"
        return f"{seen}  {verdict if self.judged else 'not judged'}"


_HEADER = "million       ours  published     least to  greatest"


def compare(per_million: dict[int, float], published: Published, tolerance: float) -> list[Comparison]:
    """Every million frames that both curves have; `tolerance` is a share of the published mean."""
    found = []
    for index, frames in enumerate(published.frames):
        if (million := math.ceil(frames / 1e6)) in per_million:
            mean = float(published.mean[index])
            ends = float(published.low[index]), float(published.high[index])
            found.append(Comparison(million, per_million[million], mean, *ends, tolerance * abs(mean)))
    return found


def reproduce(
    env_id: str,
    agent: str,
    millions: int,
    seed: int,
    tolerance: float,
    folder: Path,
    command: list[str],
    say: shared.Say,
) -> bool:
    """Train, or go on with, that run in `folder`; whether its curve lies where the published one does.

    Raises:
        UserError: where nothing is published to compare with, or the folder holds another run.
    """
    wanted = shared.target(env_id, agent)
    shared.train(wanted, millions * 1_000_000, {seed: folder}, command, say)
    curves.plot([folder], folder / "reproduction.png", wanted.agent)
    rows = compare(logs.per_million_frames(logs.read_metrics(folder)), wanted.curve, tolerance)
    inside = [not row.outside for row in rows if row.judged]
    criterion = f"within the published range widened by {tolerance:.0%} of its mean"
    return shared.verdict([_HEADER, *map(str, rows)], inside, criterion, say)
