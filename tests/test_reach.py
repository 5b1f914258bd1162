"""What is measured of the states that rollouts end in."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import experiment, reach
from agents.experiment_config import ExperimentConfig
from envs import edge_of_reach as plane
from valuelearn import config, loop

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = Path(experiment.__file__).parent / "configs" / "plane" / "rollouts.yaml"
STEPS = 2
DRAWN = 32 * 64  # Transitions for a row of metrics.
SMALL = [
    "env.num_envs=64",
    f"rollouts.steps={STEPS}",
    f"train.collect_steps={STEPS}",
    "train.env_frames=3840",
    "train.log_frames=640",
    "train.seeds=2",
    "agent.replay={capacity: 8000, warmup_steps: 640, batch_size: 64}",
    "agent.network.hidden=[8]",
    "agent.num_critics=3",
]


def chunks(start=None):
    cfg = config.load(ExperimentConfig, CONFIG, SMALL)
    built = experiment.make(cfg)
    parts = (built.algorithm.agent, built.env, built.algorithm.memory, built.schedule, [0, 1], start)
    for chunk in reach.along(cfg, built, loop.train_functional(*parts)):
        yield chunk._replace(state=jax.tree.map(jnp.copy, chunk.state)), built


@pytest.fixture(scope="module")
def trained():
    return list(chunks())


def test_what_is_held_of_the_edge(trained):
    """Recounted from all that the replay holds, of which the run drew a sample."""
    chunk, built = trained[-1]
    agent = built.algorithm.agent
    for seed in (0, 1):
        state = jax.tree.map(lambda x, seed=seed: x[seed], chunk.state)
        held = state.memory
        rows = np.flatnonzero(held.start)
        # Of one step each: what follows a row stands in the next.
        next_obs = held.frame[rows + 1]
        edge = np.asarray(plane.at_edge(next_obs, STEPS))
        assert 0.02 < edge.mean() < 0.5
        values = np.asarray(agent.values(state.learner, next_obs))
        apart, worth = values.mean(0) - values.min(0), np.asarray(agent.value(state.learner, next_obs))
        np.testing.assert_allclose(worth, values.min(0), rtol=1e-6)
        known = {
            "edge_share": edge,
            "edge_value": worth[edge],
            "inner_value": worth[~edge],
            "edge_disagreement": apart[edge],
            "inner_disagreement": apart[~edge],
        }
        assert set(known) == set(reach.COLUMNS)
        for name, x in known.items():
            error = x.std() / np.sqrt(DRAWN * len(x) / len(rows))
            assert abs(chunk.metrics[name][seed] - x.mean()) < 4 * error, name


def test_a_run_in_rollouts_goes_on_as_the_same_run(trained):
    """Measuring draws from nothing that the run draws from, nor from anything that is not saved."""
    middle = len(trained) // 2
    rest = list(chunks(trained[middle][0].state))
    assert len(rest) == len(trained) - middle - 1
    for (a, _), (b, _) in zip(trained[middle + 1 :], rest, strict=True):
        assert a.metrics.keys() == b.metrics.keys()
        jax.tree.map(np.testing.assert_array_equal, a.metrics, b.metrics)
