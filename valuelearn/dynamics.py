"""Learnt models of an environment's dynamics: ensembles of networks that predict Gaussians.

Chua et al. (2018); Janner et al. (2019). Each member is fitted to a bootstrap sample of recorded transitions
and predicts by how much the observation changes, and the reward; all are standardised, so that a joint's
angle counts for as much as its velocity. Members lie along the leading axis M.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from valuelearn import ensembles, moments
from valuelearn.moments import Moments
from valuelearn.networks import gaussian, kernel_shares
from valuelearn.types import Network, Params

_CLIPPED = 10.0  # Standard deviations beyond which an input is taken for one at that distance.
_FIRST_BOUNDS = (-10.0, 0.5)  # Of log-variances, standardised; they are learnt.
_BOUNDS_WEIGHT = 0.01  # Of drawing them together, in the loss.
_IMPROVED = 0.01  # Share of a member's error by which it must fall to count as better.


class Model(NamedTuple):
    """A model, all of it arrays."""

    params: Params  # Of the members' `network`s; `low` and `high`, bounds [M, D + 1] of log-variances.
    inputs: Moments  # Of observations and actions, f32[D + A].
    targets: Moments  # Of changes of the observation and rewards, f32[D + 1].


class Transitions(NamedTuple):
    """What a model is fitted to."""

    obs: jax.Array  # f32[N, D]
    action: jax.Array  # f32[N, A]
    reward: jax.Array  # f32[N]
    next_obs: jax.Array  # f32[N, D]


class Prediction(NamedTuple):
    """What members say follows, in the units of the environment."""

    next_obs: jax.Array  # f32[M, B, D] means.
    reward: jax.Array  # f32[M, B] means.
    deviation: jax.Array  # f32[M, B, D + 1] standard deviations of either.


class Progress(NamedTuple):
    """How far fitting has come after an epoch."""

    model: Model  # The best of each member so far.
    errors: np.ndarray  # f64[M] its mean squared error on held-out transitions, standardised.
    epoch: int


def network(obs_size: int, hidden: Sequence[int]) -> Network:
    """The network of one member."""
    return gaussian(obs_size + 1, hidden=hidden)


def unfitted(network: Network, obs_size: int, action_size: int, members: int, key: jax.Array) -> Model:
    """A model before it has seen anything."""
    size = obs_size + action_size
    low, high = (jnp.full((members, obs_size + 1), bound, jnp.float32) for bound in _FIRST_BOUNDS)
    networks = ensembles.ensemble(network, members).init(key, jnp.zeros((1, size)))
    params = {"network": networks, "low": low, "high": high}
    return Model(params, moments.none(size), moments.none(obs_size + 1))


def bounded(raw: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Log-variances held softly between bounds; they move everywhere, but ever less beyond them."""
    below = high - jax.nn.softplus(high - raw)
    return low + jax.nn.softplus(below - low)


def _outputs(network: Network, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means and log-variances [M, B, D + 1], standardised, of inputs [M, B, F]."""
    out = jax.vmap(network.apply)(params["network"], x)
    mean, raw = jnp.split(out, 2, axis=-1)
    return mean, bounded(raw, params["low"][:, None], params["high"][:, None])


def _read(inputs: Moments, x: jax.Array) -> jax.Array:
    """Observations and actions [..., D + A] as networks read them."""
    return jnp.clip(moments.standardized(inputs, x), -_CLIPPED, _CLIPPED)


def joined(transitions: Transitions) -> tuple[jax.Array, jax.Array]:
    """What is read [N, D + A], and what is to be predicted of it: changes and rewards [N, D + 1]."""
    obs, action, reward, next_obs = transitions
    return jnp.concatenate([obs, action], -1), jnp.concatenate([next_obs - obs, reward[:, None]], -1)


def predicted(network: Network, model: Model, obs: jax.Array, action: jax.Array) -> Prediction:
    """What all members say follows observations [B, D], [M, B, D] of each one's own, and actions [B, A]."""
    action = jnp.broadcast_to(action, (*obs.shape[:-1], action.shape[-1]))
    x = _read(model.inputs, jnp.concatenate([obs, action], axis=-1))
    members = len(model.params["low"])
    mean, log_variance = _outputs(network, model.params, jnp.broadcast_to(x, (members, *x.shape[-2:])))
    scale = moments.deviation(model.targets)
    change = model.targets.mean + scale * mean
    return Prediction(obs + change[..., :-1], change[..., -1], scale * jnp.exp(0.5 * log_variance))


def nearer(prediction: Prediction, next_obs: jax.Array, reward: jax.Array, share: float) -> Prediction:
    """Predictions moved by a share of the way to what is true, f32[B, D] and f32[B], and so their doubts."""
    said, reward_said, deviation = prediction
    moved = said + share * (next_obs - said), reward_said + share * (reward - reward_said)
    return Prediction(*moved, (1 - share) * deviation)


def drawn(prediction: Prediction, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Next observations [B, D] and rewards [B] drawn from one member each, any as likely as another."""
    member_key, noise_key = jax.random.split(key)
    members, count = prediction.reward.shape
    member, row = jax.random.randint(member_key, (count,), 0, members), jnp.arange(count)
    next_obs, reward, deviation = (x[member, row] for x in prediction)
    noise = deviation * jax.random.normal(noise_key, deviation.shape)
    return next_obs + noise[:, :-1], reward + noise[:, -1]


def loss(network: Network, params: Params, x: jax.Array, target: jax.Array) -> jax.Array:
    """Negative log-likelihood of targets [M, B, D + 1], twice it and less a constant, summed over members.

    Chua et al. (2018), with the bounds of log-variances drawn together.
    """
    mean, log_variance = _outputs(network, params, x)
    unlikely = log_variance + jnp.square(target - mean) * jnp.exp(-log_variance)
    return unlikely.mean((1, 2)).sum() + _BOUNDS_WEIGHT * (params["high"] - params["low"]).sum()


def _optimizer(shares: Params) -> optax.GradientTransformation:
    """Adam of unit step size; a share of each parameter is added to its gradient before."""

    def decayed(updates: Params, params: Params) -> Params:
        return jax.tree.map(lambda update, share, x: update + share * x, updates, shares, params)

    return optax.chain(optax.stateless(decayed), optax.scale_by_adam())


def fit(
    network: Network,
    transitions: Transitions,
    held_out: Transitions,
    key: jax.Array,
    *,
    members: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: Sequence[float],
    patience: int,
    most_epochs: int,
) -> Iterator[Progress]:
    """Fit a model, an epoch at a time, until no member gets better.

    Members learn from bootstrap samples of `transitions`, and `held_out` judges them. Steps become smaller
    from epoch to epoch, down to nothing after `most_epochs`; fitting ends before where no member's error has
    fallen by a hundredth in `patience` epochs.
    """
    sample_key, init_key, key = jax.random.split(key, 3)
    x, y = joined(transitions)
    inputs, targets = (moments.merged(moments.none(z.shape[-1]), z) for z in (x, y))

    def standardized(transitions: Transitions) -> tuple[jax.Array, jax.Array]:
        x, y = joined(transitions)
        return _read(inputs, x), moments.standardized(targets, y)

    rows = jax.random.randint(sample_key, (members, len(x)), 0, len(x))
    sizes = transitions.obs.shape[-1], transitions.action.shape[-1]
    params = unfitted(network, *sizes, members, init_key).params
    none = jnp.zeros(())
    optimizer = _optimizer(
        {"network": kernel_shares(params["network"], weight_decay), "low": none, "high": none}
    )
    opt_state = optimizer.init(params)
    epoch = jax.jit(_epoch(network, optimizer, batch_size))
    best, best_errors = params, np.full(members, np.inf)
    data, judges = standardized(transitions), standardized(held_out)
    waited = 0
    for number in range(most_epochs):
        rate = learning_rate * (1 - number / most_epochs)
        epoch_key = jax.random.fold_in(key, number)
        params, opt_state, rows, found = epoch(params, opt_state, rows, epoch_key, rate, data, judges)
        errors = np.asarray(found, np.float64)
        better = errors < (1 - _IMPROVED) * best_errors
        best = _chosen(best, params, better)
        best_errors = np.where(better, errors, best_errors)
        yield Progress(Model(best, inputs, targets), best_errors, number + 1)
        waited = 0 if better.any() else waited + 1
        if waited == patience:
            return


def _chosen(old: Params, new: Params, better: np.ndarray) -> Params:
    """Each member's better parameters."""
    return jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), b, a), old, new)


def _epoch(network: Network, optimizer: optax.GradientTransformation, batch_size: int) -> Callable:
    """Every member's rows [M, N] in batches, in a new order; errors [M] on held-out rows after it."""

    def run(
        params: Params,
        opt_state: optax.OptState,
        rows: jax.Array,
        key: jax.Array,
        rate: jax.Array,
        data: tuple[jax.Array, jax.Array],
        judged_by: tuple[jax.Array, jax.Array],
    ) -> tuple[Params, optax.OptState, jax.Array, jax.Array]:
        rows = jax.random.permutation(key, rows, axis=1, independent=True)
        size = min(batch_size, rows.shape[1])
        batches = rows.shape[1] // size
        batched = rows[:, : batches * size].reshape(len(rows), batches, size).swapaxes(0, 1)

        def step(carry: tuple, batch: jax.Array) -> tuple[tuple, None]:
            params, opt_state = carry
            x, y = (z[batch] for z in data)
            gradients = jax.grad(lambda params: loss(network, params, x, y))(params)
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            return (optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates)), opt_state), None

        (params, opt_state), _ = jax.lax.scan(step, (params, opt_state), batched)
        x, y = judged_by
        mean, _ = _outputs(network, params, jnp.broadcast_to(x, (len(rows), *x.shape)))
        return params, opt_state, rows, jnp.square(mean - y).mean((1, 2))

    return run


def elites(model: Model, errors: np.ndarray, count: int) -> Model:
    """The `count` members with the least errors [M], the best first."""
    best = np.argsort(errors)[:count]
    return model._replace(params=jax.tree.map(lambda x: x[best], model.params))
