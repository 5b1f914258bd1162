"""A whole run as one config, and what of it goes together."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

import envs
from agents import asking, dqn, offline, pqn, ravl, recordings, sac, stock_dqn, td3
from agents.actor_critic import LearnerConfig
from agents.critics import CriticsConfig
from agents.objective_config import ObjectiveConfig
from agents.q_learning import QConfig
from valuelearn.config import Misfit, Section
from valuelearn.determinism import Level
from valuelearn.loop import Division
from valuelearn.types import FunctionalEnv, HostEnv

_ATARI_ONLY = ("noop_max", "life_loss_terminates", "clip_rewards", "max_episode_frames")


class EnvConfig(Section):
    """The environment; `atari/` games default to Dopamine's protocol, and they alone take the options after
    `reward_noise`."""

    id: str = "minatar/breakout"
    """`minatar/<game>`, `classic/<name>`, `grid/<name>`, `pong/<points>`, `plane/<name>`, `probe/<name>`,
    `atari/<game>`, `mujoco/<gymnasium id>` or `gym/<gymnasium id>`."""
    num_envs: Annotated[int, Field(gt=0, le=65_536)] = 1
    """Copies stepped together; at most 1,024 a host of environments outside the compiled loop."""
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
    """Processes that train one run together, as a rule one a machine, with so many `devices` each and equal
    parts of the environments; all are started by the same command."""
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
            if self.own_copies > 1024:
                reason = f"{outside} at most 1024 copies are stepped together on one host"
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
    def own_copies(self) -> int:
        """Copies of the environment that this process makes: inside the compiled loop all of them."""
        return self.env.num_envs if self._compiled else self.env.num_envs // self.parallel.hosts

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
            if self.rollouts is not None or self.offline is not None:
                reason = "it is for environments, without recordings or rollouts; 1 is wanted"
                raise Misfit("parallel.hosts", self.parallel.hosts, reason, "offline", "rollouts")
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
        if self.checkpoint.experience and self.parallel.hosts > 1:
            reason = "of several hosts none has it all; false is wanted"
            raise Misfit("checkpoint.experience", True, reason, "parallel.hosts")

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
