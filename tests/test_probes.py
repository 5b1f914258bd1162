"""Every agent with every head learns every probe: means, and laws where the head models them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import pytest
from scipy.stats import wasserstein_distance

import envs
from agents import experiment, stock_dqn
from agents.experiment_config import ExperimentConfig
from envs import probes
from tests.probing import GAMMA, HEAD, NUM_ENVS, missed, trained
from valuelearn import heads
from valuelearn.types import Stocked

OPTIMIZER = {"epsilon": 1e-5}
REPLAY = {"capacity": 8_000, "warmup_steps": 500, "batch_size": 128}
# Steps that become smaller leave little noise: without that, four times as many updates came less near.
REPLAYING = {
    "optimizer": OPTIMIZER | {"learning_rate": 4e-3},
    "decay_start": 0.4,
    "target_period_updates": 20,
}
# What is the agent's own in learning a probe; a new agent needs an entry here. The worst error of four seeds
# of every pair is 0.67 of the tolerance, and that is C51's grid; in test_continuous_probes 0.70.
SETTINGS = {
    "dqn": REPLAYING | {"replay": REPLAY | {"n_step": 3}},
    # Of a utility without a bend the rise is the return, and the stock makes no difference.
    "stock_dqn": REPLAYING
    | {
        "utility": {"name": "two_slope", "above": 1.0, "below": 1.0},
        "stock": {"low": -2.0, "high": 2.0, "bound": 4.0, "num_bumps": 2},
        "replay": REPLAY,
    },
    "pqn": {"optimizer": OPTIMIZER | {"learning_rate": 2e-3}, "minibatches": 4, "epochs": 2},
}
FRAMES = {"dqn": 4_800, "stock_dqn": 4_800, "pqn": 16_000}


def configured(agent, head):
    """The config of a run, or None where the agent does not take the head."""
    common = {
        "name": agent,
        "head": head,
        "head_options": HEAD,
        "gamma": GAMMA,
        "network": {"torso": "mlp", "hidden": (64,), "last_scale": 0.1},
        "exploration": {"epsilon_end": 1.0, "decay_steps": 1},
    }
    env = {"id": "probe/action", "num_envs": NUM_ENVS}
    train = {"env_frames": FRAMES[agent], "log_frames": FRAMES[agent], "collect_steps": 8}
    config = {"env": env, "agent": common | SETTINGS[agent], "train": train}
    try:
        return ExperimentConfig.model_validate(config)
    except pydantic.ValidationError:
        return None


PAIRS = [pair for pair in itertools.product(SETTINGS, heads.NAMES) if configured(*pair)]


def test_every_agent_is_here():
    # Those of continuous actions are in test_continuous_probes.
    assert set(SETTINGS) | {"sac", "td3", "bc", "iql"} == set(experiment.AGENTS)
    assert len(PAIRS) == 2 * len(heads.NAMES) + 5  # Parallel Q-learning takes heads for the mean alone.


@pytest.mark.parametrize(("agent", "head"), PAIRS)
def test_an_agent_learns_every_probe(agent, head):
    cfg = configured(agent, head)
    built = experiment.make(cfg)
    made, obs = cfg.agent.head_options.make(head), jnp.eye(2)
    if agent == "stock_dqn":
        learner = trained(
            built.algorithm, built.schedule, lambda env: envs.stocked(env, cfg.agent.stocks(env.spec))
        )
        network, obs = stock_dqn.network(cfg.agent, built.env.spec), Stocked(obs, jnp.zeros((2, 1)))
    else:
        learner = trained(built.algorithm, built.schedule)
        network = cfg.agent.network.make(2, made)
    out = jax.jit(jax.vmap(network.apply, (0, None)))(learner.params, obs)
    assert not missed(made, out, made.distributional)


@pytest.mark.parametrize("name", probes.NAMES)
def test_the_laws_are_fixed_points(name):
    """Each law is that of one step and what follows."""
    table, laws = probes.PROBES[name].table, probes.PROBES[name].laws(GAMMA)
    for place, law in laws.items():
        returns, masses = [], []
        for outcome in (0, 1):
            at = (*place, outcome)
            following = table.following[at]
            best = max(
                (laws[following, a] for a in (0, 1) if not table.terminates[at]), default=None, key=mean
            )
            then = best or probes.Law(np.zeros(1), np.ones(1))
            returns.append(table.reward[at] + GAMMA * then.returns)
            masses.append(table.probability[at] * then.probabilities)
        returns, masses = np.concatenate(returns), np.concatenate(masses)
        np.testing.assert_allclose(masses.sum(), 1, rtol=1e-9)
        assert wasserstein_distance(returns, law.returns, masses, law.probabilities) < 1e-6


def mean(law):
    return law.returns @ law.probabilities


@pytest.mark.parametrize("name", probes.NAMES)
def test_the_environment_is_its_table(name):
    """Rewards, ends and successors are those of the table, and the observation is the state."""
    env, table = probes.make(name, 512), probes.PROBES[name].table
    state, obs = env.init(jax.random.key(0))
    step = jax.jit(env.step)
    first = 0.0
    for index in range(8):
        key = jax.random.fold_in(jax.random.key(1), index)
        action = np.asarray(jax.random.bernoulli(key, shape=(512,)), int)
        at = (np.asarray(obs).argmax(-1), action)
        state, timestep = step(state, action, key)
        ended = np.asarray(timestep.discount) == 0
        found = [
            (table.reward[at][:, k] == timestep.reward) & (table.terminates[at][:, k] == ended)
            for k in (0, 1)
        ]
        assert (found[0] | found[1]).all()
        first += found[0].mean() / 8
        assert (np.asarray(timestep.next_obs).argmax(-1) == table.following[at][:, 0]).all()
        if name == "truncation":
            assert (np.asarray(timestep.last) == (index % 4 == 3)).all() and not ended.any()
        else:
            assert (np.asarray(timestep.last) == ended).all()
        obs = timestep.obs
    expected = table.probability[0, 0, 0]  # 1 where both outcomes are the same.
    assert abs(first - expected) < 4 * (expected * (1 - expected) / (8 * 512)) ** 0.5 + 1e-9
