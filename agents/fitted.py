"""Fitted Q evaluation: what a run's greedy policy is worth, told from recorded transitions alone.

Le et al. (2019); Fu et al. (2021). Critics are fitted to what a row paid and what they hold the policy's own
action to be worth where it led. Unlike returns of whole episodes, values go on beyond a time limit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import model_validator

import envs
from agents import actor_critic, evaluation, experiment, recordings
from agents.actor_critic import ActorCriticConfig, LearnerConfig, Rule, Step
from agents.parts import Algorithm, ReplayConfig
from envs import datasets
from valuelearn import ensembles, loop
from valuelearn.config import Misfit
from valuelearn.types import Agent, EnvSpec, FunctionalEnv, LearnerState, Metrics, Params, Sample

_COPIES = 8  # Of an environment on the host, which share the episodes.
_GREEDY = ("evaluation.epsilon=0", "evaluation.stochastic=false")

Say = Callable[[str], None]


class FittedConfig(ActorCriticConfig):
    """Critics of a policy that does not change."""

    name: Literal["fitted"] = "fitted"
    """The algorithm."""
    replay: ReplayConfig = ReplayConfig(batch_size=256)
    """The batch size."""
    target_rule: ensembles.Rule = "mean"
    """What targets take of the critics: the lowest would be worth less than the policy is."""

    @model_validator(mode="after")
    def _as_they_are(self) -> "FittedConfig":
        if self.network.normalize_obs:
            raise Misfit("network.normalize_obs", True, "the policy reads observations as they are")
        return self


def make(config: FittedConfig, spec: EnvSpec, agent: Agent, judged: LearnerState, updates: int) -> Algorithm:
    """Critics of `agent`'s greedy policy with what `judged` has learnt, which is part of the parameters."""
    critics = config.critics()

    def init(key: jax.Array, obs: jax.Array) -> dict[str, Params]:
        no_action = jnp.zeros((len(obs), spec.action_size))
        return {"critics": critics.all.init(key, obs, no_action), "judged": judged.params}

    def greedy(params: Params, obs: jax.Array) -> jax.Array:
        return agent.greedy(judged._replace(params=params["judged"]), obs)

    def loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        action = greedy(state.params, sample.transition.next_obs)
        no_cost = jnp.zeros(len(action))
        fitted, fit = critics.targets(state.target_params["critics"], sample, action, no_cost, key)
        total, found = critics.loss(part, sample, fitted)
        return total, found | jax.tree.map(jnp.mean, fit)._asdict()

    rule = Rule(
        init,
        [Step("critics", loss, config.optimizer.make())],
        act=lambda params, obs, key: greedy(params, obs),
        greedy=greedy,
        value=lambda params, obs, action: critics.value(params["critics"], obs, action, config.target_rule),
    )
    # Its replay, of as many parts as there are environments, is never made: it learns from what was recorded.
    return actor_critic.make(config, spec._replace(num_envs=1), updates, 1, rule)


def evaluate(folder: Path, dataset: str, config: FittedConfig, updates: int, episodes: int, say: Say) -> None:
    """Say what the policy of every seed of a run is worth at a dataset's first observations.

    Beside it stands what whole episodes of the environment bring, discounted as in training.

    Raises:
        RunFolderError, ConfigError, CheckpointError: where the folder is not a finished run.
        Misfit: where its actions are not continuous.
        DatasetError: where the dataset cannot be read, or is another environment's.
    """
    cfg = experiment.load_run(folder, _GREEDY)
    if not isinstance(cfg.agent, LearnerConfig):
        reason = "its actions are counted, and critics of continuous ones are fitted"
        raise Misfit("agent.name", cfg.agent.name, reason)
    functional = envs.is_functional(cfg.env.id)
    env = experiment.make_env(cfg, episodes if functional else min(episodes, _COPIES))
    spec, agent = env.spec, experiment.make_algorithm(cfg, env.spec).agent
    recorded = datasets.load(dataset, spec, cfg.env.id)
    config = config.model_copy(update={"gamma": cfg.agent.gamma})
    first = jnp.asarray(recorded.obs[[rows.start for rows in datasets.episodes(recorded)]])
    memory = recordings.drawn(recorded, config)
    schedule = loop.Schedule(updates, 0, 1, 1, updates)
    for index, judged in enumerate(evaluation.learners(cfg, folder / "params", spec)):
        seed = cfg.train.seed + index
        fitted = make(config, spec, agent, judged, updates).agent
        *_, last = loop.train_offline(fitted, memory, spec, schedule, [seed])
        assert fitted.value is not None
        values = np.asarray(fitted.value(jax.tree.map(lambda x: x[0], last.state.learner), first))
        returns = evaluation.play(cfg, env, judged, seed, episodes).discounted
        say(
            f"seed {seed}: fitted value {_told(values)} at {len(values)} first observations, "
            f"discounted return {_told(returns)}, episodes {episodes}"
        )
    if not isinstance(env, FunctionalEnv):
        env.close()


def _told(values: np.ndarray) -> str:
    """A mean and its standard error."""
    error = f" +- {values.std(ddof=1) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{error}"
