"""A whole run as one config, and the parts it is built from."""

from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

import envs
from agents import dqn
from valuelearn import replay
from valuelearn.config import Section
from valuelearn.loop import Schedule
from valuelearn.types import Agent, EnvSpec, FunctionalEnv, HostEnv, Memory


class EnvConfig(Section):
    """The environment; the Atari options default to Dopamine's protocol."""

    id: str = "minatar/breakout"
    """`minatar/<game>`, `classic/<name>`, `atari/<game>` or `gym/<gymnasium id>`."""
    num_envs: Annotated[int, Field(gt=0)] = 1
    """Copies stepped together."""
    sticky_actions: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Probability that an Atari game repeats the last action instead of the chosen one."""
    noop_max: Annotated[int, Field(ge=0)] = 0
    """Most idle actions at the start of an Atari game."""
    life_loss_terminates: bool = False
    """Whether losing a life in an Atari game ends the return being learnt (the game goes on)."""
    clip_rewards: bool = True
    """Whether Atari rewards are clipped to [-1, 1] for learning; returns are reported unclipped."""
    max_episode_frames: Annotated[int, Field(gt=0)] = 108_000
    """Emulator frames after which an Atari game is truncated; 108,000 are 27,000 agent steps."""

    @model_validator(mode="after")
    def _known(self) -> "EnvConfig":
        envs.check(self.id)
        return self

    def make(self, num_envs: int | None = None) -> FunctionalEnv | HostEnv:
        """The environment, with another number of copies where given."""
        options = self.model_dump(exclude={"id", "num_envs"})
        return envs.make(self.id, num_envs=num_envs or self.num_envs, atari=envs.AtariOptions(**options))


class TrainConfig(Section):
    """How long, how often, and from which seed."""

    env_frames: Annotated[int, Field(gt=0)] = 1_000_000
    """Environment frames to train for: 4 per agent step in Atari, 1 elsewhere."""
    log_frames: Annotated[int, Field(gt=0)] = 50_000
    """Environment frames between two rows of metrics."""
    collect_steps: Annotated[int, Field(gt=0)] = 4
    """Vector steps between two rounds of updates."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes every random number of the run."""
    seeds: Annotated[int, Field(gt=0)] = 1
    """Runs trained at once, from `seed` upwards; only for environments inside the compiled loop."""


class EvaluationConfig(Section):
    """Greedy evaluation after training and by `valuelearn evaluate`."""

    episodes: Annotated[int, Field(ge=0)] = 100
    """Whole episodes played; 0 for none after training."""
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of random actions."""


class ExperimentConfig(Section):
    """Everything that defines a run."""

    env: EnvConfig = EnvConfig()
    """The environment."""
    agent: dqn.DQNConfig = dqn.DQNConfig()
    """The agent."""
    train: TrainConfig = TrainConfig()
    """Training."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation."""

    @model_validator(mode="after")
    def _consistent(self) -> "ExperimentConfig":
        if self.train.seeds > 1 and not envs.is_functional(self.env.id):
            raise ValueError(
                f"train.seeds is {self.train.seeds}, but {self.env.id} runs outside the compiled loop; "
                "train one seed at a time there"
            )
        steps = self.train.collect_steps * self.env.num_envs
        if steps % self.agent.update_period_steps:
            raise ValueError(
                f"train.collect_steps x env.num_envs is {steps} agent steps, which must be a multiple "
                f"of agent.update_period_steps, {self.agent.update_period_steps}"
            )
        least = self.env.num_envs * (self.agent.replay.n_step + 2)
        if self.agent.replay.warmup_steps < least:
            raise ValueError(
                f"agent.replay.warmup_steps is {self.agent.replay.warmup_steps}; with {self.env.num_envs} "
                f"environments and n_step {self.agent.replay.n_step} at least {least} are needed"
            )
        return self


class Experiment(NamedTuple):
    """What a config builds."""

    env: FunctionalEnv | HostEnv
    agent: Agent
    memory: Memory
    schedule: Schedule
    memory_bytes: int  # Of the replay, for one seed.


def make_agent(config: ExperimentConfig, spec: EnvSpec) -> Agent:
    """The agent alone, for evaluation."""
    return dqn.make(config.agent, spec)


def make(config: ExperimentConfig) -> Experiment:
    """Build the environment, the agent and its memory."""
    env = config.env.make()
    spec, agent, train = env.spec, config.agent, config.train
    total_steps = train.env_frames // spec.frames_per_step

    def importance_exponent(written):
        start = agent.replay.importance_exponent
        end = agent.replay.importance_exponent_end
        return start if end is None else start + (end - start) * (written / total_steps).clip(0, 1)

    memory = replay.replay(
        spec,
        capacity=agent.replay.capacity,
        batch_size=agent.replay.batch_size,
        gamma=agent.gamma,
        n_step=agent.replay.n_step,
        priority_exponent=agent.replay.priority_exponent,
        importance_exponent=importance_exponent,
    )
    schedule = Schedule(
        total_steps=total_steps,
        warmup_steps=agent.replay.warmup_steps,
        steps_per_iteration=train.collect_steps,
        updates_per_iteration=train.collect_steps * spec.num_envs // agent.update_period_steps,
        chunk_steps=train.log_frames // spec.frames_per_step,
    )
    return Experiment(
        env, dqn.make(agent, spec), memory, schedule, replay.bytes_needed(spec, agent.replay.capacity)
    )
