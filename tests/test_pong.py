"""The small Pong: its rules, and that every final score can be had."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import pong
from envs.registry import UnknownEnvironmentError

STAY, UP, DOWN = range(3)


def arrival(ball):
    """The row [E] in which the ball reaches the agent's column, if it is on its way there."""
    row, along, last = ball.row, ball.along, pong.HEIGHT - 1
    for column in range(pong.WIDTH - 1):
        ahead = row + along
        inside = jnp.where(ahead < 0, -ahead, jnp.where(ahead > last, 2 * last - ahead, ahead))
        flies = column >= ball.column
        row, along = jnp.where(flies, inside, row), jnp.where(flies & (inside != ahead), -along, along)
    return row


def towards(state, row):
    own = state.paddles[:, 0]
    return jnp.where(row < own, UP, jnp.where(row > own, DOWN, STAY))


def returns(state):
    """Meets every ball with the middle of the paddle, so that it flies straight to an opponent who waits."""
    return jnp.where(state.ball.across > 0, towards(state, arrival(state.ball)), STAY)


def dodges(state):
    """Meets none."""
    far = jnp.where(arrival(state.ball) > pong.HEIGHT // 2, 0, pong.HEIGHT)
    return jnp.where(state.ball.across > 0, towards(state, far), STAY)


def idles(state):
    return jnp.full(state.paddles.shape[0], STAY)


def played(policy, name="pong/3", copies=32, steps=4_000):
    env = envs.make(name, num_envs=copies)

    def step(carry, key):
        state, _ = carry
        state, timestep = env.step(state, policy(state), key)
        return (state, timestep.obs), timestep

    def play(key):
        return jax.lax.scan(step, env.init(key), jax.random.split(key, steps))[1]

    return jax.tree.map(np.asarray, jax.jit(play)(jax.random.key(0)))


@pytest.mark.parametrize(("policy", "score"), [(returns, 3), (dodges, -3)])
def test_points_are_won_and_lost_at_will(policy, score):
    found = played(policy)
    assert found.last.any(0).all()
    assert (found.episode_return[found.last] == score).all()


def test_games_end_when_a_side_has_its_points():
    found = played(idles)
    assert (found.discount == 1 - found.last).all()
    own, opponents = np.moveaxis(found.next_obs[..., -2:] * 3, -1, 0).round()
    assert ((np.maximum(own, opponents) == 3) == found.last).all()
    assert (own - opponents == found.episode_return).all()
    games = found.last.cumsum(0) - found.last
    for copy in range(games.shape[1]):
        sums = np.bincount(games[:, copy], found.reward[:, copy])[: found.last[:, copy].sum()]
        assert (sums == found.episode_return[found.last[:, copy], copy]).all()


def test_the_next_observation_is_of_the_game_that_has_ended():
    found = played(idles)
    assert (found.obs[found.last][:, -2:] == 0).all()
    assert (found.next_obs[found.last][:, -2:] == 1).any(-1).all()
    assert (found.obs[~found.last] == found.next_obs[~found.last]).all()
    assert np.abs(found.next_obs).max() == 1


@pytest.mark.parametrize("name", ["0", "100", "-1", "tennis", "²"])
def test_what_is_not_a_number_of_points_is_refused(name):
    with pytest.raises(UnknownEnvironmentError, match=r"played to 1 to 99 points, as in pong/21, not to"):
        envs.make(f"pong/{name}", num_envs=1)
