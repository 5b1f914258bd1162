"""Datasets of our own: what policies along a training run do, by the protocol of D4RL (Fu et al., 2020).

`random` acts uniformly, `medium` and `expert` as `agents/judging.py` finds them; `medium-replay` is all that
the run did until the medium policy, `medium-expert` the two one after the other.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

import envs
from agents import experience, experiment, judging, training
from agents.experiment_config import ExperimentConfig
from agents.judging import DRAWN, UNIFORM, Judged, Run
from agents.stock_dqn import StockDQNConfig
from envs import datasets
from envs.datasets import Dataset, DatasetError
from envs.gym_host import GymEnv
from valuelearn import config, evaluate, logs
from valuelearn.config import Misfit
from valuelearn.errors import did_you_mean
from valuelearn.types import FunctionalEnv

Quality = Literal["random", "medium", "medium-replay", "medium-expert", "expert"]
Say = Callable[[str], None]


def trained(
    source: Path, overrides: list[str], qualities: list[str], folder: Path, command: list[str], say: Say
) -> Path:
    """A finished run to record from: `source` itself, or what training from that file makes of `folder`.

    Raises:
        DatasetError, Misfit: where no such datasets could be made of it, before anything is trained.
        RunFolderError, ConfigError: as training.
    """
    if source.is_dir():
        if overrides:
            raise config.ConfigError(f"argument {overrides[0]!r}: {source} is trained, and takes no values")
        return source
    cfg = config.load(ExperimentConfig, source, overrides)
    _check(cfg, qualities)
    if not (folder / "config.yaml").exists():
        training.train(cfg, folder, command, say)
    elif config.dump(cfg) != (folder / "config.yaml").read_text():
        raise logs.RunFolderError(f"{folder}: it was trained from another config; name another --out")
    else:
        training.resume(folder, command, say)
    return folder


def _check(cfg: ExperimentConfig, qualities: list[str]) -> None:
    """Refuse qualities that there are not, and runs of which they cannot be made."""
    known = get_args(Quality)
    for quality in qualities:
        if quality not in known:
            mend = did_you_mean(quality, known) or f"one of {', '.join(known)} is wanted"
            raise DatasetError(f"--quality {quality}: {mend}")
    if envs.is_functional(cfg.env.id):
        reason = "it runs inside the compiled loop, where nothing is recorded; use its like of gym/"
        raise Misfit("env.id", cfg.env.id, reason)
    for name in ("clip_rewards", "life_loss_terminates"):
        if cfg.env.id.startswith("atari/") and getattr(cfg.env, name):
            reason = "what is recorded is not the game's own with it; false is wanted"
            raise Misfit(f"env.{name}", True, reason, "env.id")
    if isinstance(cfg.agent, StockDQNConfig):
        reason = "a dataset has no place for the stock beside its observations"
        raise Misfit("agent.name", cfg.agent.name, reason)
    every = cfg.checkpoint.policies_every_frames
    if every is None or every > cfg.train.env_frames:
        reason = f"policies are wanted to record from, the first within {cfg.train.env_frames} frames"
        raise Misfit("checkpoint.policies_every_frames", every, reason, "train.env_frames")
    if "medium-replay" in qualities and not cfg.checkpoint.experience:
        raise Misfit("checkpoint.experience", False, "medium-replay is made of it; true is wanted")


def make(folder: Path, qualities: list[str], rows: int, out: Path, seed: int, say: Say) -> None:
    """Write a dataset of `rows` transitions for each quality to `out`, but for those that are there already.

    The run in `folder` must have kept its policies (`checkpoint.policies_every_frames`) and, for
    medium-replay, what it did (`checkpoint.experience`).

    Raises:
        RunFolderError, ConfigError, CheckpointError, Misfit: where the folder is not such a run.
        DatasetError: where a dataset cannot be written, or `out` holds those of another run or seed.
    """
    cfg = experiment.load_run(folder)
    _check(cfg, qualities)
    known = sorted(int(path.name) for path in folder.glob("policies/*") if path.name.isdigit())
    if not (folder / "params").exists():
        raise logs.RunFolderError(f"{folder}: this run is unfinished; valuelearn resume {folder}")
    if not known:
        raise logs.RunFolderError(f"{folder}: there are no policies in it; those that it kept are wanted")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{out}: cannot be made ({error.strerror})") from None
    env = experiment.make_env(cfg, 1)
    assert not isinstance(env, FunctionalEnv)
    run = Run(folder, cfg, env, experiment.make_algorithm(cfg, env.spec).agent)
    try:
        with logs.held(out):
            judged = judging.judged(run, known, out, seed, say)
            for quality in qualities:
                _write(run, judged, quality, rows, seed, out / f"{quality}.hdf5", say)
    finally:
        env.close()


def _write(run: Run, judged: Judged, quality: str, rows: int, seed: int, file: Path, say: Say) -> None:
    """Write one dataset, unless the same is there."""
    notes = _notes(run, judged, quality, rows, seed)
    if file.exists():
        found = datasets.load(file).notes
        for name in ("seed", "rows_asked", "sha256_of_policies"):
            if found.get(name) != notes[name]:
                told = f"it was made with {name} = {found.get(name)}, and {notes[name]} is asked"
                raise DatasetError(f"{file}: {told}; name another --out")
        say(f"{file} is there already")
        return
    made = _dataset(run, judged, quality, rows, seed)
    returns = datasets.episode_returns(made)
    spread = {"mean": returns.mean(), "std": returns.std(), "min": returns.min(), "max": returns.max()}
    notes["returns"] = {name: float(value) for name, value in spread.items()} if len(returns) else {}
    datasets.save(made._replace(notes=notes), file)
    mean = f"{returns.mean():.1f}" if len(returns) else "-"
    say(f"wrote {file}: {made.rows:,} transitions, {len(returns)} episodes, mean return {mean}")


def _dataset(run: Run, judged: Judged, quality: str, rows: int, seed: int) -> Dataset:
    match quality:
        case "random":
            return _played(run, judged.medium, UNIFORM, rows, seed)
        case "medium":
            return _played(run, judged.medium, DRAWN, rows, seed + 1)
        case "expert":
            return _played(run, judged.expert, DRAWN, rows, seed + 2)
        case "medium-replay":
            return experience.until(datasets.load(run.folder / experience.FILE), judged.medium)
    medium = _dataset(run, judged, "medium", rows, seed)
    ends = np.flatnonzero(medium.truncated | (medium.discount == 0))
    whole = datasets.rows(medium, slice(0, ends[-1] + 1 if len(ends) else medium.rows))
    return datasets.joined([whole, _dataset(run, judged, "expert", rows, seed)])


def _played(run: Run, frames: int, policy: evaluate.Policy, rows: int, seed: int) -> Dataset:
    """So many transitions of one policy in one copy of the environment; the last episode may be cut off.

    Of a simulator its state before each action is kept, too, by the names that D4RL has for it.
    """
    learner, act = run.policy(frames), evaluate.stepping(run.agent, policy, run.env.spec)
    state_of = run.env.simulator_state if isinstance(run.env, GymEnv) else dict
    key, obs = jax.random.key(seed), run.env.reset(seed)
    steps: list[tuple] = []
    index = 0
    while len(steps) < rows:
        action = np.asarray(act(learner, obs, key, index))
        state, step = state_of(), run.env.step(action)
        if step.valid[0]:
            truncated = step.last & (step.discount == 1)
            row = (obs, action, step.reward, step.discount, truncated, step.last, step.next_obs)
            steps.append((*row, *state.values()))
        obs, index = step.obs, index + 1
    whole = [np.concatenate(column) for column in zip(*steps, strict=True)]
    obs, action, reward, discount, truncated, last, next_obs, *states = whole
    last[-1] = True  # The recording ends.
    infos = dict(zip(state, states, strict=True))
    return Dataset(obs, action, reward, discount, truncated, last, next_obs, infos)


def _notes(run: Run, judged: Judged, quality: str, rows: int, seed: int) -> dict[str, Any]:
    """The manifest, but for the returns: who did this, and where."""
    frames = {"medium-expert": [judged.medium, judged.expert], "expert": [judged.expert], "random": []}
    policies = {str(n): judging.digest(run.policy(n)) for n in frames.get(quality, [judged.medium])}
    return {
        "env_id": run.cfg.env.id,
        "quality": quality,
        "agent": run.cfg.agent.name,
        "train_seed": run.cfg.train.seed,
        "sha256_of_policies": policies,
        "seed": seed,
        "rows_asked": None if quality == "medium-replay" else rows,
        "actions": "scaled to [-1, 1]" if run.env.spec.action_size else "counted from 0",
        "versions": logs.versions(),
        "reference_returns": {"random": judged.random_return, "expert": judged.expert_return},
    }
