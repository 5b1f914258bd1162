"""How good a model of the dynamics is: one step ahead, in its doubts, and many steps ahead."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from valuelearn import dynamics, moments
from valuelearn.dynamics import Model, Transitions
from valuelearn.types import Network

LEVELS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))


class Report(NamedTuple):
    """What is told of a model with M members."""

    explained: np.ndarray  # f64[D + 1] R^2 of changes and of the reward, of the members' mean prediction.
    covered: np.ndarray  # f64[9, D + 1] share within the central interval of each of `LEVELS`.
    errors: np.ndarray  # f64[K, windows * M] after as many steps on its own, in standard deviations.
    standing: np.ndarray  # f64[K, windows] of saying that nothing changes.


def one_step(network: Network, model: Model, held_out: Transitions) -> tuple[np.ndarray, np.ndarray]:
    """`explained` and `covered` of transitions that the model was not fitted to."""
    _, target = dynamics.joined(held_out)
    found = jax.jit(lambda model, obs, action: dynamics.predicted(network, model, obs, action))(
        model, held_out.obs, held_out.action
    )
    mean = jnp.concatenate([found.next_obs - held_out.obs, found.reward[..., None]], axis=-1)
    wanted = np.asarray(target, np.float64)
    off = np.asarray(mean.mean(0), np.float64) - wanted
    with np.errstate(divide="ignore", invalid="ignore"):  # What never changes has nothing to explain.
        explained = 1 - np.square(off).mean(0) / wanted.var(0)
    apart = np.abs(np.asarray((mean - target) / found.deviation))
    widths = stats.norm.ppf(0.5 + 0.5 * np.array(LEVELS))
    return explained, np.stack([(apart < width).mean((0, 1)) for width in widths])


def open_loop(
    network: Network, model: Model, obs: jax.Array, action: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """`errors` and `standing` of windows: observations [W, K + 1, D] and the actions [W, K, A] between them.

    Each member goes its own way from the first observation, by its means. Errors are root mean squares over
    dimensions, each in standard deviations of the observations that the model was fitted to.
    """
    steps = obs.swapaxes(0, 1)  # [K + 1, W, D]
    first = steps[0]
    scale = moments.deviation(model.inputs)[: obs.shape[-1]]

    def off(guess: jax.Array, true: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.square((guess - true) / scale).mean(-1))

    def go(model: Model) -> jax.Array:
        def step(guess: jax.Array, following: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            action, true = following
            guess = dynamics.predicted(network, model, guess, action).next_obs
            return guess, off(guess, true).ravel()

        guess = jnp.broadcast_to(first, (len(model.params["low"]), *first.shape))
        return jax.lax.scan(step, guess, (action.swapaxes(0, 1), steps[1:]))[1]

    return np.asarray(jax.jit(go)(model), np.float64), np.asarray(off(first, steps[1:]), np.float64)


def report(
    network: Network, model: Model, held_out: Transitions, obs: jax.Array, action: jax.Array
) -> Report:
    """All of it; arguments as of `one_step` and `open_loop`."""
    return Report(*one_step(network, model, held_out), *open_loop(network, model, obs, action))
