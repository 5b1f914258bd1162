"""Train runs, and go on with those that were interrupted."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from agents import evaluation, experience, experiment, flight, memory_check, reach, recordings
from agents.experiment import Experiment
from agents.experiment_config import ExperimentConfig
from agents.run_record import RunRecord
from envs import datasets
from valuelearn import checkpoint, config, fingerprint, hosts, logs, loop, signals
from valuelearn.checkpoint import Checkpoints
from valuelearn.errors import Interrupted
from valuelearn.loop import Chunk, RunState
from valuelearn.types import FunctionalEnv

Say = Callable[[str], None]
Fingerprints = Callable[[RunState], dict[str, jax.Array]]


@hosts.together()
def train(cfg: ExperimentConfig, folder: Path, command: list[str], say: Say) -> None:
    """Train one run, or several seeds of it at once, and leave everything in `folder`.

    Raises:
        Misfit: where the environment or the memory does not allow what the config asks.
        RunFolderError: where the folder is in use or cannot be written.
        NotFiniteError: where an update could not be made.
        HostError: where the other hosts do not come, or end.
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    if not _join(cfg):
        _follow(cfg)
        return
    logs.check_new_folder(folder)
    built = experiment.make(cfg)
    memory = memory_check.check(cfg, built)
    logs.make_folder(folder, config.dump(cfg))
    with logs.held(folder):
        say(memory)  # Only now: whoever is refused hears one sentence.
        _say_of_dataset(cfg, built, say)
        _train(cfg, built, folder, command, None, say)


def _join(cfg: ExperimentConfig) -> bool:
    """Meet the other hosts; whether this is the first, which alone reads and writes.

    Raises:
        HostError: where the others do not come.
    """
    experiment.set_up(cfg)
    hosts.join(cfg.parallel.hosts, cfg.parallel.devices)
    return hosts.first()


def _follow(cfg: ExperimentConfig) -> None:
    """What the other hosts do: the same steps as the first, which alone writes and shows anything.

    Raises:
        NotFiniteError: where an update could not be made.
        Interrupted: after Ctrl-C or SIGTERM on any of the hosts.
    """
    built = experiment.make(cfg)
    start = _on_all_hosts(cfg, built, None)
    try:
        with signals.stop_requests() as stopping:
            for chunk, _ in _told(cfg, _chunks(cfg, built, start, stopping), _fingerprints(cfg)):
                last = chunk
    finally:
        if not isinstance(built.env, FunctionalEnv):
            built.env.close()
    hosts.leave()
    if last.refused is not None:
        raise flight.NotFiniteError("an update could not be made; the first host says why")
    if not _trained(cfg, built, last.state):
        raise Interrupted("the first host says where the run is saved")


def _say_of_dataset(cfg: ExperimentConfig, built: Experiment, say: Say) -> None:
    if cfg.offline is not None:
        count, _ = recordings.held(built.algorithm.memory.init())
        say(f"there are {count:,} transitions of {cfg.offline.dataset} to learn from")


@hosts.together()
def resume(folder: Path, command: list[str], say: Say) -> None:
    """Go on with an interrupted run from its newest checkpoint, or from its beginning where it has none.

    A run that was trained to its end is only evaluated and drawn, where it was not yet.

    Raises:
        RunFolderError, ConfigError, CheckpointError: where the folder is not a run, or in use.
        Misfit: where the memory does not allow what the config asks.
        NotFiniteError: where an update could not be made.
        HostError: where the other hosts do not come, or end.
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    cfg = experiment.load_run(folder)
    if (folder / "curve.png").exists():
        say("this run is finished")
        return
    trained, first = (folder / "params").exists(), _join(cfg)
    if trained:
        hosts.leave()
    if not first:
        if not trained:
            _follow(cfg)
        return
    with logs.held(folder):
        _resume(cfg, folder, command, say)


def _resume(cfg: ExperimentConfig, folder: Path, command: list[str], say: Say) -> None:
    if (folder / "params").exists():
        say("this run is trained to its end")
        _finish(cfg, folder, say)
        return
    built = experiment.make(cfg)
    say(memory_check.check(cfg, built))
    _say_of_dataset(cfg, built, say)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        saved = checkpoints.restore(_to_save(cfg, _state(cfg, built)))
    if saved is None:
        say("there is no checkpoint yet: the run starts from its beginning")
    else:
        for text in saved.passed_over:
            say(f"{text}; the one before it is taken")
        change = saved.notes["change"]
        but = f", but not as the run that it would have been: {change}" if change else ""
        say(f"the run goes on at {_unit(cfg)} {saved.notes['offsets']['come']:,}{but}")
    _train(cfg, built, folder, command, saved, say)


def _seeds(cfg: ExperimentConfig) -> range:
    return range(cfg.train.seed, cfg.train.seed + cfg.train.seeds)


def _unit(cfg: ExperimentConfig) -> Literal["frame", "update"]:
    """What the progress of a run is counted in."""
    return "frame" if cfg.offline is None else "update"


def _initial(cfg: ExperimentConfig, built: Experiment) -> Callable[[], RunState]:
    """What makes the state before the first step."""
    agent, memory = built.algorithm.agent, built.algorithm.memory
    if cfg.offline is not None:
        return loop.initial_offline(agent, memory, built.env.spec, _seeds(cfg))
    if isinstance(built.env, FunctionalEnv):
        return loop.initial_functional(agent, built.env, memory, _seeds(cfg))
    return loop.initial_host(agent, built.env, memory, cfg.train.seed)


def _state(cfg: ExperimentConfig, built: Experiment) -> RunState:
    """The shapes and types of a run's state."""
    return jax.eval_shape(_initial(cfg, built))


def _to_save(cfg: ExperimentConfig, state: RunState) -> RunState:
    whole = cfg.checkpoint.replay or cfg.offline is not None  # Of a dataset, priorities alone.
    return state if whole else state._replace(memory=None)


def _on_all_hosts(
    cfg: ExperimentConfig, built: Experiment, saved: checkpoint.Saved | None
) -> RunState | None:
    """The state to go on from, which the first host alone has read; None to begin with."""
    if not hosts.from_first(np.array(saved is not None)):
        return None
    if saved is not None:
        return hosts.from_first(saved.state)
    return hosts.from_first(jax.jit(lambda: _to_save(cfg, _initial(cfg, built)()))())


def _told(
    cfg: ExperimentConfig, chunks: Iterator[Chunk], fingerprints: Fingerprints | None
) -> Iterator[tuple[Chunk, dict[str, np.ndarray] | None]]:
    """Chunks with their states' fingerprints, all in the memory of every host so far as it is written."""
    for chunk in chunks:
        prints = None if fingerprints is None else jax.device_get(hosts.whole(fingerprints(chunk.state)))
        if cfg.parallel.hosts > 1:
            state = _to_save(cfg, chunk.state)
            if not chunk.checkpoint:
                state = state._replace(memory=None, env=None, obs=None)
            chunk = chunk._replace(state=hosts.whole(state), refused=hosts.whole(chunk.refused))
        yield chunk, prints
        if chunk.refused is None:  # After that one the first host stops where it is.
            hosts.wait()  # For the first, which writes it.


def _chunks(
    cfg: ExperimentConfig, built: Experiment, start: RunState | None, asked: Callable[[], bool]
) -> Iterator[Chunk]:
    def stopping() -> bool:
        return hosts.any_of(asked())

    agent, memory, schedule = built.algorithm.agent, built.algorithm.memory, built.schedule
    if cfg.offline is not None:
        parts = (agent, memory, built.env.spec, schedule, _seeds(cfg))
        return evaluation.along(
            cfg, built, loop.train_offline(*parts, start, stopping, cfg.parallel.division)
        )
    if start is not None and start.memory is None:
        # An empty replay is warmed up again, by the policy as it is.
        start = start._replace(memory=jax.jit(lambda: _initial(cfg, built)().memory)())
        warmup_steps = schedule.warmup_steps + int(np.max(start.env_steps))
        schedule = schedule._replace(warmup_steps=warmup_steps)
    more = (start, stopping, cfg.parallel.division)
    if isinstance(built.env, FunctionalEnv):
        chunks = loop.train_functional(agent, built.env, memory, schedule, _seeds(cfg), *more)
    else:
        chunks = loop.train_host(agent, built.env, memory, schedule, cfg.train.seed, *more)
    if cfg.rollouts is None:
        return chunks
    return evaluation.along(cfg, built, reach.along(cfg, built, chunks))


def _trained(cfg: ExperimentConfig, built: Experiment, state: RunState) -> bool:
    """Whether a run has come to its end."""
    come = state.env_steps if cfg.offline is None else state.learner.updates
    return int(np.max(come)) >= built.schedule.total_steps


def _fingerprints(cfg: ExperimentConfig) -> Fingerprints | None:
    """What gives the fingerprints of a state's arrays, u32[seeds, 2] each; nothing where none are wanted."""
    if cfg.determinism == "off":
        return None
    if cfg.together:
        return jax.jit(jax.vmap(fingerprint.of_leaves))
    return jax.jit(lambda state: {name: x[None] for name, x in fingerprint.of_leaves(state).items()})


def _train(
    cfg: ExperimentConfig,
    built: Experiment,
    folder: Path,
    command: list[str],
    saved: checkpoint.Saved | None,
    say: Say,
) -> None:
    offsets = logs.Offsets(**saved.notes["offsets"]) if saved else logs.Offsets()
    more: tuple[str, ...] = evaluation.ALONG if cfg.offline or cfg.rollouts else ()
    more += reach.COLUMNS if cfg.rollouts else ()
    fingerprints = _fingerprints(cfg)
    leaves = () if fingerprints is None else tuple(jax.eval_shape(fingerprints, _state(cfg, built)))
    run = logs.RunFolder(folder, command, offsets, built.algorithm.metrics + more, leaves)
    record = RunRecord(cfg, _seeds(cfg), built.env.spec.frames_per_step, run, offsets)
    change = saved.notes["change"] if saved else None
    marks = experience.Marks({}, [])
    if saved and cfg.checkpoint.experience:
        marks = experience.Marks(**saved.notes["experience"])
    if not cfg.checkpoint.replay and cfg.offline is None:
        change = "the replay is filled anew"
    try:
        with (
            Checkpoints(folder / "checkpoints", cfg.checkpoint.keep) as checkpoints,
            signals.stop_requests() as stopping,
        ):
            start = _on_all_hosts(cfg, built, saved)
            for chunk, prints in _told(cfg, _chunks(cfg, built, start, stopping), fingerprints):
                if chunk.refused is not None:
                    refusal = flight.record(folder, built, chunk, _seeds(cfg), cfg.together)
                    hosts.leave()
                    raise refusal
                before = record.come
                record.chunk(chunk, prints)
                kept = _keep_policy(cfg, folder, chunk, before, record.come)
                if cfg.checkpoint.experience:
                    marks = experience.marked(marks, chunk, record.come if kept else None)
                if not chunk.checkpoint:
                    continue
                if not chunk.exact:
                    change = f"episodes were cut at {_unit(cfg)} {record.come:,}"
                notes = {
                    "offsets": record.offsets()._asdict(),
                    "change": change,
                    "experience": marks._asdict(),
                }
                try:
                    checkpoints.save(record.come, _to_save(cfg, chunk.state), notes)
                except checkpoint.CheckpointError as error:
                    if stopping():
                        raise
                    record.warn(f"{error}; training goes on")
    finally:
        record.close()
        if not isinstance(built.env, FunctionalEnv):
            built.env.close()
    if not _trained(cfg, built, chunk.state):
        hosts.leave()
        where = f"{_unit(cfg)} {record.come:,}"
        raise Interrupted(f"saved at {where}; go on with: valuelearn resume {folder}")
    logs.seal(folder)
    if cfg.checkpoint.experience:
        file = folder / experience.FILE
        file.unlink(missing_ok=True)  # Of a sitting that was killed right here.
        datasets.save(experience.recorded(chunk.state.memory, marks, cfg.env.id), file)
    checkpoint.save_params(folder / "params", chunk.state.learner.params)
    hosts.leave()
    _finish(cfg, folder, say)


def _keep_policy(cfg: ExperimentConfig, folder: Path, chunk: Chunk, before: int, now: int) -> bool:
    """Save the parameters at the end of a chunk where that is due; whether it was."""
    every = cfg.checkpoint.policies_every_frames
    due = every is not None and before // every < now // every
    if due:
        checkpoint.save_params(folder / "policies" / str(now), chunk.state.learner.params)
    return due


def _finish(cfg: ExperimentConfig, folder: Path, say: Say) -> None:
    """What follows training; the curve comes last, and says that all is done."""
    from agents import curves  # With matplotlib, which no start has to wait for.

    checkpoint.remove_checkpoints(folder / "checkpoints")
    metrics = logs.read_metrics(folder)
    if curves.axes(cfg) == curves.TRAINING:
        for million, mean in logs.per_million_frames(metrics).items():
            say(f"training return in million {million}: {mean:.2f}")
    if cfg.offline is not None:
        for sentence in evaluation.summary(cfg, metrics):
            say(sentence)
    if cfg.evaluation.episodes:
        evaluation.evaluate_run(folder, cfg.evaluation.episodes, None, say)
    curves.plot([folder], folder / "curve.png")
