"""What actor-critics share: normalised observations, scaled rewards, weight decay, resets, delayed steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import sac, td3
from agents.parts import OptimizerConfig
from agents.sac import SACConfig
from valuelearn import loop, moments, return_scale
from valuelearn.replay import recorded, replay
from valuelearn.types import EnvSpec, Sample, Timestep, Trajectory, Transition

pytestmark = pytest.mark.usefixtures("quick_compilation")
SPEC = EnvSpec((2,), np.dtype(np.float32), 0, 2, action_size=1)


def test_moments_are_those_of_all_vectors():
    """Whatever the parts that they come in, and without those of weight 0."""
    vectors = np.random.default_rng(0).normal([3.0, -50.0], [0.1, 20.0], (500, 2)).astype(np.float32)
    weight = np.arange(500) % 3 > 0
    found = moments.none(2)
    for part, weights in zip(np.split(vectors, [1, 7, 300]), np.split(weight, [1, 7, 300]), strict=True):
        found = moments.merged(found, jnp.asarray(part), jnp.asarray(weights, jnp.float32))
    kept = vectors[weight].astype(np.float64)
    assert found.seen == weight.sum()
    np.testing.assert_allclose(found.mean, kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, kept.var(0), rtol=1e-4)
    np.testing.assert_allclose(moments.standardized(found, kept).std(0), 1.0, rtol=1e-3)


def batch(seed=0, size=16):
    random = np.random.default_rng(seed)
    obs = random.normal(size=(size, 2)).astype(np.float32)
    action = random.uniform(-1, 1, (size, 1)).astype(np.float32)
    one = np.ones(size, np.float32)
    return Sample(Transition(*map(jnp.asarray, (obs, action, one, 0.9 * one, obs))), jnp.ones(size), one)


def test_rewards_are_divided_by_the_size_of_returns():
    """Against a loop over every step, where an invalid one counts for nothing."""
    random = np.random.default_rng(0)
    steps, envs, gamma, size = 40, 2, 0.9, 3.0
    memory = return_scale.scaled(replay(SPEC, capacity=200, batch_size=32, gamma=gamma), envs, gamma, size)
    obs = jnp.zeros((steps, envs, 2))
    reward = random.normal(2.0, 5.0, (steps, envs)).astype(np.float32)
    last = random.random((steps, envs)) < 0.1
    valid = random.random((steps, envs)) < 0.9
    last &= valid
    number = jnp.ones((steps, envs))
    step = Timestep(obs, obs, reward, number, last, valid, number)
    state = jax.jit(memory.add)(memory.init(), Trajectory(obs, jnp.zeros((steps, envs, 1)), step))
    running, returns = np.zeros(envs), []
    for index in range(steps):
        for env in range(envs):
            if valid[index, env]:
                running[env] = gamma * running[env] + reward[index, env]
                returns.append(running[env])
                running[env] *= not last[index, env]
    wanted = max(np.std(returns), np.abs(returns).max() / size)
    drawn = memory.sample(state, jax.random.key(0))
    stored = np.sort(np.unique(reward[valid]))
    nearest = np.abs(np.asarray(drawn.transition.reward)[:, None] * wanted - stored).min(1)
    assert nearest.max() < 1e-3


@pytest.mark.parametrize("normalize_obs", [False, True])
def test_resets_start_anew(normalize_obs):
    """Parameters, targets and optimisers, but not what is known of the observations."""
    network = {"hidden": (8,), "normalize_obs": normalize_obs}
    agent = sac.make(SACConfig(network=network, reset_updates=(3,)), SPEC, 100, 1).agent
    state = agent.init(jax.random.key(0), jnp.zeros((2, 2)))
    update = jax.jit(agent.update)
    moved = []
    for index in range(4):
        state, _, _ = update(state, batch(index))
        optimiser = jax.tree.leaves(state.opt_state["critics"])
        moved.append(float(sum(jnp.abs(x).sum() for x in optimiser)))
        same = jax.tree.map(
            lambda x, y: bool((x == y).all()), state.params["critics"], state.target_params["critics"]
        )
        assert all(jax.tree.leaves(same)) == (index == 2)
    assert moved[2] == 0 and min(moved[0], moved[1], moved[3]) > 0 and state.updates == 4
    if normalize_obs:
        assert state.params["observations"].seen == 4 * 16


def test_normalised_observations_are_read_alike():
    """A shift and a factor on observations change nothing."""
    actions = []
    for factor, shift in ((1.0, 0.0), (1_000.0, -500.0)):
        config = SACConfig(network={"hidden": (16,), "normalize_obs": True})
        agent = sac.make(config, SPEC, 100, 1).agent
        state = agent.init(jax.random.key(0), jnp.zeros((2, 2)))
        for index in range(5):
            sample = batch(index)
            obs = factor * sample.transition.obs + shift
            transition = sample.transition._replace(obs=obs, next_obs=obs)
            state, _, _ = jax.jit(agent.update)(state, sample._replace(transition=transition))
        obs = factor * batch(9).transition.obs + shift
        actions.append(np.asarray(agent.greedy(state, obs)))
    np.testing.assert_allclose(*actions, atol=1e-2)
    assert np.ptp(actions[0]) > 0.05


def test_weights_decay_and_biases_do_not():
    optimizer = OptimizerConfig(name="adamw", learning_rate=0.1, epsilon=1e-8, weight_decay=0.5).make()
    params = {"layer": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    changes, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(changes["layer"]["kernel"], -0.05)
    np.testing.assert_array_equal(changes["layer"]["bias"], 0.0)


def test_the_delayed_actor():
    """TD3's actor and its target networks move in every second update alone."""
    agent = td3.make(td3.TD3Config(network={"hidden": (8,)}), SPEC, 100, 1).agent
    state = agent.init(jax.random.key(0), jnp.zeros((2, 2)))
    update = jax.jit(agent.update)
    for index in range(4):
        before, (state, metrics, _) = state, update(state, batch(index))
        changed = {
            name: any(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x != y).any()), one, other)))
            for name, one, other in (
                ("actor", before.params["actor"], state.params["actor"]),
                ("critics", before.params["critics"], state.params["critics"]),
                ("target", before.target_params["critics"], state.target_params["critics"]),
            )
        }
        assert changed == {"actor": index % 2 == 0, "critics": True, "target": index % 2 == 0}
        assert metrics.keys() >= {"loss", "value", "grad_norm", "clipped_below"}


def test_seeds_on_a_dataset_are_runs_of_their_own():
    """Two seeds at once are each what it is alone, to rounding; nothing is compiled twice."""
    config = SACConfig(network={"hidden": (8,)}, replay={"batch_size": 8})
    algorithm = sac.make(config, SPEC, 20, 1)
    memory = recorded(batch(size=64).transition, 8)
    schedule = loop.Schedule(20, 0, 1, 1, 5)

    def losses(seeds):
        chunks = list(loop.train_offline(algorithm.agent, memory, SPEC, schedule, seeds))
        assert [chunk.compile_seconds > 0 for chunk in chunks] == [True, False, False, False]
        return np.array([chunk.metrics["loss"] for chunk in chunks])

    both = losses([3, 4])
    np.testing.assert_allclose(both, np.concatenate([losses([3]), losses([4])], 1), rtol=1e-4)
