"""gymnax's environments inside the compiled loop."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.gym_host import GymEnv


def check_returns(step):
    total = np.zeros(step.reward.shape[1])
    for t in range(len(step.reward)):
        total += step.reward[t]
        np.testing.assert_allclose(step.episode_return[t], total, rtol=1e-6)
        total[step.last[t]] = 0


def test_cartpole_ends_out_of_bounds(play_functional):
    step = play_functional(envs.make("classic/cartpole", num_envs=4), 200).step
    position, angle = np.abs(step.next_obs[..., 0]), np.abs(step.next_obs[..., 2])
    out = (position > 2.4) | (angle > 12 * np.pi / 180)
    np.testing.assert_array_equal(step.last, out)
    np.testing.assert_array_equal(step.discount, ~out)
    assert step.last.sum() > 10 and (np.abs(step.obs[step.last]) <= 0.05).all()
    np.testing.assert_array_equal(step.obs[~step.last], step.next_obs[~step.last])
    check_returns(step)


def test_mountain_car_is_truncated_after_200_steps(play_functional):
    step = play_functional(envs.make("classic/mountain_car", num_envs=2), 401).step
    np.testing.assert_array_equal(np.flatnonzero(step.last[:, 0]), [199, 399])
    assert (step.discount == 1).all() and (step.episode_return[[199, 399]] == -200).all()
    assert (step.obs[199] != step.next_obs[199]).any()
    check_returns(step)


def test_pendulum_is_that_of_gymnasium(play_functional):
    """Our actions within [-1, 1] are torques within [-2, 2], in the compiled loop and on the host."""
    host, inside = GymEnv(gymnasium.make_vec("Pendulum-v1", 2)), envs.make("classic/pendulum", num_envs=2)
    assert host.spec == inside.spec._replace(num_envs=2)
    assert (inside.spec.num_actions, inside.spec.action_shape) == (0, (1,))
    rng, step = np.random.default_rng(0), jax.jit(inside.step)
    state, _ = inside.init(jax.random.key(0))
    host.reset(0)
    for index, copy in enumerate(host._env.envs):
        copy.unwrapped.state = np.array([state.env.theta[index], state.env.theta_dot[index]], float)
    for index in range(200):
        action = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
        state, found = step(state, action, jax.random.key(index))
        wanted = host.step(action)
        np.testing.assert_allclose(found.reward, wanted.reward, atol=2e-3)
        np.testing.assert_allclose(found.next_obs, wanted.next_obs, atol=2e-3)
        assert (found.last == wanted.last).all() and (found.discount == 1).all()
    assert found.last.all()
    check_returns(play_functional(inside, 401).step)


@pytest.mark.parametrize("game", ["asterix", "breakout", "freeway", "seaquest", "space_invaders"])
def test_minatar_observations_are_bits(game):
    env = envs.make(f"minatar/{game}", num_envs=2)
    state, obs = jax.eval_shape(env.init, jax.random.key(0))
    action = jnp.zeros(2, jnp.int32)
    _, step = jax.eval_shape(env.step, state, action, jax.random.key(0))
    for found in (obs, step.obs, step.next_obs):
        assert (found.shape, found.dtype) == ((2, 10, 10, env.spec.obs_shape[-1]), env.spec.obs_dtype)
    assert env.spec.obs_dtype == np.dtype(bool)
    assert step.reward.dtype == step.episode_return.dtype == jnp.float32


def test_minatar_returns(play_functional):
    played = play_functional(envs.make("minatar/breakout", num_envs=4), 100)
    assert played.obs.any() and not played.obs.all() and played.step.reward.any()
    np.testing.assert_array_equal(played.step.discount, ~played.step.last)
    check_returns(played.step)
