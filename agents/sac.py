"""Soft actor-critic, in which the critic's head is an option like any other.

SAC (Haarnoja et al., 2018, 2018b), REDQ (Chen et al., 2021; more critics and updates, a random few of
them in each target), SAC-N and EDAC (An et al., 2021; the lowest of many, and those made unlike), TQC
(Kuznetsov et al., 2020; pooled quantiles without the highest), CQL (Kumar et al., 2020), Cal-QL (Nakamoto
et al., 2023), COMBO (Yu et al., 2021; CQL in rollouts of a model) and MOBILE (Sun et al., 2023) are settings
of `SACConfig`.
"""

from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from pydantic import Field

from agents import actor_critic
from agents.actor_critic import ActorCriticConfig, Rule, Step
from agents.conservative import ConservativeConfig, regularizer
from agents.disagreement import DisagreementConfig, disagreement
from agents.parts import Algorithm
from valuelearn import ensembles
from valuelearn.policies import LEAST_LOG_STD, gaussian, tanh_gaussian
from valuelearn.types import EnvSpec, LearnerState, Metrics, Params, Sample


class SACConfig(ActorCriticConfig):
    """A soft actor-critic with any head."""

    name: Literal["sac"] = "sac"
    """The algorithm."""
    actor_rule: ensembles.Rule = "lowest"
    """What the actor ascends: the lowest value of all critics, or their mean (REDQ, TQC)."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Return units for a unit of entropy at the beginning; it is learnt."""
    target_entropy: float = -1.0
    """Entropy per number of an action that the temperature is adjusted for."""
    least_log_std: Annotated[float, Field(lt=2)] = LEAST_LOG_STD
    """Logarithm of the smallest standard deviation of the policy's Gaussian; EDAC and RAVL have -5."""
    entropy_in_target: bool = True
    """Whether the entropy is part of the values; CQL leaves it to the actor."""
    conservative: ConservativeConfig | None = None
    """CQL's, Cal-QL's and COMBO's term in the critics' loss, for runs on a dataset, or with one in rollouts;
    none for none."""
    disagreement: DisagreementConfig | None = None
    """MOBILE's penalty, in rollouts of a learnt model; none for none."""

    @property
    def learns_returns(self) -> bool:
        """Whether no entropy is part of the values."""
        return not self.entropy_in_target and self.disagreement is None and super().learns_returns

    @property
    def needs_dataset(self) -> bool:
        """Whether recorded actions are preferred to others."""
        return self.conservative is not None


def _less(sample: Sample, penalty: jax.Array) -> Sample:
    """The same with less reward, by as much for each item."""
    transition = sample.transition
    return sample._replace(transition=transition._replace(reward=transition.reward - penalty))


def make(config: SACConfig, spec: EnvSpec, total_steps: int, collect_steps: int) -> Algorithm:
    """The algorithm for environments of that shape."""
    critics, actor = config.critics(), config.network.actor(2 * spec.action_size)
    optimizer, actor_optimizer = config.optimizers()
    wanted_entropy = config.target_entropy * spec.action_size

    def init(key: jax.Array, obs: jax.Array) -> dict[str, Params]:
        actor_key, critic_key = jax.random.split(key)
        return {
            "actor": actor.init(actor_key, obs),
            "critics": critics.all.init(critic_key, obs, jnp.zeros((len(obs), spec.action_size))),
            "log_temperature": jnp.log(jnp.float32(config.temperature)),
        }

    def sampled(part: Params, obs: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return tanh_gaussian(*gaussian(actor.apply(part, obs), config.least_log_std), key)

    def act(params: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        return sampled(params["actor"], obs, key)[0]

    def greedy(params: Params, obs: jax.Array) -> jax.Array:
        return jnp.tanh(gaussian(actor.apply(params["actor"], obs), config.least_log_std)[0])

    def value(params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return critics.value(params["critics"], obs, action, config.actor_rule)

    def values(params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return critics.values(params["critics"], obs, action)

    def critic_loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        action_key, subset_key, conservative_key, disagreement_key = jax.random.split(key, 4)
        policy = partial(sampled, state.params["actor"])
        action, log_prob = policy(sample.transition.next_obs, action_key)
        temperature = jnp.exp(state.params["log_temperature"]) if config.entropy_in_target else 0.0
        of_target, found = state.target_params["critics"], {}
        if config.disagreement is not None:
            apart = disagreement(critics, of_target, sample.transition, policy, disagreement_key)
            sample, found = _less(sample, config.disagreement.weight * apart), {"disagreement": apart.mean()}
        fitted, fit = critics.targets(of_target, sample, action, temperature * log_prob, subset_key)
        loss, more = critics.loss(part, sample, fitted)
        found |= more
        if config.conservative is not None:
            term, gap = regularizer(config.conservative, critics, part, sample, policy, conservative_key)
            loss += term
            found |= {"loss": loss, "conservative_gap": gap}
        return loss, found | jax.tree.map(jnp.mean, fit)._asdict()

    def actor_loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        obs = sample.transition.obs
        action, log_prob = sampled(part, obs, key)
        temperature = jnp.exp(state.params["log_temperature"])
        return (temperature * log_prob - value(state.params, obs, action)).mean(), {
            "entropy": -log_prob.mean()
        }

    def temperature_loss(
        part: Params, state: LearnerState, sample: Sample, key: jax.Array, metrics: Metrics
    ) -> tuple[jax.Array, Metrics]:
        """Haarnoja et al. (2018b), section 5, of the actor's entropy before its step."""
        return part * (metrics["entropy"] - wanted_entropy), {"temperature": jnp.exp(part)}

    steps = (
        Step("critics", critic_loss, optimizer),
        Step("actor", actor_loss, actor_optimizer),
        Step("log_temperature", temperature_loss, actor_optimizer),
    )
    metrics = ["entropy", "temperature"]
    metrics += ["conservative_gap"] if config.conservative else []
    metrics += ["disagreement"] if config.disagreement else []
    rule = Rule(init, steps, act, greedy, value, values, metrics=metrics)
    return actor_critic.make(config, spec, total_steps, collect_steps, rule)
