"""Conservative Q-learning: values of the data's actions are raised against those of others.

Kumar et al. (2020), eq. 4 with the importance weights of appendix F; calibrated: Nakamoto et al. (2023). In
rollouts of a model values are lowered in all states, and raised where there are records: Yu et al. (2021).
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field

from agents.critics import Critics
from valuelearn import replay
from valuelearn.config import Section
from valuelearn.types import Params, Sample


class ConservativeConfig(Section):
    """The conservative term of critics over continuous actions."""

    weight: Annotated[float, Field(gt=0)] = 10.0
    """Weight of the term in the critics' loss; more keeps nearer to the data. 10 for robots, 5 in mazes."""
    samples: Annotated[int, Field(gt=0)] = 10
    """Actions drawn for each item from each of three: uniformly, from the policy here and from that there."""
    softness: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the soft maximum over them, return units."""
    calibrated: bool = False
    """Whether the policy's actions are never held to be worth less than what the data obtained (Cal-QL)."""


def regularizer(
    config: ConservativeConfig,
    critics: Critics,
    params: Params,
    sample: Sample,
    policy: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The weighted term, and the gap between soft maxima and values of the recorded actions, means of both.

    `policy(obs, key)` gives actions [B, D] and the logarithms [B] of their densities.
    """
    obs, data_action, *_ = sample.transition
    next_obs = sample.transition.next_obs
    uniform_key, here_key, there_key = jax.random.split(key, 3)
    batch, size = data_action.shape
    uniform = jax.random.uniform(uniform_key, (config.samples, batch, size), minval=-1.0, maxval=1.0)
    draw = jax.vmap(policy, (None, 0))
    here, log_here = draw(obs, jax.random.split(here_key, config.samples))
    there, log_there = draw(next_obs, jax.random.split(there_key, config.samples))
    actions = jnp.concatenate([uniform, here, there])  # [3 M, B, D]
    log_uniform = jnp.full(log_here.shape, -size * jnp.log(2.0))
    densities = jax.lax.stop_gradient(jnp.concatenate([log_uniform, log_here, log_there]))

    repeated = jnp.broadcast_to(obs, (len(actions), *obs.shape)).reshape(-1, *obs.shape[1:])
    values = critics.values(params, repeated, jax.lax.stop_gradient(actions).reshape(-1, size))
    values = values.reshape(-1, len(actions), batch)  # [K, 3 M, B]
    if config.calibrated:
        assert sample.transition.return_to_go is not None
        calibrated = jnp.maximum(values, sample.transition.return_to_go)
        values = calibrated.at[:, : config.samples].set(values[:, : config.samples])
    soft = config.softness * jax.nn.logsumexp((values - densities) / config.softness, axis=1)
    real = replay.was_recorded(sample.transition)
    raised = jnp.where(real, critics.values(params, obs, data_action), 0.0).sum(-1) / real.sum()
    gap = soft.mean(-1) - raised  # [K]
    return config.weight * gap.sum(), gap.mean()
