"""The DQN family: one agent, in which the head is an option like any other.

DQN, double DQN, C51, QR-DQN, IQN, Munchausen DQN, Rainbow without noisy networks and HL-Gauss
DQN are settings of `DQNConfig`; see `agents/configs/`.
"""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field, model_validator

from agents.parts import (
    Algorithm,
    ExplorationConfig,
    HeadConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    update_metrics,
)
from valuelearn import backups, heads, replay
from valuelearn.config import Misfit, Section
from valuelearn.policies import epsilon_greedy
from valuelearn.types import Agent, EnvSpec, LearnerState, Metrics, Sample


class MunchausenConfig(Section):
    """Log-policy added to the reward (Vieillard et al., 2020)."""

    weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the scaled log-policy that is added; 0 leaves a soft DQN."""
    temperature: Annotated[float, Field(gt=0)] = 0.03
    """Temperature of the softmax policy, return units; larger is more random."""
    clip: Annotated[float, Field(lt=0)] = -1.0
    """Lowest log-policy term, return units."""


class ReplayConfig(Section):
    """The replay."""

    capacity: Annotated[int, Field(gt=0)] = 1_000_000
    """Agent steps held, over all environments."""
    warmup_steps: Annotated[int, Field(gt=0)] = 20_000
    """Agent steps of random play before the first update."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    """Transitions per update."""
    n_step: Annotated[int, Field(gt=0)] = 1
    """Rewards summed before bootstrapping."""
    priority_exponent: Annotated[float, Field(ge=0, le=1)] | None = None
    """Exponent on an item's loss (0.5 of a squared error is |error|); none for uniform replay."""
    importance_exponent: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How far importance weights undo the priorities; 1 wholly."""
    importance_exponent_end: Annotated[float, Field(ge=0, le=1)] | None = None
    """Exponent at the end of training, reached linearly in agent steps; none keeps it."""


class DQNConfig(Section):
    """A DQN with any head."""

    name: Literal["dqn"] = "dqn"
    """The algorithm."""
    head: heads.Name = "mse"
    """The value head and so the loss: the one word to change."""
    head_options: HeadConfig = HeadConfig()
    """Support, smoothing and the like; what does not concern the head is ignored."""
    network: NetworkConfig = NetworkConfig()
    """The network in front of the head."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimiser."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """What greedy actions maximise."""
    replay: ReplayConfig = ReplayConfig()
    """The replay."""
    exploration: ExplorationConfig = ExplorationConfig()
    """Exploration."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Discount per agent step."""
    double: bool = False
    """Choose the next action with the online network (van Hasselt et al., 2016)."""
    munchausen: MunchausenConfig | None = None
    """Munchausen's term and soft targets; none for greedy targets."""
    update_period_steps: Annotated[int, Field(gt=0)] = 4
    """Agent steps per update."""
    target_period_updates: Annotated[int, Field(gt=0)] = 2_000
    """Updates between copies to the target network."""
    target_tau: Annotated[float, Field(gt=0, le=1)] | None = None
    """Polyak weight of the new parameters after each update; none for periodic copies."""

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

    def check(self, num_envs: int, collect_steps: int) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            Misfit: naming those that do not.
        """
        steps = num_envs * collect_steps
        if steps % self.update_period_steps:
            raise Misfit(
                "agent.update_period_steps",
                self.update_period_steps,
                f"a divisor of env.num_envs x train.collect_steps = {num_envs} x {collect_steps} is wanted",
                "env.num_envs",
                "train.collect_steps",
            )
        least = num_envs * (self.replay.n_step + 2)
        if self.replay.warmup_steps < least:
            raise Misfit(
                "agent.replay.warmup_steps",
                self.replay.warmup_steps,
                f"env.num_envs x (agent.replay.n_step + 2) = {least} or more is wanted",
                "agent.replay.n_step",
                "env.num_envs",
            )


def make(config: DQNConfig, spec: EnvSpec, total_steps: int, collect_steps: int) -> Algorithm:
    """The algorithm for environments of that shape."""
    head = config.head_options.make(config.head)
    network = config.network.make(spec.num_actions, head)
    optimizer = config.optimizer.make()
    objective = config.objective.make()
    epsilon = config.exploration.schedule(config.replay.warmup_steps)

    def init(key: jax.Array, obs: jax.Array) -> LearnerState:
        key, init_key = jax.random.split(key)
        params = network.init(init_key, obs)
        target_params = jax.tree.map(jnp.copy, params)
        return LearnerState(params, target_params, optimizer.init(params), key, jnp.int32(0))

    def scores(out: jax.Array) -> jax.Array:
        return objective.score(*head.atoms(out))

    def greedy(state: LearnerState, obs: jax.Array) -> jax.Array:
        return scores(network.apply(state.params, obs)).argmax(-1).astype(jnp.int32)

    def act(state: LearnerState, obs: jax.Array, key: jax.Array, env_steps: jax.Array) -> jax.Array:
        share = jnp.where(env_steps < config.replay.warmup_steps, 1.0, epsilon(env_steps))
        return epsilon_greedy(greedy(state, obs), share, spec.num_actions, key)

    def target(
        next_target: jax.Array,
        next_online: jax.Array,
        current_target: jax.Array,
        action: jax.Array,
        reward: jax.Array,
        discount: jax.Array,
    ) -> tuple[jax.Array, heads.SupportFit]:
        """One transition's target and how the support holds it; outputs are [A, N]."""
        if config.munchausen is None:
            chosen = next_target[scores(next_online).argmax()]
        else:
            soft = config.munchausen
            log_policy = jax.nn.log_softmax(head.value(next_target) / soft.temperature)
            policy = jnp.exp(log_policy)
            chosen = head.mix(next_target, policy)
            past = jax.nn.log_softmax(head.value(current_target) / soft.temperature)[action]
            reward = reward + soft.weight * jnp.clip(soft.temperature * past, soft.clip, 0.0)
            reward = reward - discount * soft.temperature * (policy * log_policy).sum()
        backup = backups.summed(reward, discount)
        return head.target(chosen, backup), heads.support_fit(head, *heads.backed_up(head, chosen, backup))

    def loss(params: Any, state: LearnerState, sample: Sample, key: jax.Array) -> tuple[jax.Array, Any]:
        obs, action, reward, discount, next_obs = sample.transition
        online_key, target_key, select_key = jax.random.split(key, 3)
        out = network.apply(params, obs, online_key)
        next_target = network.apply(state.target_params, next_obs, target_key)
        next_online = network.apply(params, next_obs, select_key) if config.double else next_target
        current = network.apply(state.target_params, obs, target_key) if config.munchausen else next_target
        targets, fit = jax.vmap(target)(next_target, next_online, current, action, reward, discount)
        taken = jax.vmap(lambda out, action: out[action])(out, action)
        losses = head.loss(taken, targets)
        return (sample.weight * losses).mean(), (
            losses,
            head.value(taken).mean(),
            jax.tree.map(jnp.mean, fit),
        )

    def update(state: LearnerState, sample: Sample) -> tuple[LearnerState, Metrics, jax.Array]:
        # Folded in, not split off: where no network draws anything the key costs nothing.
        loss_key = jax.random.fold_in(state.key, state.updates)
        (mean_loss, (losses, value, fit)), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params, state, sample, loss_key
        )
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        updates = state.updates + 1
        if config.target_tau is None:
            target_params = optax.periodic_update(
                params, state.target_params, updates, config.target_period_updates
            )
        else:
            target_params = optax.incremental_update(params, state.target_params, config.target_tau)
        metrics = update_metrics(mean_loss, value, fit, grads)
        return LearnerState(params, target_params, opt_state, state.key, updates), metrics, losses

    end = config.replay.importance_exponent_end
    importance_exponent = optax.linear_schedule(
        config.replay.importance_exponent,
        config.replay.importance_exponent if end is None else end,
        total_steps,
    )
    memory = replay.replay(
        spec,
        capacity=config.replay.capacity,
        batch_size=config.replay.batch_size,
        gamma=config.gamma,
        n_step=config.replay.n_step,
        priority_exponent=config.replay.priority_exponent,
        importance_exponent=importance_exponent,
    )
    return Algorithm(
        agent=Agent(init, act, update, greedy),
        memory=memory,
        warmup_steps=config.replay.warmup_steps,
        updates_per_iteration=collect_steps * spec.num_envs // config.update_period_steps,
        memory_bytes=replay.bytes_needed(spec, config.replay.capacity),
    )
