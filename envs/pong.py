"""A small Pong inside the compiled loop: `pong/21` is played to 21 points, `pong/3` to three.

Everything happens on a grid, one column and at most two rows of the ball at a time. The reward is 1 for a
point and -1 for one of the opponent's, so that the return without discount is the final difference. The
opponent follows the ball no faster than it can, and misses some balls whatever comes: a rally that the
agent only keeps up ends all the same, and so does every game, without a time limit.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.registry import UnknownEnvironmentError
from valuelearn.types import EnvSpec, FunctionalEnv, Timestep

WIDTH, HEIGHT = 10, 11  # The agent's paddle is in the last column, the opponent's in column 0.
_REACH = 1  # Rows of a paddle above and below its middle.
_SPIN = 2  # Rows a step that a ball gets for each row between it and the middle of the paddle that hits it.
_FOLLOWS = 0.5  # Chance that the opponent moves a row towards a ball that comes to it.
_SLIPS = 0.1  # Chance that it misses a ball that it could hit.
_MOST_POINTS = 99
_STAY, _UP = 0, 1  # Actions; the third is down.
_SIZE = 3 * HEIGHT + WIDTH + (2 * _SPIN + 1) + 1 + 2  # Numbers in an observation.


class _Ball(NamedTuple):
    column: jax.Array  # i32[E]
    row: jax.Array  # i32[E]
    across: jax.Array  # i32[E] -1 towards the opponent, 1 towards the agent.
    along: jax.Array  # i32[E] rows a step.


class _State(NamedTuple):
    ball: _Ball
    paddles: jax.Array  # i32[E, 2] middle rows of the agent's and the opponent's.
    points: jax.Array  # i32[E, 2] likewise.


def points(name: str) -> int:
    """The points that `pong/<name>` is played to.

    Raises:
        UnknownEnvironmentError: for what is not a number of points.
    """
    if name.isdecimal() and 1 <= int(name) <= _MOST_POINTS:
        return int(name)
    reason = f"pong is played to 1 to {_MOST_POINTS} points, as in pong/21, not to {name!r}"
    raise UnknownEnvironmentError(reason)


def make(target: int, num_envs: int) -> FunctionalEnv:
    """`num_envs` games to `target` points; observations f32[51], actions stay, up and down."""

    def serve(key: jax.Array, paddles: jax.Array) -> _Ball:
        once = jnp.ones(num_envs, jnp.int32)
        return _Ball(once, paddles[:, 1], once, jax.random.randint(key, (num_envs,), -_SPIN, _SPIN + 1))

    def kick_off(key: jax.Array) -> _State:
        paddles = jnp.full((num_envs, 2), HEIGHT // 2)
        return _State(serve(key, paddles), paddles, jnp.zeros((num_envs, 2), jnp.int32))

    def init(key: jax.Array) -> tuple[_State, jax.Array]:
        state = kick_off(key)
        return state, _observation(state, target)

    def step(before: _State, action: jax.Array, key: jax.Array) -> tuple[_State, Timestep]:
        follow_key, slip_key, serve_key, start_key = jax.random.split(key, 4)
        follows = jax.random.bernoulli(follow_key, _FOLLOWS, (num_envs,))
        slips = jax.random.bernoulli(slip_key, _SLIPS, (num_envs,))
        paddles = _moved(before, action, follows)
        ball, won = _flown(before.ball, paddles, slips)
        ball = _where(won == 0, ball, serve(serve_key, paddles))
        score = before.points + jnp.stack([won == 1, won == -1], -1)
        state = _State(ball, paddles, score)
        over = (score == target).any(-1)
        after = _where(over, kick_off(start_key), state)
        timestep = Timestep(
            next_obs=_observation(state, target),
            obs=_observation(after, target),
            reward=won.astype(jnp.float32),
            discount=1.0 - over,
            last=over,
            valid=jnp.ones(num_envs, bool),
            episode_return=(score[:, 0] - score[:, 1]).astype(jnp.float32),
        )
        return after, timestep

    return FunctionalEnv(EnvSpec((_SIZE,), np.dtype(np.float32), 3, num_envs), init, step)


def _where(condition: jax.Array, first: Any, second: Any) -> Any:
    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, first, second)


def _moved(state: _State, action: jax.Array, follows: jax.Array) -> jax.Array:
    """Paddles [E, 2] after the agent's action; the opponent moves only while the ball comes to it."""
    agent = jnp.where(action == _STAY, 0, jnp.where(action == _UP, -1, 1))
    ahead = jnp.sign(state.ball.row - state.paddles[:, 1])
    opponent = jnp.where(follows & (state.ball.across < 0), ahead, 0)
    moved = state.paddles + jnp.stack([agent, opponent], -1)
    return jnp.clip(moved, _REACH, HEIGHT - 1 - _REACH)


def _flown(ball: _Ball, paddles: jax.Array, slips: jax.Array) -> tuple[_Ball, jax.Array]:
    """The ball a step later, and who has won the point: 1 the agent, -1 the opponent, 0 nobody."""
    column, row = ball.column + ball.across, ball.row + ball.along
    outside = (row < 0) | (row >= HEIGHT)
    row = jnp.where(row < 0, -row, jnp.where(row >= HEIGHT, 2 * (HEIGHT - 1) - row, row))
    along = jnp.where(outside, -ball.along, ball.along)
    at_agent, at_opponent = column == WIDTH - 1, column == 0
    off = row - jnp.where(at_agent, paddles[:, 0], paddles[:, 1])
    hit = (jnp.abs(off) <= _REACH) & ~(at_opponent & slips)
    arrived = at_agent | at_opponent
    returned = arrived & hit
    won = jnp.where(arrived & ~hit, jnp.where(at_opponent, 1, -1), 0)
    across = jnp.where(returned, -ball.across, ball.across)
    return _Ball(column, row, across, jnp.where(returned, _SPIN * off, along)), won


def _observation(state: _State, target: int) -> jax.Array:
    """Places and the ball's speed as one-hot vectors, its direction, shares of the points; [E, _SIZE]."""
    ball = state.ball
    parts = (
        jax.nn.one_hot(ball.row, HEIGHT),
        jax.nn.one_hot(ball.column, WIDTH),
        jax.nn.one_hot(state.paddles, HEIGHT).reshape(-1, 2 * HEIGHT),
        jax.nn.one_hot(ball.along + _SPIN, 2 * _SPIN + 1),
        ball.across[:, None],
        state.points / target,
    )
    return jnp.concatenate(parts, -1)
