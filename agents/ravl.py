"""Learning in rollouts of a model that are cut short: what they are, and the environment that makes them.

Model-based policy optimisation (Janner et al., 2019) is any agent of continuous actions here; with `penalty`
it is MOPO (Yu et al., 2020). RAVL (Sims et al., 2024) is one whose critics are many, the lowest counting, and
made unlike (`agent.num_critics`, `agent.diversity`). With `agent.conservative` a soft actor-critic is COMBO
(Yu et al., 2021), with `agent.disagreement` MOBILE (Sun et al., 2023).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from pydantic import Field

from agents import models, recordings
from agents.actor_critic import LearnerConfig
from agents.models import Fitted
from agents.sac import SACConfig
from envs import branched, datasets, edge_of_reach, simulated, terminal_rules
from envs.datasets import Dataset, DatasetError
from envs.simulated import Outcome
from valuelearn import dynamics, replay
from valuelearn.config import Misfit, Section
from valuelearn.dynamics import Model, Prediction
from valuelearn.errors import UserError
from valuelearn.types import EnvSpec, FunctionalEnv, HostEnv, Memory, Sample, Transition

_PLANE = "plane/edge_of_reach"
_SIMULATOR = "simulator"  # In place of a model's folder.
Predictor = Callable[[Model, jax.Array, jax.Array, jax.Array], Prediction]
"""Of a model, observations f32[B, D], actions f32[B, A] and a key."""


class RolloutsConfig(Section):
    """Rollouts to learn from, in place of whole episodes of the environment, which then only evaluates."""

    steps: Annotated[int, Field(gt=0, lt=65_535)] = 5
    """Steps after which a rollout is cut; what would have followed is bootstrapped."""
    model: str | None = None
    """Folder of the model that rollouts follow, as `valuelearn model` writes it; `simulator` for MuJoCo
    itself, which is never wrong; none for the plane's own dynamics."""
    dataset: str | None = None
    """Recorded transitions that rollouts start from, with the states of the simulator where that is the
    model; none for those that a model was fitted to."""
    real_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of each batch that is recorded transitions, where rollouts are a model's."""
    truth: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the way by which a learnt model's predictions are moved to what is true, in
    plane/edge_of_reach, and its doubts to none."""
    penalty: Annotated[float, Field(ge=0)] = 0.0
    """What is taken off a learnt model's reward for each unit of its doubt (MOPO's lambda): of its members'
    norms of the standard deviations that they predict, the largest."""
    patch: edge_of_reach.Patch = "none"
    """States whose true values are told where they would be bootstrapped from, in plane/edge_of_reach: none,
    those at the edge of reach, or as many random ones."""
    episodes: Annotated[int, Field(ge=0, le=65_536)] = 256
    """Whole episodes of the environment that the policy plays for each row of metrics; 0 for none."""

    @property
    def learnt(self) -> bool:
        """Whether they are of a learnt model."""
        return self.model not in (None, _SIMULATOR)

    @property
    def compiled(self) -> bool:
        """Whether they run inside the compiled loop."""
        return self.model != _SIMULATOR

    def check(self, env_id: str, agent: Section) -> None:
        """Refuse what rollouts there cannot be, and agents that cannot learn in them.

        Raises:
            Misfit: naming what does not fit.
        """
        if isinstance(agent, LearnerConfig) and agent.return_size is not None:
            reason = "values in rollouts are reported in units of returns; use agent.reward_scale"
            raise Misfit("agent.return_size", agent.return_size, reason, "rollouts")
        if self.model is None:
            if env_id != _PLANE:
                reason = (
                    f"its dynamics are not known, as those of {_PLANE} are; fit a model: valuelearn model"
                )
                raise Misfit("env.id", env_id, reason, "rollouts.model")
            for name in ("dataset", "truth", "penalty"):
                if found := getattr(self, name):
                    reason = "it is of rollouts of a model; name one in rollouts.model"
                    raise Misfit(f"rollouts.{name}", found, reason, "rollouts.model")
            self._check_conservative(agent, real_share=0.0)
            return
        if self.patch != "none":
            reason = f"true values are known in rollouts of {_PLANE} itself alone"
            raise Misfit("rollouts.patch", self.patch, reason, "rollouts.model", "env.id")
        if self.truth and env_id != _PLANE:
            reason = f"the true dynamics are known in {_PLANE} alone"
            raise Misfit("rollouts.truth", self.truth, reason, "env.id")
        if self.model == _SIMULATOR:
            self._check_simulator(env_id)
        if not isinstance(agent, LearnerConfig):
            return  # Whoever makes the environment knows whether it could play there at all, and says so.
        recordings.check(agent, "rollouts.model")
        self._check_conservative(agent, self.real_share)
        real = round(self.real_share * agent.replay.batch_size)
        if self.real_share and not 0 < real < agent.replay.batch_size:
            reason = f"of a batch of {agent.replay.batch_size} that is {real}; some of either kind are wanted"
            raise Misfit("rollouts.real_share", self.real_share, reason, "agent.replay.batch_size")

    def _check_conservative(self, agent: Section, real_share: float) -> None:
        """Refuse CQL where nothing was recorded, and Cal-QL."""
        if not isinstance(agent, SACConfig) or agent.conservative is None:
            return
        if not real_share:
            reason = "it prefers what was recorded, which no batch has any of; null is wanted"
            found = agent.conservative.model_dump()
            raise Misfit("agent.conservative", found, reason, "rollouts.real_share", "rollouts.model")
        if agent.conservative.calibrated:
            reason = "of rollouts it is not known what they would have obtained; false is wanted"
            raise Misfit("agent.conservative.calibrated", True, reason, "rollouts")

    def _check_simulator(self, env_id: str) -> None:
        if not env_id.startswith("mujoco/"):
            reason = f"only of mujoco/ environments, and not of {env_id}, is it a model"
            raise Misfit("rollouts.model", self.model, reason, "env.id")
        if self.dataset is None:
            reason = "it was fitted to none whose states rollouts could start from; name a dataset"
            raise Misfit("rollouts.dataset", None, reason, "rollouts.model")
        if self.penalty:
            raise Misfit("rollouts.penalty", self.penalty, "the simulator has no doubt", "rollouts.model")


class Rollouts(NamedTuple):
    """What there is to learn from."""

    env: FunctionalEnv | HostEnv
    agent: LearnerConfig  # With the part of its batches that is of rollouts.
    beside: Callable[[Memory], Memory]  # What of the dataset and the model goes into batches beside those.


def at_edge(config: RolloutsConfig, transition: Transition) -> jax.Array:
    """Whether transitions [B] bootstrap from a state that no rollout goes on from.

    In the plane it is known which no rollout could go on from; elsewhere those of a last step stand for them.
    """
    if config.model is None:
        return edge_of_reach.at_edge(transition.next_obs, config.steps)
    assert transition.age is not None
    return transition.age == config.steps - 1  # Those that were recorded are older.


def make(config: RolloutsConfig, env_id: str, spec: EnvSpec, agent: LearnerConfig) -> Rollouts:
    """As many rollouts at once as `spec` has environments.

    Raises:
        DatasetError: where the dataset cannot be read, or is of another environment.
        Misfit: where there is no model, it is of another environment, or has too few members to disagree.
    """
    if config.model is None:
        plane = edge_of_reach.make(spec.num_envs, config.steps)
        patched = edge_of_reach.patched(plane, config.steps, agent.gamma, config.patch)
        return Rollouts(patched, agent, lambda memory: memory)
    env: FunctionalEnv | HostEnv
    imagined: Callable[[Memory], Memory] | None = None
    model = fitted(config, env_id) if config.learnt else None
    dataset = recorded(config, model, env_id, spec)
    if model is not None:
        env = _of_model(model, dataset, spec, config)
        if isinstance(agent, SACConfig) and agent.disagreement is not None:
            if model.config.elites < 2:
                reason = f"{config.model} has one member, which disagrees with none; two or more are wanted"
                raise Misfit("agent.disagreement", agent.disagreement.model_dump(), reason, "rollouts.model")
            said = predictor(config, model)
            imagined = partial(_imagining, said, model.model, agent.disagreement.draws)
    else:
        env = _of_simulator(dataset, env_id, spec, config)
    size = agent.replay.batch_size
    real = round(config.real_share * size)

    def beside(memory: Memory) -> Memory:
        if real:
            memory = replay.mixed(recordings.drawn(dataset, _drawing(agent, real)), memory)
        return memory if imagined is None else imagined(memory)

    return Rollouts(env, _drawing(agent, size - real), beside)


def _drawing(agent: LearnerConfig, batch_size: int) -> LearnerConfig:
    """The same with other batches."""
    replay = agent.replay.model_copy(update={"batch_size": batch_size})
    return agent.model_copy(update={"replay": replay})


def fitted(config: RolloutsConfig, env_id: str) -> Fitted:
    """The learnt model that rollouts follow.

    Raises:
        Misfit: where there is none, or it is of another environment.
    """
    assert config.model is not None
    try:
        found = models.load(Path(config.model))
    except UserError as error:
        raise Misfit("rollouts.model", config.model, str(error)) from error
    if found.config.env != env_id:
        raise Misfit("rollouts.model", config.model, f"it is of {found.config.env}", "env.id")
    return found


def recorded(config: RolloutsConfig, model: Fitted | None, env_id: str, spec: EnvSpec) -> Dataset:
    """The transitions that rollouts of a learnt model, or of the simulator, start from.

    Raises:
        DatasetError: where they cannot be read, or are of another environment.
    """
    source = config.dataset
    if source is None:
        assert model is not None  # The simulator is refused without a dataset.
        source = model.config.dataset
    return datasets.load(source, spec, env_id)


def predictor(config: RolloutsConfig, model: Fitted) -> Predictor:
    """What the members of a learnt model say of rollouts, moved to the truth by as much as is wanted."""

    def predicted(arrays: Model, obs: jax.Array, action: jax.Array, key: jax.Array) -> Prediction:
        said = dynamics.predicted(model.network, arrays, obs, action)
        if not config.truth:
            return said
        true = edge_of_reach.dynamics(obs, action, key)
        return dynamics.nearer(said, true.next_obs, true.reward, config.truth)

    return predicted


def _imagining(predicted: Predictor, model: Model, draws: int, memory: Memory) -> Memory:
    """The same memory, that has each of a model's members draw what may follow what was done.

    The model is part of its state: it is no constant of compiled programs.
    """

    def sample(state: tuple[Any, Model], key: jax.Array) -> Sample:
        key, predict_key, draw_key = jax.random.split(key, 3)
        drawn = memory.sample(state[0], key)
        said = predicted(state[1], drawn.transition.obs, drawn.transition.action, predict_key)
        mean, deviation = (x.swapaxes(0, 1)[:, :, None] for x in (said.next_obs, said.deviation[..., :-1]))
        noise = jax.random.normal(draw_key, (*mean.shape[:2], draws, mean.shape[-1]))
        imagined = mean + deviation * noise
        return drawn._replace(transition=drawn.transition._replace(imagined=imagined))

    return Memory(
        init=lambda: (memory.init(), model),
        add=lambda state, trajectory: (memory.add(state[0], trajectory), state[1]),
        sample=sample,
        reprioritise=lambda state, sample, priority: state,
    )


def _of_simulator(dataset: Dataset, env_id: str, spec: EnvSpec, config: RolloutsConfig) -> HostEnv:
    try:
        return branched.make(env_id, dataset, spec.num_envs, config.steps)
    except DatasetError as error:
        raise Misfit("rollouts.dataset", config.dataset, str(error), "rollouts.model") from error


def _of_model(model: Fitted, dataset: Dataset, spec: EnvSpec, config: RolloutsConfig) -> FunctionalEnv:
    terminated = terminal_rules.rule(model.config.env)
    predicted = predictor(config, model)

    def starts(world: tuple[Model, jax.Array], key: jax.Array, count: int) -> jax.Array:
        return world[1][jax.random.randint(key, (count,), 0, len(world[1]))]

    def step(world: tuple[Model, jax.Array], obs: jax.Array, action: jax.Array, key: jax.Array) -> Outcome:
        predict_key, draw_key = jax.random.split(key)
        said = predicted(world[0], obs, action, predict_key)
        next_obs, reward = dynamics.drawn(said, draw_key)
        doubt = jnp.linalg.norm(said.deviation, axis=-1).max(0)
        return Outcome(next_obs, reward - config.penalty * doubt, terminated(next_obs))

    world = model.model, jnp.asarray(dataset.obs)
    return simulated.make(spec, starts, step, config.steps, world)
