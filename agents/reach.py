"""What critics hold of the states that rollouts end in: bootstrapped from, and never learnt from.

Elsewhere than in the plane, where the edge is known, the states of a rollout's last step stand for it.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from agents import ravl
from agents.experiment import Experiment
from agents.experiment_config import ExperimentConfig
from valuelearn.loop import Chunk
from valuelearn.types import LearnerState, Metrics

COLUMNS = ("edge_share", "edge_value", "inner_value", "edge_disagreement", "inner_disagreement")
_BATCHES = 32  # Drawn from the replay for a row of metrics.


def along(cfg: ExperimentConfig, built: Experiment, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Chunks of a run in rollouts, with what is true of the states that are bootstrapped from.

    `edge_share` of them lie at the edge of reach. Of those and of the others, `..._value` is what the
    agent holds its action to be worth, and `..._disagreement` by how much the lowest critic is below the
    mean of all: the pessimism that targets take from there.
    """
    assert cfg.rollouts is not None
    agent, memory, rollouts = built.algorithm.agent, built.algorithm.memory, cfg.rollouts
    assert agent.value is not None and agent.values is not None
    value, values = agent.value, agent.values

    def look(learner: LearnerState, replay: object, key: jax.Array) -> Metrics:
        samples = jax.vmap(memory.sample, (None, 0))(replay, jax.random.split(key, _BATCHES))
        drawn = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples.transition)
        bootstrapped = drawn.discount > 0
        edge = bootstrapped & ravl.at_edge(rollouts, drawn)
        inner = bootstrapped & ~edge
        each = values(learner, drawn.next_obs)
        apart = each.mean(0) - each.min(0)
        worth = value(learner, drawn.next_obs)

        def mean(x: jax.Array, where: jax.Array) -> jax.Array:
            return jnp.where(where, x, 0).sum() / where.sum()  # NaN where there is none.

        found = (mean(edge, bootstrapped), mean(worth, edge), mean(worth, inner))
        return dict(zip(COLUMNS, (*found, mean(apart, edge), mean(apart, inner)), strict=True))

    each = jax.jit(jax.vmap(look) if cfg.together else look)
    seeds = range(cfg.train.seed, cfg.train.seed + cfg.train.seeds)
    for chunk in chunks:
        # Of the seed and the update alone, so that a run that goes on draws what it would have drawn.
        keys = jax.vmap(jax.random.fold_in)(
            jnp.stack([jax.random.key(seed) for seed in seeds]), jnp.atleast_1d(chunk.state.learner.updates)
        )
        found = each(chunk.state.learner, chunk.state.memory, keys if cfg.together else keys[0])
        columns = {name: np.atleast_1d(np.asarray(x, np.float64)) for name, x in found.items()}
        yield chunk._replace(metrics=chunk.metrics | columns)
