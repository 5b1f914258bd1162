"""What is written and shown of a run while it trains."""

import warnings
from collections.abc import Mapping

import numpy as np

from agents.experiment_config import ExperimentConfig
from valuelearn import fingerprint, logs, support_doctor
from valuelearn.loop import Chunk
from valuelearn.progress import Progress


def _mean_over_seeds(values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # No seed ended an episode: NaN is meant.
        return float(np.nanmean(values))


class RunRecord:
    """What is written and shown of a run's chunks."""

    def __init__(
        self,
        cfg: ExperimentConfig,
        seeds: range,
        frames_per_step: int,
        run: logs.RunFolder,
        start: logs.Offsets,
    ) -> None:
        """Go on where `start` says that the files have come."""
        self._seeds, self._run, self._frames_per_step = seeds, run, frames_per_step
        self._support = cfg.agent.support()  # Until the support doctor has spoken of it.
        self._rewards = (np.inf, -np.inf)
        self._offline = cfg.offline is not None
        self.come, self._wall_seconds = start.come, start.wall_seconds
        total = cfg.train.env_frames if cfg.offline is None else cfg.offline.updates
        clock = (start.wall_seconds, start.compile_seconds)
        self._progress = Progress(total, *clock, unit="updates" if self._offline else "frames")

    def chunk(self, chunk: Chunk, prints: Mapping[str, np.ndarray] | None) -> None:
        """Write and show one chunk, with its fingerprints u32[seeds, 2] where they are wanted."""
        columns = dict(chunk.metrics)
        columns["env_frames"] = columns.pop("env_steps") * self._frames_per_step
        self.come = int(columns["updates" if self._offline else "env_frames"][0])
        for index, seed in enumerate(self._seeds):
            row = {name: column[index].item() for name, column in columns.items()}
            whole = ""
            if prints is not None:
                of_seed = {name: column[index] for name, column in prints.items()}
                whole = fingerprint.hexadecimal(fingerprint.of_all(of_seed))
                texts = {name: fingerprint.hexadecimal(x) for name, x in of_seed.items()}
                self._run.fingerprints({"seed": seed, "come": self.come} | texts)
            self._run.metrics({"seed": seed} | row, whole)
        summary = {name: _mean_over_seeds(column) for name, column in columns.items()}
        timing = self._progress.chunk(int(columns["env_frames"][0]), summary, chunk.compile_seconds)
        self._run.timing(timing)
        self._wall_seconds = timing["wall_seconds"]
        self._examine(columns, summary)

    def offsets(self) -> logs.Offsets:
        """How far the files have come, all of it on the disk."""
        return logs.Offsets(
            tables=self._run.written(),
            come=self.come,
            wall_seconds=self._wall_seconds,
            compile_seconds=self._progress.compile_seconds,
        )

    def warn(self, text: str) -> None:
        """Say what should not pass unseen."""
        self._progress.warn(text)

    def _examine(self, columns: Mapping[str, np.ndarray], summary: Mapping[str, float]) -> None:
        """Have the support doctor look at a chunk, and warn once."""
        low, high = self._rewards
        self._rewards = (min(low, columns["reward_min"].min()), max(high, columns["reward_max"].max()))
        if self._support is None:
            return
        if warning := support_doctor.diagnosis(self._support, summary, *self._rewards):
            self.warn(warning)
            self._support = None

    def close(self) -> None:
        """Leave the terminal and the files as they should be."""
        self._progress.close()
        self._run.close()
