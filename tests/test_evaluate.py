"""Playing whole episodes, on environments whose returns are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import probes
from valuelearn import evaluate
from valuelearn.evaluate import Policy
from valuelearn.types import Agent, EnvSpec, LearnerState, Timestep

LEARNER = LearnerState(jnp.int32(1), None, None, jax.random.key(0), jnp.int32(0))


def always(learner, obs):
    """The action that the learner's only parameter names."""
    return jnp.broadcast_to(learner.params, obs.shape[0])


AGENT = Agent(init=None, act=None, update=None, greedy=always)


@pytest.mark.parametrize(("action", "expected"), [(0, -1.0), (1, 1.0)])
def test_the_policy_is_the_learners(action, expected):
    learner = LEARNER._replace(params=jnp.int32(action))
    found = evaluate.functional_returns(AGENT, probes.make("action", 8), learner, Policy(), jax.random.key(0))
    np.testing.assert_array_equal(found.undiscounted, np.full(8, expected))


def test_epsilon_is_the_share_of_random_actions():
    env = probes.make("action", 4096)
    found = evaluate.functional_returns(AGENT, env, LEARNER, Policy(0.5), jax.random.key(0)).undiscounted
    # A quarter take the other action: mean 1/2, four standard errors of 0.0135.
    assert abs(found.mean() - 0.5) < 0.054


def test_each_copy_plays_one_whole_episode():
    """Undiscounted, an episode of the geometric probe returns its length: 2 on average, deviation 1.41."""
    env = probes.make("geometric", 4096)
    found = evaluate.functional_returns(AGENT, env, LEARNER, Policy(), jax.random.key(0), gamma=0.5)
    lengths = found.undiscounted
    assert lengths.min() == 1 and abs(lengths.mean() - 2) < 4 * 2**0.5 / 64
    np.testing.assert_allclose(found.discounted, 2 - 2 * 0.5**lengths, rtol=1e-6)


class Host:
    """Copies whose episodes last 1, 2 and 3 steps, with a reward of 1 each."""

    spec = EnvSpec((1,), np.dtype(np.float32), 2, num_envs=3)

    def reset(self, seed):
        self.steps = np.zeros(3, int)
        return np.zeros((3, 1), np.float32)

    def step(self, action):
        assert (action == 1).all()
        self.steps += 1
        last, total = self.steps == [1, 2, 3], self.steps.astype(np.float32)
        self.steps = np.where(last, 0, self.steps)
        obs, one = np.zeros((3, 1), np.float32), np.ones(3, np.float32)
        return Timestep(obs, obs, one, one - last, last, np.ones(3, bool), total)


@pytest.mark.parametrize(("episodes", "returns"), [(1, [1]), (3, [1, 2, 3]), (7, [1, 1, 1, 2, 2, 3, 3])])
def test_short_episodes_are_not_counted_more_often(episodes, returns):
    seen = []
    found = evaluate.host_returns(AGENT, Host(), LEARNER, Policy(), 0, episodes, 0.5, on_step=seen.append)
    assert sorted(found.undiscounted) == returns
    np.testing.assert_allclose(found.discounted, 2 - 2 * 0.5**found.undiscounted)
    assert len(seen) == max(3 * returns.count(3), 2 * returns.count(2), returns.count(1))
