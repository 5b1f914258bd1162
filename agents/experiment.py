"""From the config of a run to the parts that it is built from."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

import envs
from agents import dqn, experience, offline, pqn, ravl, recordings, sac, stock_dqn, td3
from agents.actor_critic import LearnerConfig
from agents.experiment_config import ExperimentConfig
from agents.parts import Algorithm
from agents.q_learning import QConfig
from valuelearn import determinism
from valuelearn.config import Misfit, load
from valuelearn.errors import no_such_path
from valuelearn.logs import RunFolderError
from valuelearn.loop import Schedule, initial_timestep
from valuelearn.replay import CapacityError
from valuelearn.stocks import Stocks
from valuelearn.types import EnvSpec, FunctionalEnv, HostEnv, LearnerState, Memory

AGENTS: dict[str, Callable[..., Algorithm]] = {  # By `agent.name`.
    "dqn": dqn.make,
    "stock_dqn": stock_dqn.make,
    "pqn": pqn.make,
    "sac": sac.make,
    "td3": td3.make,
    "bc": offline.make_bc,
    "iql": offline.make_iql,
}


class Experiment(NamedTuple):
    """What a config builds."""

    env: FunctionalEnv | HostEnv
    algorithm: Algorithm
    schedule: Schedule
    learner: LearnerState  # Shapes and types alone, of one seed's.


def make_env(
    config: ExperimentConfig, num_envs: int | None = None, stocks: Stocks | None = None
) -> FunctionalEnv | HostEnv:
    """The environment as the agent sees it, with other numbers of copies and other stocks where given.

    Whatever is done with a config begins here, so here the process is told how to compute it.

    Raises:
        Misfit: where it cannot be made here, or the agent cannot play it.
    """
    determinism.set_up(config.determinism)
    env = config.env.make(num_envs)
    continuous = isinstance(config.agent, LearnerConfig)
    if continuous != bool(env.spec.action_size):
        kind, fit = ("continuous", "sac") if env.spec.action_size else ("discrete", "dqn")
        reason = f"its actions are {kind}, which {config.agent.name} does not choose; {fit} does"
        raise Misfit("env.id", config.env.id, reason, "agent.name")
    if isinstance(config.agent, stock_dqn.StockDQNConfig):
        return envs.stocked(env, stocks or config.agent.stocks(env.spec))
    if env.spec.reward_size:
        reason = f"it pays {env.spec.reward_size} numbers a step, which only stock_dqn takes"
        raise Misfit("env.id", config.env.id, reason, "agent.name")
    return env


def make_algorithm(config: ExperimentConfig, spec: EnvSpec) -> Algorithm:
    """The agent and its replay, for environments of that shape; of copies there are the config's, whatever
    the number that are played in now.

    Raises:
        Misfit: for a replay too small for them, or a network that cannot read their observations.
    """
    config.agent.network.check(spec.obs_shape)
    spec = spec._replace(num_envs=config.env.num_envs)
    total_steps = config.train.env_frames // spec.frames_per_step
    if config.offline is not None and isinstance(config.agent, QConfig):
        total_steps = config.agent.steps_for(config.offline.updates)  # Schedules are of these.
    try:
        return AGENTS[config.agent.name](config.agent, spec, total_steps, config.train.collect_steps)
    except CapacityError as error:
        assert isinstance(config.agent, QConfig | LearnerConfig)
        # The one size of a replay that depends on the shape of the environment.
        found = config.agent.replay.capacity
        raise Misfit("agent.replay.capacity", found, str(error), "env.num_envs") from error


def abstract_learner(algorithm: Algorithm, spec: EnvSpec) -> LearnerState:
    """The shapes and types of one seed's learner, without making it."""
    obs = jax.eval_shape(lambda: initial_timestep(spec).obs)
    return jax.eval_shape(algorithm.agent.init, jax.random.key(0), obs)


def load_run(folder: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The config of a run, with `key=value` over it.

    Raises:
        RunFolderError, ConfigError: where the folder is not a run's.
    """
    if not folder.exists():
        raise RunFolderError(f"{folder}: {no_such_path(folder)}")
    if not (folder / "config.yaml").is_file():
        raise RunFolderError(f"{folder}: this is not a run folder: it has no config.yaml")
    return load(ExperimentConfig, folder / "config.yaml", overrides)


def _set_up_cpu(config: ExperimentConfig) -> None:
    """Say how a CPU is to be used, which XLA asks once per process, where its first array is made."""
    train, devices = config.train, config.parallel.devices
    threads = train.cpu_threads or os.cpu_count() or 1
    if train.cpu_threads is not None:
        os.environ["NPROC"] = str(threads)
    # A core computes its share of the seeds sooner than all cores together compute every operation on all.
    most = max(threads // devices, 1) if config.parallel.hosts == 1 else 1
    shares = max(count for count in range(1, most + 1) if train.seeds % count == 0)
    if shares * devices > 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # It was asked before.
            jax.config.update("jax_num_cpu_devices", shares * devices)


def set_up(config: ExperimentConfig) -> None:
    """Say how this process is to compute a config, before it is asked for a device or makes an array."""
    determinism.set_up(config.determinism)
    _set_up_cpu(config)


def make(config: ExperimentConfig) -> Experiment:
    """Build the environment, the agent and its memory; nothing large is allocated.

    Raises:
        Misfit: for what the config asks and the environment does not allow.
    """
    set_up(config)
    if config.parallel.devices > (there := jax.local_device_count()):
        reason = f"there are {there} here ({jax.devices()[0].device_kind}); at most that many are wanted"
        raise Misfit("parallel.devices", config.parallel.devices, reason)
    if config.offline is not None:
        return _make_offline(config, config.offline)
    beside: Callable[[Memory], Memory] | None = None
    if config.rollouts is None:
        env = make_env(config, config.own_copies)
    else:
        env, agent, beside = _rollouts(config, config.rollouts)
        env, config = config.env.harder(env), config.model_copy(update={"agent": agent})
    spec = env.spec._replace(num_envs=config.env.num_envs)
    if config.train.env_frames < spec.frames_per_step:
        reason = f"one step of {config.env.id} takes {spec.frames_per_step} frames"
        raise Misfit("train.env_frames", config.train.env_frames, reason, "env.id")
    algorithm = make_algorithm(config, spec)
    if beside is not None:
        memory = beside(algorithm.memory)
        algorithm = algorithm._replace(memory=memory, memory_bytes=_bytes_of(memory))
    if config.checkpoint.experience:
        experience.check(config.agent, config.train.env_frames, spec)
    total_steps = config.train.env_frames // spec.frames_per_step
    if algorithm.warmup_steps >= total_steps:
        whole = f"train.env_frames = {config.train.env_frames} are {total_steps} agent steps"
        reason = f"{whole}, so that nothing would be learnt"
        raise Misfit("agent.replay.warmup_steps", algorithm.warmup_steps, reason, "train.env_frames")
    every = config.checkpoint.every_frames
    schedule = Schedule(
        total_steps=total_steps,
        warmup_steps=algorithm.warmup_steps,
        steps_per_iteration=config.train.collect_steps,
        updates_per_iteration=algorithm.updates_per_iteration,
        chunk_steps=config.train.log_frames // spec.frames_per_step,
        checkpoint_steps=None if every is None else max(every // spec.frames_per_step, 1),
    )
    return Experiment(env, algorithm, schedule, abstract_learner(algorithm, spec))


def _bytes_of(memory: Memory) -> int:
    """What a memory takes, without making it."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(memory.init)))


def _rollouts(config: ExperimentConfig, rollouts: ravl.RolloutsConfig) -> ravl.Rollouts:
    env = make_env(config, 1)
    if not isinstance(env, FunctionalEnv):
        env.close()  # Its shapes were wanted alone.
    if not isinstance(config.agent, LearnerConfig):
        reason = "agents of continuous actions learn in rollouts; sac does"
        raise Misfit("agent.name", config.agent.name, reason, "rollouts")
    return ravl.make(rollouts, config.env.id, env.spec._replace(num_envs=config.env.num_envs), config.agent)


def _make_offline(config: ExperimentConfig, offline: recordings.OfflineConfig) -> Experiment:
    env = make_env(config, max(offline.episodes, 1))
    spec = env.spec
    algorithm = make_algorithm(config, spec)
    assert isinstance(config.agent, LearnerConfig | dqn.DQNConfig)  # As `recordings.check` has seen to.
    memory = recordings.memory(offline, config.agent, spec, config.env.clip_rewards, config.env.id)
    schedule = Schedule(
        total_steps=offline.updates,
        warmup_steps=0,
        steps_per_iteration=1,
        updates_per_iteration=1,
        chunk_steps=offline.log_updates,
        checkpoint_steps=offline.checkpoint_updates,
    )
    algorithm = algorithm._replace(memory=memory, memory_bytes=_bytes_of(memory))
    return Experiment(env, algorithm, schedule, abstract_learner(algorithm, spec))
