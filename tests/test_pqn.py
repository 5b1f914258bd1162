"""Parallel Q-learning's returns against their definition, and its update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from agents import pqn
from agents.pqn import PQNConfig
from valuelearn.types import EnvSpec, Timestep, Trajectory

STEPS, COPIES = 8, 4
RETURNS = jax.jit(pqn.lambda_returns)


def rollout(seed, ends=0.3):
    """Rewards, discounts, episode ends and next values [T, E]; of the ends half are terminations."""
    rng = np.random.default_rng(seed)
    last = rng.random((STEPS, COPIES)) < ends
    discount = 0.9 * ~(last & (rng.random(last.shape) < 0.5))
    # A lost life: nothing more is worth anything, but the episode goes on.
    discount *= rng.random(last.shape) > ends / 3
    reward, value = rng.normal(size=(2, STEPS, COPIES))
    return reward, discount, last, value


def definition(reward, discount, last, value, lambda_):
    """The (1 - lambda)-weighted mean of all n-step returns of one copy, each summed anew."""
    returns = np.zeros(len(reward))
    for start in range(len(reward)):
        horizon = next((t for t in range(start, len(reward)) if last[t]), len(reward) - 1) - start + 1
        for n in range(1, horizon + 1):
            power, total = 1.0, 0.0
            for t in range(start, start + n):
                total, power = total + power * reward[t], power * discount[t]
            weight = lambda_ ** (n - 1) * (1.0 if n == horizon else 1 - lambda_)
            returns[start] += weight * (total + power * value[start + n - 1])
    return returns


@pytest.mark.parametrize("lambda_", [0.0, 0.65, 1.0])
@pytest.mark.parametrize("ends", [0.0, 0.3, 1.0])
def test_lambda_returns_are_the_mean_of_n_step_returns(lambda_, ends):
    for seed in range(5):
        columns = rollout(seed, ends)
        want = np.stack([definition(*(x[:, e] for x in columns), lambda_) for e in range(COPIES)], 1)
        np.testing.assert_allclose(RETURNS(*columns, lambda_), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 0.65, 1.0])
def test_lambda_returns_are_rlaxs_where_no_episode_is_cut(lambda_):
    reward, discount, _, value = (np.float32(x[:, 0]) for x in rollout(0, ends=0.0))
    discount[3] = 0  # A termination needs no flag of its own.
    want = rlax.lambda_returns(reward, discount, value, lambda_)
    np.testing.assert_allclose(
        RETURNS(reward, discount, np.zeros(STEPS, bool), value, lambda_), want, rtol=1e-5
    )


def learner(**options):
    spec = EnvSpec((3,), np.dtype(np.float32), 2, COPIES)
    network = {"torso": "mlp", "hidden": ()}
    optimizer = {"name": "adam", "learning_rate": 0.1}
    config = PQNConfig.model_validate_json(
        PQNConfig(network=network, optimizer=optimizer, **options).model_dump_json()
    )
    agent = pqn.make(config, spec, total_steps=10_000, collect_steps=STEPS).agent
    return agent, jax.jit(agent.init)(jax.random.key(0), jnp.zeros((COPIES, 3)))


def random_trajectory(valid):
    rng = np.random.default_rng(0)
    reward, _, last, _ = rollout(0)
    obs, after = rng.normal(size=(2, STEPS, COPIES, 3)).astype(np.float32)
    step = Timestep(after, after, np.float32(reward), np.float32(~last), last, valid, np.float32(reward))
    action = rng.integers(0, 2, (STEPS, COPIES)).astype(np.int32)
    return jax.tree.map(jnp.asarray, Trajectory(obs, action, step))


@pytest.mark.parametrize("head", ["mse", "hl_gauss"])
def test_one_update_takes_the_returns_as_targets(head):
    agent, state = learner(head=head, epochs=2, minibatches=4)
    update = jax.jit(agent.update)
    new, metrics, _ = update(state, random_trajectory(np.ones((STEPS, COPIES), bool)))
    assert new.updates == 8 and np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    again, *_ = update(state, random_trajectory(np.ones((STEPS, COPIES), bool)))
    jax.tree.map(np.testing.assert_array_equal, new.params, again.params)


def test_the_loss_is_that_of_the_lambda_returns():
    agent, state = learner(head="mse", epochs=1, minibatches=1, gamma=0.9, lambda_=0.65)
    trajectory = random_trajectory(np.ones((STEPS, COPIES), bool))
    obs, action, step = jax.tree.map(np.asarray, trajectory)
    by_size = {x.ndim: np.asarray(x) for x in jax.tree.leaves(state.params)}
    now, after = (x @ by_size[2] + by_size[1] for x in (obs, step.next_obs))
    columns = (step.reward, 0.9 * step.discount, step.last, after.max(-1))
    want = np.stack([definition(*(x[:, e] for x in columns), 0.65) for e in range(COPIES)], 1)
    taken = np.take_along_axis(now, action[..., None], -1)[..., 0]
    _, metrics, _ = jax.jit(agent.update)(state, trajectory)
    np.testing.assert_allclose(metrics["loss"], np.square(taken - want).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["value"], taken.mean(), rtol=1e-4)


def test_a_reset_teaches_nothing():
    """Where the environment ignored the action, no action's value may move."""
    agent, state = learner(head="mse", epochs=1, minibatches=1)
    update = jax.jit(agent.update)
    valid = np.zeros((STEPS, COPIES), bool)
    still, metrics, _ = update(state, random_trajectory(valid))
    jax.tree.map(np.testing.assert_array_equal, still.params, state.params)
    assert metrics["loss"] == 0
    valid[2, 1] = True
    moved, *_ = update(state, random_trajectory(valid))
    before, after = (jax.tree.leaves(s.params) for s in (state, moved))
    action = int(random_trajectory(valid).action[2, 1])
    for old, new in zip(before, after, strict=True):
        assert (old != new)[..., action].any() and not (old != new)[..., 1 - action].any()
