"""The DQN family: one agent, in which the head is an option like any other.

DQN, double DQN, C51, QR-DQN, IQN, Munchausen DQN, Rainbow without noisy networks and HL-Gauss
DQN are settings of `DQNConfig`; see `agents/configs/`.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from pydantic import Field, model_validator

from agents import q_learning
from agents.objective_config import ObjectiveConfig
from agents.parts import Algorithm
from agents.q_learning import Outputs, QConfig
from valuelearn import backups, heads
from valuelearn.config import Misfit, Section
from valuelearn.types import Array, EnvSpec, Transition


class MunchausenConfig(Section):
    """Log-policy added to the reward (Vieillard et al., 2020)."""

    weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the scaled log-policy that is added; 0 leaves a soft DQN."""
    temperature: Annotated[float, Field(gt=0)] = 0.03
    """Temperature of the softmax policy, return units; larger is more random."""
    clip: Annotated[float, Field(lt=0)] = -1.0
    """Lowest log-policy term, return units."""


class DQNConfig(QConfig):
    """A DQN with any head."""

    name: Literal["dqn"] = "dqn"
    """The algorithm."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """What greedy actions maximise of the law of the return from here on."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Discount per agent step."""
    munchausen: MunchausenConfig | None = None
    """Munchausen's term and soft targets; none for greedy targets."""

    @property
    def learns_returns(self) -> bool:
        """Whether no logarithm of a policy is added to rewards."""
        return self.munchausen is None

    @model_validator(mode="after")
    def _possible(self) -> "DQNConfig":
        self.objective.check_head("objective", self.head)
        if self.munchausen is not None and self.double:
            reason = "it does not go with munchausen, whose soft targets choose no action; drop one of them"
            raise Misfit("double", True, reason, "munchausen")
        if self.munchausen is not None and self.objective.name != "mean":
            reason = "munchausen needs the mean, as its policy is a softmax over means"
            raise Misfit("objective.name", self.objective.name, reason, "munchausen")
        if self.munchausen is not None and self.replay.n_step > 1:
            reason = "munchausen needs 1, as its term is that of one action"
            raise Misfit("replay.n_step", self.replay.n_step, reason, "munchausen")
        return self


def make(
    config: DQNConfig, spec: EnvSpec, total_steps: int, collect_steps: int, head: heads.Head | None = None
) -> Algorithm:
    """The algorithm for environments of that shape; a `head` of your own replaces the config's."""
    head = config.head_options.make(config.head) if head is None else head
    objective = config.objective.make()

    def scores(out: jax.Array) -> jax.Array:
        return objective.score(*head.atoms(out))

    def greedy(out: jax.Array, obs: Array) -> jax.Array:
        return scores(out).argmax(-1).astype(jnp.int32)

    def target(outputs: Outputs, transition: Transition) -> tuple[jax.Array, heads.SupportFit]:
        reward, discount = transition.reward, transition.discount
        if config.munchausen is None:
            chosen = outputs.next_target[scores(outputs.next_online).argmax()]
        else:
            soft = config.munchausen
            log_policy = jax.nn.log_softmax(head.value(outputs.next_target) / soft.temperature)
            policy = jnp.exp(log_policy)
            chosen = head.mix(outputs.next_target, policy)
            past = jax.nn.log_softmax(head.value(outputs.current_target) / soft.temperature)
            past = past[transition.action]
            reward = reward + soft.weight * jnp.clip(soft.temperature * past, soft.clip, 0.0)
            reward = reward - discount * soft.temperature * (policy * log_policy).sum()
        backup = backups.summed(reward, discount)
        return head.target(chosen, backup), heads.support_fit(head, *heads.backed_up(head, chosen, backup))

    network = config.network.make(spec.num_actions, head)
    rule = q_learning.Rule(greedy, target, needs_current=config.munchausen is not None)
    return q_learning.make(config, spec, config.gamma, total_steps, collect_steps, head, network, rule)
