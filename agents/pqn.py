"""Parallel Q-learning: no replay, no target network, lambda-returns over many environments.

Gallici et al. (2024), "Simplifying deep temporal difference learning". LayerNorm keeps it stable.
Any head that models the mean takes the lambda-return as its scalar target.
"""

from typing import Annotated, Any, Literal, cast

import jax
import jax.numpy as jnp
import optax
from pydantic import Field, model_validator

from agents.parts import (
    Algorithm,
    ExplorationConfig,
    HeadConfig,
    NetworkConfig,
    OptimizerConfig,
    update_metrics,
)
from valuelearn import guard, heads, replay, support_doctor
from valuelearn.config import Misfit, Section
from valuelearn.loop import empty_trajectory
from valuelearn.policies import epsilon_greedy
from valuelearn.types import Agent, EnvSpec, LearnerState, Metrics, Trajectory


class PQNConfig(Section):
    """Parallel Q-learning; a rollout is `train.collect_steps` long."""

    name: Literal["pqn"] = "pqn"
    """The algorithm."""
    head: heads.Name = "hl_gauss"
    """The value head and so the loss: one that models the mean."""
    head_options: HeadConfig = HeadConfig()
    """Support, smoothing and the like; what does not concern the head is ignored."""
    network: NetworkConfig = NetworkConfig(torso="minatar", hidden=(128,), layer_norm=True)
    """The network in front of the head."""
    optimizer: OptimizerConfig = OptimizerConfig(name="radam", learning_rate=2e-3, epsilon=1e-8)
    """The optimiser; its step size falls linearly to 0 over the run."""
    exploration: ExplorationConfig = ExplorationConfig(epsilon_end=0.05, decay_steps=100_000)
    """Exploration."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Discount per agent step."""
    lambda_: Annotated[float, Field(ge=0, le=1)] = 0.65
    """Weight of longer returns; 0 bootstraps after one step, 1 at the end of the rollout."""
    epochs: Annotated[int, Field(gt=0)] = 2
    """Passes over each rollout."""
    minibatches: Annotated[int, Field(gt=0)] = 16
    """Updates per pass."""

    @model_validator(mode="after")
    def _possible(self) -> "PQNConfig":
        if heads.make(self.head).distributional:
            mend = "use mse, huber, mse_softmax, two_hot or hl_gauss"
            reason = f"it learns a whole law, but pqn's lambda-return is a scalar; {mend}"
            raise Misfit("head", self.head, reason, "name")
        return self

    def support(self) -> support_doctor.Support:
        """What the support doctor looks at: values are sums of rewards alone."""
        return self.head_options.support(self.head, self.gamma, of_returns=True)

    def check(self, num_envs: int, collect_steps: int) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            Misfit: where a rollout does not split into the minibatches.
        """
        if num_envs * collect_steps % self.minibatches:
            raise Misfit(
                "agent.minibatches",
                self.minibatches,
                f"a divisor of env.num_envs x train.collect_steps = {num_envs} x {collect_steps} is wanted",
                "env.num_envs",
                "train.collect_steps",
            )


def lambda_returns(
    reward: jax.Array, discount: jax.Array, last: jax.Array, next_value: jax.Array, lambda_: float
) -> jax.Array:
    """Lambda-returns [T, ...]; Sutton & Barto (2018), eq. 12.20, cut at episode ends.

    After the last step of an episode or of the rollout only `next_value` is bootstrapped from, by
    `discount`: gamma after a truncation, 0 after a termination. All arguments are [T, ...].
    """

    def step(following: jax.Array, now: tuple) -> tuple[jax.Array, jax.Array]:
        reward, discount, last, next_value = now
        weight = jnp.where(last, 0.0, lambda_)
        value = reward + discount * ((1 - weight) * next_value + weight * following)
        return value, value

    inputs = (reward, discount, last, next_value)
    return jax.lax.scan(step, next_value[-1], inputs, reverse=True)[1]


def make(config: PQNConfig, spec: EnvSpec, total_steps: int, collect_steps: int) -> Algorithm:
    """The algorithm for environments of that shape."""
    head = cast(heads.MeanHead, config.head_options.make(config.head))  # As `_possible` has checked.
    network = config.network.make(spec.num_actions, head)
    rollout_size = collect_steps * spec.num_envs
    per_rollout = config.epochs * config.minibatches
    optimizer = config.optimizer.make(range(-(-total_steps // rollout_size) * per_rollout))
    epsilon = config.exploration.schedule()

    def init(key: jax.Array, obs: jax.Array) -> LearnerState:
        key, init_key = jax.random.split(key)
        params = network.init(init_key, obs)
        return LearnerState(params, None, optimizer.init(params), key, jnp.int32(0))

    def greedy(state: LearnerState, obs: jax.Array) -> jax.Array:
        return head.value(network.apply(state.params, obs)).argmax(-1).astype(jnp.int32)

    def act(state: LearnerState, obs: jax.Array, key: jax.Array, env_steps: jax.Array) -> jax.Array:
        return epsilon_greedy(greedy(state, obs), epsilon(env_steps), spec, key)

    def loss(
        params: Any, obs: jax.Array, action: jax.Array, returns: jax.Array, valid: jax.Array
    ) -> tuple[jax.Array, Any]:
        out = network.apply(params, obs)
        taken = jax.vmap(lambda out, action: out[action])(out, action)
        targets = head.encode(returns)
        fit = heads.support_fit(head, returns[:, None], jnp.ones(1))
        # A step on which the environment only reset itself teaches nothing.
        return (valid * head.loss(taken, targets)).mean(), (head.value(taken).mean(), fit)

    def minibatch(state: LearnerState, batch: tuple) -> tuple[LearnerState, Metrics]:
        (mean_loss, (value, fit)), grads = jax.value_and_grad(loss, has_aux=True)(state.params, *batch)
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        metrics = update_metrics(mean_loss, value, fit, grads)
        return state._replace(params=params, opt_state=opt_state, updates=state.updates + 1), metrics

    def update(
        state: LearnerState, rollout: Trajectory, agree: guard.Agree = guard.alone
    ) -> tuple[LearnerState, Metrics, jax.Array]:
        key, shuffle_key = jax.random.split(state.key)
        step = rollout.step
        flat_next = step.next_obs.reshape(rollout_size, *spec.obs_shape)
        next_value = head.value(network.apply(state.params, flat_next)).max(-1).reshape(step.reward.shape)
        returns = lambda_returns(
            step.reward, config.gamma * step.discount, step.last, next_value, config.lambda_
        )
        data = (rollout.obs, rollout.action, returns, step.valid)
        data = jax.tree.map(lambda x: x.reshape(rollout_size, *x.shape[2:]), data)

        def epoch(state: LearnerState, key: jax.Array) -> tuple[LearnerState, Metrics]:
            order = jax.random.permutation(key, rollout_size).reshape(config.minibatches, -1)
            return jax.lax.scan(
                lambda state, index: minibatch(state, jax.tree.map(lambda x: x[index], data)), state, order
            )

        keys = jax.random.split(shuffle_key, config.epochs)
        learnt, metrics = jax.lax.scan(epoch, state._replace(key=key), keys)
        good = guard.finite(guard.experienced(rollout), metrics["loss"], metrics["grad_norm"])
        return guard.made(agree, good, lambda: learnt, state), jax.tree.map(jnp.mean, metrics), jnp.zeros(0)

    return Algorithm(
        agent=Agent(init, act, update, greedy),
        memory=replay.last_rollout(lambda: empty_trajectory(spec, collect_steps)),
        warmup_steps=0,
        updates_per_iteration=1,
        memory_bytes=2 * rollout_size * spec.bytes_per_obs,
    )
