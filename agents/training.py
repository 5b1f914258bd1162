"""Train runs, and go on with those that were interrupted."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from agents import curves, evaluation, experiment
from agents.experiment import Experiment, ExperimentConfig
from agents.q_learning import QConfig
from agents.sac import SACConfig
from valuelearn import checkpoint, config, doctor, logs, loop, signals
from valuelearn.checkpoint import Checkpoints
from valuelearn.errors import Interrupted
from valuelearn.loop import Chunk, RunState
from valuelearn.progress import Progress
from valuelearn.types import FunctionalEnv

Say = Callable[[str], None]


def _free_bytes() -> int:
    """Memory that the default device can still give."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    stats = device.memory_stats()
    return stats["bytes_limit"] - stats["bytes_in_use"]


def check_memory(cfg: ExperimentConfig, built: Experiment) -> str:
    """A sentence on what the collected experience and the learners take.

    Raises:
        Misfit: where they take more than nine tenths of the device's free memory.
    """
    leaves = jax.tree.leaves(built.learner)
    seeds = cfg.train.seeds
    if jax.default_backend() != "cpu":  # Whose devices share one memory.
        seeds //= len(loop.devices_for(seeds))
    experience = built.algorithm.memory_bytes * seeds
    learner = sum(x.size * x.dtype.itemsize for x in leaves) * seeds
    free, device = _free_bytes(), jax.devices()[0].device_kind
    text = (
        f"{experience / 2**30:.2f} GiB of experience and {learner / 2**30:.2f} GiB of networks, "
        f"of {free / 2**30:.2f} GiB free on {device}"
    )
    if experience + learner <= 0.9 * free:
        return f"memory: {text}"
    found: object
    if learner > experience:
        key, found = "agent.network.hidden", list(cfg.agent.network.hidden)
    elif isinstance(cfg.agent, QConfig | SACConfig):
        key, found = "agent.replay.capacity", cfg.agent.replay.capacity
    else:
        key, found = "env.num_envs", cfg.env.num_envs
    raise config.Misfit(key, found, f"the run would need {text}; lower it", "train.seeds")


def _mean_over_seeds(values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # No seed ended an episode: NaN is meant.
        return float(np.nanmean(values))


def train(cfg: ExperimentConfig, folder: Path, command: list[str], say: Say) -> None:
    """Train one run, or several seeds of it at once, and leave everything in `folder`.

    Raises:
        Misfit: where the environment or the memory does not allow what the config asks.
        RunFolderError: where the folder is in use or cannot be written.
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    logs.check_new_folder(folder)
    built = experiment.make(cfg)
    memory = check_memory(cfg, built)
    logs.make_folder(folder, config.dump(cfg))
    say(memory)  # Only now: whoever is refused hears one sentence.
    _train(cfg, built, folder, command, None, say)


def resume(folder: Path, command: list[str], say: Say) -> None:
    """Go on with an interrupted run from its newest checkpoint, or from its beginning where it has none.

    A run that was trained to its end is only evaluated and drawn, where it was not yet.

    Raises:
        RunFolderError, ConfigError, CheckpointError: where the folder is not a run.
        Misfit: where the memory does not allow what the config asks.
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    cfg = experiment.load_run(folder)
    if (folder / "curve.png").exists():
        say("this run is finished")
        return
    if (folder / "params").exists():
        say("this run is trained to its end")
        _finish(cfg, folder, say)
        return
    built = experiment.make(cfg)
    say(check_memory(cfg, built))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        saved = checkpoints.restore(_to_save(cfg, jax.eval_shape(_initial(cfg, built))))
    if saved is None:
        say("there is no checkpoint yet: the run starts from its beginning")
    else:
        change = saved.notes["change"]
        but = f", but not as the run that it would have been: {change}" if change else ""
        say(f"the run goes on at frame {saved.notes['offsets']['env_frames']:,}{but}")
    _train(cfg, built, folder, command, saved, say)


def _seeds(cfg: ExperimentConfig) -> range:
    return range(cfg.train.seed, cfg.train.seed + cfg.train.seeds)


def _initial(cfg: ExperimentConfig, built: Experiment) -> Callable[[], RunState]:
    """What makes the state before the first step."""
    agent, memory = built.algorithm.agent, built.algorithm.memory
    if isinstance(built.env, FunctionalEnv):
        return loop.initial_functional(agent, built.env, memory, _seeds(cfg))
    return loop.initial_host(agent, built.env, memory, cfg.train.seed)


def _to_save(cfg: ExperimentConfig, state: RunState) -> RunState:
    return state if cfg.checkpoint.replay else state._replace(memory=None)


def _chunks(
    cfg: ExperimentConfig, built: Experiment, start: RunState | None, stopping: Callable[[], bool]
) -> Iterator[Chunk]:
    agent, memory, schedule = built.algorithm.agent, built.algorithm.memory, built.schedule
    if start is not None and start.memory is None:
        # An empty replay is warmed up again, by the policy as it is.
        start = start._replace(memory=jax.jit(lambda: _initial(cfg, built)().memory)())
        warmup_steps = schedule.warmup_steps + int(np.max(start.env_steps))
        schedule = schedule._replace(warmup_steps=warmup_steps)
    if isinstance(built.env, FunctionalEnv):
        return loop.train_functional(agent, built.env, memory, schedule, _seeds(cfg), start, stopping)
    return loop.train_host(agent, built.env, memory, schedule, cfg.train.seed, start, stopping)


class _Record:
    """What is written and shown of a run's chunks."""

    def __init__(
        self, cfg: ExperimentConfig, frames_per_step: int, run: logs.RunFolder, start: logs.Offsets
    ) -> None:
        self._seeds, self._run, self._frames_per_step = _seeds(cfg), run, frames_per_step
        support = cfg.agent.head_options.support(cfg.agent.head, cfg.agent.gamma)
        support = support._replace(of_returns=cfg.agent.learns_returns)
        self._support: doctor.Support | None = support  # Until the doctor has spoken of it.
        self._rewards = (np.inf, -np.inf)
        self.env_frames, self._wall_seconds = start.env_frames, start.wall_seconds
        self._progress = Progress(cfg.train.env_frames, start.wall_seconds, start.compile_seconds)

    def chunk(self, chunk: Chunk) -> None:
        """Write and show one chunk."""
        columns = dict(chunk.metrics)
        columns["env_frames"] = columns.pop("env_steps") * self._frames_per_step
        for index, seed in enumerate(self._seeds):
            row = {name: column[index].item() for name, column in columns.items()}
            self._run.metrics({"seed": seed} | row)
        summary = {name: _mean_over_seeds(column) for name, column in columns.items()}
        self.env_frames = int(columns["env_frames"][0])
        timing = self._progress.chunk(self.env_frames, summary, chunk.compile_seconds)
        self._run.timing(timing)
        self._wall_seconds = timing["wall_seconds"]
        self._examine(columns, summary)

    def offsets(self) -> logs.Offsets:
        """How far the files have come, all of it on the disk."""
        clock = (self._wall_seconds, self._progress.compile_seconds)
        return logs.Offsets(*self._run.sizes(), self.env_frames, *clock)

    def warn(self, text: str) -> None:
        """Say what should not pass unseen."""
        self._progress.warn(text)

    def _examine(self, columns: Mapping[str, np.ndarray], summary: Mapping[str, float]) -> None:
        """Have the support doctor look at a chunk, and warn once."""
        low, high = self._rewards
        self._rewards = (min(low, columns["reward_min"].min()), max(high, columns["reward_max"].max()))
        if self._support is None:
            return
        if warning := doctor.diagnosis(self._support, summary, *self._rewards):
            self.warn(warning)
            self._support = None

    def close(self) -> None:
        """Leave the terminal and the files as they should be."""
        self._progress.close()
        self._run.close()


def _train(
    cfg: ExperimentConfig,
    built: Experiment,
    folder: Path,
    command: list[str],
    saved: checkpoint.Saved | None,
    say: Say,
) -> None:
    offsets = logs.Offsets(**saved.notes["offsets"]) if saved else logs.Offsets()
    run = logs.RunFolder(folder, command, offsets, built.algorithm.metrics)
    record = _Record(cfg, built.env.spec.frames_per_step, run, offsets)
    change = saved.notes["change"] if saved else None
    if not cfg.checkpoint.replay:
        change = "the replay is filled anew"
    try:
        with (
            Checkpoints(folder / "checkpoints", cfg.checkpoint.keep) as checkpoints,
            signals.stop_requests() as stopping,
        ):
            for chunk in _chunks(cfg, built, saved.state if saved else None, stopping):
                record.chunk(chunk)
                if not chunk.checkpoint:
                    continue
                if not chunk.exact:
                    change = f"episodes were cut at frame {record.env_frames:,}"
                notes = {"offsets": record.offsets()._asdict(), "change": change}
                try:
                    checkpoints.save(record.env_frames, _to_save(cfg, chunk.state), notes)
                except checkpoint.CheckpointError as error:
                    if stopping():
                        raise
                    record.warn(f"{error}; training goes on")
    finally:
        record.close()
        if not isinstance(built.env, FunctionalEnv):
            built.env.close()
    if int(np.max(chunk.state.env_steps)) < built.schedule.total_steps:
        raise Interrupted(f"saved at frame {record.env_frames:,}; go on with: valuelearn resume {folder}")
    checkpoint.save_params(folder / "params", chunk.state.learner.params)
    _finish(cfg, folder, say)


def _finish(cfg: ExperimentConfig, folder: Path, say: Say) -> None:
    """What follows training; the curve comes last, and says that all is done."""
    checkpoint.remove_checkpoints(folder / "checkpoints")
    for million, mean in logs.per_million_frames(logs.read_metrics(folder)).items():
        say(f"training return in million {million}: {mean:.2f}")
    if cfg.evaluation.episodes:
        evaluation.evaluate_run(folder, cfg.evaluation.episodes, None, say)
    curves.plot([folder], folder / "curve.png")
