"""A whole run as one config, and the parts it is built from."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
from pydantic import Field, field_validator, model_validator

import envs
from agents import asking, dqn, experience, offline, pqn, ravl, recordings, sac, stock_dqn, td3
from agents.actor_critic import LearnerConfig
from agents.critics import CriticsConfig
from agents.objective_config import ObjectiveConfig
from agents.parts import Algorithm
from agents.q_learning import QConfig
from valuelearn import determinism
from valuelearn.config import Misfit, Section, load
from valuelearn.determinism import Level
from valuelearn.errors import no_such_path
from valuelearn.logs import RunFolderError
from valuelearn.loop import Division, Schedule, initial_timestep
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


_ATARI_ONLY = ("noop_max", "life_loss_terminates", "clip_rewards", "max_episode_frames")


class EnvConfig(Section):
    """The environment; `atari/` games default to Dopamine's protocol, and they alone take the options after
    `reward_noise`."""

    id: str = "minatar/breakout"
    """`minatar/<game>`, `classic/<name>`, `grid/<name>`, `pong/<points>`, `plane/<name>`, `probe/<name>`,
    `atari/<game>`, `mujoco/<gymnasium id>` or `gym/<gymnasium id>`."""
    num_envs: Annotated[int, Field(gt=0, le=65_536)] = 1
    """Copies stepped together; at most 1,024 of environments outside the compiled loop."""
    patience_seconds: Annotated[float, Field(gt=0)] = 600.0
    """How long an environment of gymnasium's may not answer before the run ends, to be resumed."""
    sticky_actions: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Probability that the last action is repeated instead of the chosen one; none for what is usual: 0.25
    in `atari/`, 0 elsewhere."""
    reward_noise: tuple[float, float] | None = None
    """Uniform noise between these two on every reward that is learnt from, in environments inside the
    compiled loop; returns are reported without it."""
    noop_max: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Most idle actions at the start of an Atari game."""
    life_loss_terminates: bool = False
    """Whether losing a life in an Atari game ends the return being learnt (the game goes on)."""
    clip_rewards: bool = True
    """Whether Atari rewards are clipped to [-1, 1] for learning; returns are reported unclipped."""
    max_episode_frames: Annotated[int, Field(gt=0, lt=2**31)] = 108_000
    """Emulator frames after which an Atari game is truncated; 108,000 are 27,000 agent steps."""

    # A field's validator: it is not run on the default, for which no extra need be installed.
    @field_validator("id")
    @classmethod
    def _known(cls, id: str) -> str:
        envs.check(id)
        return id

    @model_validator(mode="after")
    def _possible(self) -> "EnvConfig":
        inside = envs.is_functional(self.id)
        if self.reward_noise is not None:
            if not inside:
                reason = f"{self.id} runs outside the compiled loop, where rewards take no noise"
                raise Misfit("reward_noise", self.reward_noise, reason, "id")
            if self.reward_noise[0] > self.reward_noise[1]:
                raise Misfit("reward_noise", self.reward_noise, "its lower end is wanted first")
        if not self.id.startswith("atari/"):
            for name in _ATARI_ONLY:
                if (value := getattr(self, name)) != type(self).model_fields[name].default:
                    raise Misfit(name, value, f"{self.id} takes none; atari/ alone does", "id")
        if self.sticky_actions and not inside and not self.id.startswith("atari/"):
            reason = f"{self.id} takes none; atari/ and environments inside the compiled loop do"
            raise Misfit("sticky_actions", self.sticky_actions, reason, "id")
        return self

    def make(self, num_envs: int | None = None) -> FunctionalEnv | HostEnv:
        """The environment, with another number of copies where given.

        Raises:
            Misfit: where it cannot be made here, or no agent here can play it.
        """
        others = {"id", "num_envs", "patience_seconds", "reward_noise"}
        atari = envs.AtariOptions(**self.model_dump(exclude=others, exclude_none=True))
        copies, patience = num_envs or self.num_envs, self.patience_seconds
        try:
            env = envs.make(self.id, num_envs=copies, atari=atari, patience_seconds=patience)
        except envs.UnknownEnvironmentError as error:
            raise Misfit("env.id", self.id, str(error)) from error
        return self.harder(env)

    def harder(self, env: FunctionalEnv | HostEnv) -> FunctionalEnv | HostEnv:
        """A compiled environment with the sticky actions and the noise that are asked for, or another as it
        is, which is asked for none."""
        if not isinstance(env, FunctionalEnv):
            return env
        if self.sticky_actions:
            env = envs.sticky(env, self.sticky_actions)
        if self.reward_noise is not None:
            env = envs.noisy_rewards(env, *self.reward_noise)
        return env


class TrainConfig(Section):
    """How long, how often, and from which seed."""

    env_frames: Annotated[int, Field(gt=0, lt=2**31)] = 1_000_000
    """Environment frames to train for: 4 per agent step in Atari, 1 elsewhere."""
    log_frames: Annotated[int, Field(gt=0)] = 50_000
    """Environment frames between two rows of metrics."""
    collect_steps: Annotated[int, Field(gt=0)] = 4
    """Vector steps between two rounds of updates."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes every random number of the run."""
    seeds: Annotated[int, Field(gt=0, le=1_024)] = 1
    """Runs trained at once, from `seed` upwards, in equal shares on as many devices or cores as divide them;
    only for environments inside the compiled loop."""
    cpu_threads: Annotated[int, Field(gt=0)] | None = None
    """Threads that compute on a CPU; none for one per core. One is faster where networks are tiny."""


class ParallelConfig(Section):
    """One seed on several devices, of several hosts."""

    devices: Annotated[int, Field(gt=0, le=65_536)] = 1
    """Devices that each seed is computed on, with equal parts of its environments, replay and batches; a CPU
    is made into as many."""
    hosts: Annotated[int, Field(gt=0, le=65_536)] = 1
    """Processes that train one run together, as a rule one a machine, with so many `devices` each; all are
    started by the same command. For jitted environments."""
    critics: bool = False
    """Whether each of those devices has some of an ensemble's critics, which learn from whole batches, in the
    place of a part of the batches and of every critic."""

    @property
    def parts(self) -> int:
        """Devices of one seed on all hosts."""
        return self.devices * self.hosts

    @property
    def division(self) -> Division:
        """How the loops are to compute a seed."""
        return Division(self.devices, self.critics)


class EvaluationConfig(Section):
    """Greedy evaluation after training and by `valuelearn evaluate`."""

    episodes: Annotated[int, Field(ge=0, le=65_536)] = 100
    """Whole episodes played; 0 for none after training."""
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of random actions."""
    stochastic: bool = False
    """Whether actions are drawn as in training, rather than the best taken."""
    objective: ObjectiveConfig | None = None
    """What a stock_dqn is asked for; none for its utility, at stocks as in training."""
    stock: float | tuple[float, ...] | None = None
    """The stock that it is asked to begin with; none where the objective seeks the best one itself."""


class CheckpointConfig(Section):
    """Saving the whole run, so that it can go on after a crash as if nothing had happened."""

    every_frames: Annotated[int, Field(gt=0)] | None = 2_000_000
    """Environment frames between two checkpoints, taken with the next row of metrics; none for no
    checkpoints. Environments outside the compiled loop start new episodes there."""
    keep: Annotated[int, Field(gt=0)] = 2
    """Checkpoints kept, the newest."""
    replay: bool = True
    """Whether the replay is saved too; without it a run goes on, but not as the same run."""
    policies_every_frames: Annotated[int, Field(gt=0)] | None = None
    """Environment frames between two sets of parameters that are kept for ever, under `policies/`; none for
    the last alone. Datasets are made from them."""
    experience: bool = False
    """Whether the replay is left as a dataset, `experience.hdf5`, when training ends; it must hold the whole
    run, observations be vectors, and the environment run outside the compiled loop."""

    @model_validator(mode="after")
    def _whole(self) -> "CheckpointConfig":
        if self.experience and not self.replay:
            reason = "a run that goes on without its replay has lost what it did; replay=true is wanted"
            raise Misfit("experience", True, reason, "replay")
        return self


class ExperimentConfig(Section):
    """Everything that defines a run."""

    env: EnvConfig = EnvConfig()
    """The environment."""
    agent: Annotated[
        dqn.DQNConfig
        | stock_dqn.StockDQNConfig
        | pqn.PQNConfig
        | sac.SACConfig
        | td3.TD3Config
        | offline.BCConfig
        | offline.IQLConfig,
        Field(discriminator="name"),
    ] = dqn.DQNConfig()
    """The agent; `agent.name` says which, and so which keys it takes."""
    train: TrainConfig = TrainConfig()
    """Training."""
    parallel: ParallelConfig = ParallelConfig()
    """Devices and hosts for one seed."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    determinism: Level = "bitwise"
    """How far another run of this config is the same: in every bit, but for rounding, or not at all."""
    offline: recordings.OfflineConfig | None = None
    """A dataset to learn from, in place of the environment, which then only evaluates; none for none."""
    rollouts: ravl.RolloutsConfig | None = None
    """Rollouts cut short to learn from, in place of whole episodes of the environment, which then only
    evaluates; none for none."""

    @field_validator("determinism", mode="before")
    @classmethod
    def _off(cls, found: object) -> object:
        return "off" if found is False else found  # As YAML reads it.

    @model_validator(mode="after")
    def _consistent(self) -> "ExperimentConfig":
        if not self._compiled:
            outside = f"{self.env.id} runs outside the compiled loop, where"
            if self.train.seeds > 1 and self.offline is None:
                reason = f"{outside} one seed is trained at a time"
                raise Misfit("train.seeds", self.train.seeds, reason, "env.id")
            if self.env.num_envs > 1024:
                reason = f"{outside} at most 1024 copies are stepped together"
                raise Misfit("env.num_envs", self.env.num_envs, reason, "env.id")
        if self.offline is None:
            self.agent.check(self.env.num_envs, self.train.collect_steps)
        else:
            recordings.check(self.agent)
        self._check_parts()
        self._check_pessimism()
        self._check_leavings()
        self._check_replay_saved()
        if self.rollouts is not None:
            self.rollouts.check(self.env.id, self.agent)
            if self.offline is not None:
                reason = "it is not mixed with rollouts; none is wanted"
                raise Misfit("offline.dataset", self.offline.dataset, reason, "rollouts")
        if self.evaluation.objective is not None:
            self._check_question(self.evaluation.objective)
        elif self.evaluation.stock is not None:
            reason = "a stock to begin with goes with an objective; give one"
            raise Misfit("evaluation.stock", self.evaluation.stock, reason, "evaluation.objective")
        return self

    @property
    def together(self) -> bool:
        """Whether seeds are trained at once, and arrays have an axis of them: all inside a compiled loop."""
        return self._compiled or self.offline is not None

    @property
    def _compiled(self) -> bool:
        """Whether what is played in runs inside the compiled loop."""
        return envs.is_functional(self.env.id) if self.rollouts is None else self.rollouts.compiled

    def _check_parts(self) -> None:
        """Refuse what cannot be divided among devices."""
        sizes = {} if self.offline is not None else {"env.num_envs": self.env.num_envs}
        if self.parallel.critics:
            if not isinstance(self.agent, CriticsConfig):
                reason = f"{self.agent.name} has no ensemble of critics; false is wanted"
                raise Misfit("parallel.critics", True, reason, "agent.name")
            sizes["agent.num_critics"] = self.agent.num_critics
        elif isinstance(self.agent, QConfig | LearnerConfig):
            sizes["agent.replay.batch_size"] = self.agent.replay.batch_size
        among = f"parallel.devices = {self.parallel.devices}"
        if self.parallel.hosts > 1:
            among += f" times parallel.hosts = {self.parallel.hosts}"
            if not self._compiled or self.rollouts is not None or self.offline is not None:
                reason = "it is for jitted environments, without recordings or rollouts; 1 is wanted"
                raise Misfit("parallel.hosts", self.parallel.hosts, reason, "env.id", "offline", "rollouts")
        for key, size in sizes.items():
            if size % self.parallel.parts:
                reason = f"a multiple of {among} is wanted"
                raise Misfit(key, size, reason, "parallel.devices", "parallel.hosts")

    def _check_pessimism(self) -> None:
        """Refuse agents that prefer what was recorded, or doubt a model, where there is no such thing."""
        soft = isinstance(self.agent, sac.SACConfig)
        recorded = self.offline is not None or (self.rollouts is not None and soft)
        if isinstance(self.agent, LearnerConfig) and self.agent.needs_dataset and not recorded:
            reason = "with these settings it learns from a dataset; name one in offline.dataset"
            raise Misfit("agent.name", self.agent.name, reason)
        learnt = self.rollouts is not None and self.rollouts.learnt
        if isinstance(self.agent, sac.SACConfig) and self.agent.disagreement is not None and not learnt:
            reason = "only members of a learnt model can disagree; null is wanted"
            raise Misfit("agent.disagreement", self.agent.disagreement.model_dump(), reason, "rollouts.model")

    def _check_leavings(self) -> None:
        """Refuse what a run on a dataset, or in the compiled loop, does not leave."""
        kept = self.checkpoint.policies_every_frames
        if self.offline is not None and kept is not None:
            reason = "a run on a dataset has no frames of its own; null is wanted"
            raise Misfit("checkpoint.policies_every_frames", kept, reason, "offline")
        if self.checkpoint.experience and (self.together or self.rollouts is not None):
            where = "on a dataset" if self.offline is not None else "inside the compiled loop"
            reason = f"a run {'in rollouts' if self.rollouts else where} leaves none; false is wanted"
            raise Misfit("checkpoint.experience", True, reason, "env.id", "offline", "rollouts")

    def _check_replay_saved(self) -> None:
        """Refuse to go on without a replay that holds more than experience."""
        if self.checkpoint.replay or self.offline is not None:
            return
        if not isinstance(self.agent, QConfig | LearnerConfig):
            return
        held = {
            "agent.return_size": getattr(self.agent, "return_size", None),
            "agent.replay.importance_exponent_end": self.agent.replay.importance_exponent_end,
        }
        for key, found in held.items():
            if found is not None:
                reason = f"what {key} has come to is saved with it; true is wanted"
                raise Misfit("checkpoint.replay", False, reason, key)

    def _check_question(self, objective: ObjectiveConfig) -> None:
        if not isinstance(self.agent, stock_dqn.StockDQNConfig):
            reason = f"{self.agent.name} cannot be asked for an objective; stock_dqn can"
            raise Misfit("evaluation.objective", objective.name, reason, "agent.name")
        asking.check(self.agent, objective, self.evaluation.stock, "evaluation")


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
    """The agent and its replay, for environments of that shape.

    Raises:
        Misfit: for a replay too small for them, or a network that cannot read their observations.
    """
    config.agent.network.check(spec.obs_shape)
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
        env = make_env(config)
    else:
        env, agent, beside = _rollouts(config, config.rollouts)
        env, config = config.env.harder(env), config.model_copy(update={"agent": agent})
    spec = env.spec
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
    # As for training in the environment: of episodes there may be more than a replay has room for.
    algorithm = make_algorithm(config, spec._replace(num_envs=config.env.num_envs))
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
