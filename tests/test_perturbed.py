"""Functional environments made harder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from agents.experiment_config import EnvConfig
from valuelearn.types import EnvSpec, FunctionalEnv, Timestep


def echo(copies, length, action_size=0):
    """An environment whose reward is the action carried out, and whose episodes take `length` steps."""
    spec = EnvSpec((1,), np.dtype(np.float32), 0 if action_size else 6, copies, action_size=action_size)
    obs, yes = jnp.zeros((copies, 1)), jnp.ones(copies, bool)

    def step(count, action, key):
        last = jnp.full(copies, (count + 1) % length == 0)
        reward = (action[:, 0] if action_size else action).astype(jnp.float32)
        return count + 1, Timestep(
            obs, obs, reward, 1.0 - last, last, yes, jnp.full(copies, count, jnp.float32)
        )

    return FunctionalEnv(spec, lambda key: (jnp.int32(0), obs), step)


@pytest.mark.parametrize("action_size", [0, 1])
def test_sticky_actions(play_functional, action_size):
    """What is carried out is the choice or, in a quarter of the steps, what was carried out before."""
    played = play_functional(envs.sticky(echo(64, 5, action_size), 0.25), 400)
    done, action = played.step.reward, played.action.reshape(400, 64)
    before = np.concatenate([np.zeros((1, 64)), np.where(played.step.last, 0, done)[:-1]])
    assert ((done == action) | (done == before)).all()
    telling = before != action
    assert abs((done == before)[telling].mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / telling.sum())


def test_reward_noise(play_functional):
    """It is uniform, new in every step and copy, and changes nothing but the reward."""
    env = echo(64, 5)
    plain, noisy = play_functional(env, 400), play_functional(envs.noisy_rewards(env, -0.5, 1.5), 400)
    noise = np.sort((noisy.step.reward - noisy.action).ravel())
    assert noise.min() >= -0.5 and noise.max() <= 1.5 and len(np.unique(noise)) > 0.99 * noise.size
    uniform = np.linspace(-0.5, 1.5, noise.size)
    assert np.abs(noise - uniform).max() < 2 * 1.95 / np.sqrt(noise.size)  # Kolmogorov: p = 0.001.
    same = plain._replace(step=plain.step._replace(reward=noisy.step.reward))
    jax.tree.map(np.testing.assert_array_equal, same, noisy)


def test_a_config_makes_an_environment_harder(play_functional):
    config = EnvConfig(id="probe/action", sticky_actions=0.5, reward_noise=(2.0, 3.0))
    played, plain = (
        play_functional(config.make(16), 32),
        play_functional(EnvConfig(id=config.id).make(16), 32),
    )
    np.testing.assert_array_equal(plain.step.reward, 2 * plain.action - 1)
    carried_out = (played.step.episode_return + 1) / 2  # Without the noise.
    assert 0.1 < (carried_out != played.action).mean() < 0.5
    noise = played.step.reward - played.step.episode_return
    assert noise.min() >= 2 and noise.max() <= 3 and noise.std() > 0.1
