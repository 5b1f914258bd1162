"""Train what a publication trained, and hold the curve against the published one.

Published are the mean training returns of each million frames, of five seeds (Dopamine; see
`benchmarks/reference/`). Ours must lie within their range, widened on either side by a share of
their mean; the first million, which is hardly more than random play, is shown and not judged.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agents import curves, experiment, training
from agents.experiment import ExperimentConfig
from valuelearn import config, logs, plots
from valuelearn.errors import UserError, did_you_mean

_CONFIGS = Path(experiment.__file__).parent / "configs" / "atari"
_FIRST_JUDGED = 2  # Million frames.

Say = Callable[[str], None]


class _Agent(NamedTuple):
    config: str  # Its file.
    published: str  # Its name among the published curves.


AGENTS = {
    "dqn_mse": _Agent("dqn_mse.yaml", "dqn_adam_mse"),
    "dqn_huber_rmsprop": _Agent("dqn_huber_rmsprop.yaml", "dqn_rmsprop_huber"),
    "c51": _Agent("c51.yaml", "c51"),
    "qr_dqn": _Agent("qr.yaml", "qr_dqn_n3_per"),
    "iqn": _Agent("iqn.yaml", "iqn"),
    "rainbow": _Agent("rainbow.yaml", "rainbow"),
}


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


def compare(per_million: dict[int, float], published: plots.Published, tolerance: float) -> list[Comparison]:
    """Every million frames that both curves have; `tolerance` is a share of the published mean."""
    found = []
    for index, frames in enumerate(published.frames):
        if (million := round(frames / 1e6)) in per_million:
            mean = float(published.mean[index])
            ends = float(published.low[index]), float(published.high[index])
            found.append(Comparison(million, per_million[million], mean, *ends, tolerance * abs(mean)))
    return found


def published_of(env_id: str, agent: str) -> plots.Published:
    """The published curve of an agent on an environment.

    Raises:
        UserError: where there is none.
    """
    if agent not in AGENTS:
        mend = did_you_mean(agent, AGENTS) or f"one of {', '.join(AGENTS)} is wanted"
        raise UserError(f"--agent {agent}: {mend}")
    if (found := curves.published(env_id, AGENTS[agent].published)) is None:
        raise UserError(f"{env_id}: there is no published curve of it, as there is of 60 Atari games")
    return found


def reproduce(
    env_id: str,
    agent: str,
    millions: int,
    seed: int,
    tolerance: float,
    folder: Path,
    command: list[str],
    say: Say,
) -> bool:
    """Train, or go on with, that run in `folder`; whether its curve lies where the published one does.

    Raises:
        UserError: where nothing is published to compare with, or the folder holds another run.
    """
    published = published_of(env_id, agent)
    path = _CONFIGS / AGENTS[agent].config
    arguments = [f"env.id={env_id}", f"train.env_frames={millions * 1_000_000}", f"train.seed={seed}"]
    wanted = config.load(ExperimentConfig, path, arguments)
    with config.placing(path, arguments):
        if not (folder / "config.yaml").exists():
            training.train(wanted, folder, command, say)
        elif experiment.load_run(folder) == wanted:
            training.resume(folder, command, say)
        else:
            raise UserError(f"{folder}: it holds another run; name another folder with --run")
    curves.plot([folder], folder / "reproduction.png", AGENTS[agent].published)
    rows = compare(logs.per_million_frames(logs.read_metrics(folder)), published, tolerance)
    say(_HEADER)
    for row in rows:
        say(str(row))
    judged = [row for row in rows if row.judged]
    inside = sum(not row.outside for row in judged)
    good = bool(judged) and inside == len(judged)
    band = f"the published range widened by {tolerance:.0%} of its mean"
    verdict = "reproduced" if good else "NOT reproduced"
    say(f"{verdict}: {inside} of {len(judged)} judged points within {band}")
    return good
