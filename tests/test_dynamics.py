"""Learnt models of the dynamics: what they recover of dynamics that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelearn import dynamics, model_report, moments

COUNT, OBS, ACTION = 20_000, 3, 2
NOISE = np.array([0.1, 0.002, 1.0, 0.1])  # Of each dimension and the reward.
SCALE = jnp.array([1.0, 0.02, 10.0])


def linear(key):
    """Transitions of a linear system with noise, and the changes and rewards without it."""
    keys = jax.random.split(key, 4)
    obs = SCALE * jax.random.normal(keys[0], (COUNT, OBS))
    action = jax.random.uniform(keys[1], (COUNT, ACTION), minval=-1)
    x = jnp.concatenate([obs / SCALE, action], axis=-1)
    weights = jax.random.normal(keys[2], (OBS + ACTION, OBS + 1)) * jnp.append(SCALE, 1.0)
    mean = x @ weights
    found = mean + NOISE * jax.random.normal(keys[3], mean.shape)
    return dynamics.Transitions(obs, action, found[:, -1], obs + found[:, :-1]), mean


@pytest.fixture(scope="module")
def fitted():
    transitions, mean = linear(jax.random.key(0))
    learnt, held_out = (
        jax.tree.map(lambda x, w=w: x[w], transitions) for w in (slice(4_000, None), slice(4_000))
    )
    network = dynamics.network(OBS, (32, 32))
    options = {"batch_size": 256, "learning_rate": 1e-3, "weight_decay": (0.0, 1e-5, 0.0), "patience": 8}
    *_, last = dynamics.fit(
        network, learnt, held_out, jax.random.key(1), members=3, most_epochs=150, **options
    )
    return network, last, held_out, mean[:4_000]


def test_mean_and_deviation_of_a_linear_system_are_recovered(fitted):
    network, progress, held_out, mean = fitted
    found = dynamics.predicted(network, progress.model, held_out.obs, held_out.action)
    changes = np.concatenate([found.next_obs - held_out.obs, found.reward[..., None]], axis=-1)
    assert (1 - np.square(changes - mean).mean((0, 1)) / mean.var(0) > 0.99).all()
    np.testing.assert_allclose(found.deviation.mean((0, 1)), NOISE, rtol=0.1)


def test_the_report_agrees(fitted):
    network, progress, held_out, _ = fitted
    explained, covered = model_report.one_step(network, progress.model, held_out)
    assert explained.shape == (OBS + 1,) and (explained > 0.98).all()
    np.testing.assert_allclose(covered, np.tile(np.array(model_report.LEVELS)[:, None], OBS + 1), atol=0.05)


def test_members_go_their_own_way(fitted):
    """Without noise, a linear system far ahead: errors grow, and stay below those of standing still."""
    network, progress, held_out, _ = fitted
    windows, steps = 50, 3
    chained = [held_out.obs[:windows]]
    actions = held_out.action[: windows * steps].reshape(windows, steps, ACTION)
    model = progress.model
    for step in range(steps):  # What the model itself says in the mean is what happens.
        chained.append(dynamics.predicted(network, model, chained[-1], actions[:, step]).next_obs.mean(0))
    errors, standing = model_report.open_loop(network, model, jnp.stack(chained, 1), actions)
    assert errors.shape == (steps, 3 * windows) and standing.shape == (steps, windows)
    assert (np.median(errors, axis=1) < 0.1 * np.median(standing, axis=1)).all()
    assert np.median(errors, axis=1)[0] < np.median(errors, axis=1)[-1]


def test_what_is_drawn_comes_from_single_members():
    members, count = 3, 4_000
    value = jnp.broadcast_to(jnp.arange(members, dtype=jnp.float32)[:, None], (members, count))
    prediction = dynamics.Prediction(value[..., None], 10 * value, jnp.full((members, count, 2), 1e-4))
    next_obs, reward = dynamics.drawn(prediction, jax.random.key(0))
    np.testing.assert_allclose(10 * next_obs[:, 0], reward, atol=0.02)
    np.testing.assert_allclose(np.bincount(np.round(next_obs[:, 0]).astype(int)) / count, 1 / 3, atol=0.03)
    assert 0.9e-4 < float(jnp.std(next_obs[:, 0] - jnp.round(next_obs[:, 0]))) < 1.1e-4


def test_log_variances_stay_between_their_bounds_and_move_everywhere():
    raw, low, high = jnp.linspace(-40.0, 30.0, 701), jnp.float32(-10.0), jnp.float32(0.5)
    found = dynamics.bounded(raw, low, high)
    slopes = jax.vmap(jax.grad(dynamics.bounded), (0, None, None))(raw, low, high)
    assert (found >= low).all() and (found <= high + 1e-4).all() and (slopes >= 0).all()
    assert float(jax.grad(dynamics.bounded)(low, low, high)) > 0.1
    assert float(jax.grad(dynamics.bounded)(high, low, high)) > 0.1


def test_elites_are_the_best():
    model = dynamics.Model({"low": jnp.arange(4.0)}, moments.none(1), moments.none(1))
    kept = dynamics.elites(model, np.array([0.3, 0.1, 0.4, 0.2]), 2)
    assert kept.params["low"].tolist() == [1.0, 3.0]


OPTIONS = {"members": 1, "batch_size": 2, "learning_rate": 1e-3, "weight_decay": (0.0, 0.0, 0.0)}


def fits(**options):
    """Fit networks of three layers to transitions in which nothing happens."""
    still = dynamics.Transitions(*(jnp.zeros(shape) for shape in ((4, 1), (4, 1), (4,), (4, 1))))
    network = dynamics.network(1, (4, 4))
    return dynamics.fit(network, still, still, jax.random.key(0), **OPTIONS | options)


def test_decay_wants_a_share_for_each_layer():
    with pytest.raises(ValueError, match="2 shares were given, and there are 3 layers"):
        next(fits(weight_decay=(0.0, 0.0), patience=1, most_epochs=1))


def test_steps_fall_evenly_to_nothing(monkeypatch):
    def epoch(*_):
        return lambda params, opt_state, rows, key, rate, *data: (params, opt_state, rows, rate[None])

    monkeypatch.setattr(dynamics, "_epoch", epoch)  # What it tells as a member's error is the step size.
    rates = [progress.errors[0] for progress in fits(patience=1, most_epochs=4)]
    np.testing.assert_allclose(rates, [1e-3, 0.75e-3, 0.5e-3, 0.25e-3], rtol=1e-6)


def test_fitting_ends_where_no_member_gets_better():
    assert len(list(fits(learning_rate=0.0, patience=3, most_epochs=50))) == 4
