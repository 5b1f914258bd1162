"""What the policies along a run are worth: which is the expert, and which is half-way there.

Fu et al. (2020) and their code: `expert` is the best of the run's last policies, `medium` the first to come
a third of the way to it from random; both act as in training.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from agents import evaluation, experiment
from agents.experiment_config import ExperimentConfig
from envs.datasets import DatasetError
from valuelearn import evaluate, logs
from valuelearn.types import Agent, FunctionalEnv, HostEnv, LearnerState

DRAWN = evaluate.Policy(stochastic=True)
UNIFORM = evaluate.Policy(epsilon=1.0)
_FILE = "policies.json"
_TRIALS = 10  # Episodes by which each policy is judged.
_REFERENCES = 100  # Episodes of the reference returns.
_SMOOTHED = 3  # Neighbouring policies whose returns are averaged.
_LATE = 10  # Policies among which the best is the expert.
_MEDIUM = 1 / 3  # Of the way from random to expert.


class Run(NamedTuple):
    """A finished run, with one copy of its environment."""

    folder: Path
    cfg: ExperimentConfig
    env: HostEnv
    agent: Agent

    def policy(self, frames: int) -> LearnerState:
        """The learner as it was after so many frames."""
        return self._learner(self.folder / "policies" / str(frames))

    def last(self) -> LearnerState:
        """The learner as it was in the end."""
        return self._learner(self.folder / "params")

    def _learner(self, saved: Path) -> LearnerState:
        return evaluation.learners(self.cfg, saved, self.env.spec)[0]


class Judged(NamedTuple):
    """What the policies of a run are worth; frames say which they are."""

    medium: int  # Frames after which the medium policy was.
    expert: int
    random_return: float
    expert_return: float


def digest(learner: LearnerState) -> str:
    """SHA-256 of a learner's parameters."""
    hashed = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(learner.params):
        hashed.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return hashed.hexdigest()


def judged(run: Run, known: list[int], out: Path, seed: int, say: Callable[[str], None]) -> Judged:
    """What the policies kept after `known` frames are worth, taken from `out` where it was found before.

    Raises:
        DatasetError: where `out` tells of another run or seed.
    """
    file = out / _FILE
    of = {"sha256_of_params": digest(run.last()), "seed": seed}
    if file.exists():
        return _found(file, of)
    env = experiment.make_env(run.cfg, _TRIALS)
    assert not isinstance(env, FunctionalEnv)

    def mean(frames: int, policy: evaluate.Policy, episodes: int) -> float:
        played = evaluate.host_returns(run.agent, env, run.policy(frames), policy, seed, episodes)
        return float(played.undiscounted.mean())

    try:
        returns = [mean(frames, DRAWN, _TRIALS) for frames in known]
        smooth = np.convolve(np.pad(returns, _SMOOTHED // 2, "edge"), np.ones(_SMOOTHED) / _SMOOTHED, "valid")
        late = range(max(len(known) - _LATE, 0), len(known))
        expert = max(late, key=lambda index: smooth[index])
        expert_return = mean(known[expert], DRAWN, _REFERENCES)
        random_return = mean(known[0], UNIFORM, _REFERENCES)
    finally:
        env.close()
    wanted = random_return + _MEDIUM * (expert_return - random_return)
    medium = next((index for index in range(len(known)) if smooth[index] >= wanted), expert)
    found = Judged(known[medium], known[expert], random_return, expert_return)
    text = {"of": of, "judged": found._asdict(), "frames": known, "returns": returns}
    logs.write_whole(file, json.dumps(text, indent=1))
    say(
        f"random {random_return:.1f}, expert {expert_return:.1f} after {found.expert:,} frames, "
        f"medium {returns[medium]:.1f} after {found.medium:,}"
    )
    return found


def _found(file: Path, of: dict[str, object]) -> Judged:
    try:
        told = json.loads(file.read_text())
        found = Judged(**told["judged"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DatasetError(f"{file}: this is not what judging a run's policies leaves; remove it") from None
    if told.get("of") != of:
        raise DatasetError(f"{file}: it tells of another run or another --seed; name another --out")
    return found
