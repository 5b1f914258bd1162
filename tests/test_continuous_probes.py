"""Every agent of continuous actions learns every probe with every head; of an action the sign counts."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from agents import experiment, offline, sac, td3
from envs import probes
from valuelearn import heads, loop

GAMMA = 0.8  # Values lie from -1 to 1 / (1 - 0.8) = 5:
RANGE = 6.0
MEAN_TOLERANCE = 0.02 * RANGE
LAW_TOLERANCE = 0.04 * RANGE  # In 1-Wasserstein distance.
STEPS = 12_000
HEADS = [name for name in heads.NAMES if name != "iqn"]
HEAD = {"v_min": -3.0, "v_max": 7.0, "delta": 10.0, "num_quantiles": 32, "kappa": 0.0}
COMMON = {
    "head_options": HEAD,
    "gamma": GAMMA,
    "network": {"hidden": (64,), "last_scale": 0.1},
    "optimizer": {"learning_rate": 2e-3, "epsilon": 1e-8},
    # Actions are uniform throughout: what is learnt is what the best policy from here on would bring.
    "replay": {"capacity": 20_000, "warmup_steps": STEPS, "batch_size": 128},
    "target_tau": 0.02,
}
# Entropy is left out of values: those of the probes are sums of rewards.
CONFIGS = {
    "sac": (sac.SACConfig, {"entropy_in_target": False, "temperature": 1e-3}),
    "td3": (td3.TD3Config, {}),
    "iql": (offline.IQLConfig, {"decay_updates": None}),
}


def test_every_agent_with_critics_is_here():
    assert set(CONFIGS) | {"bc", "dqn", "stock_dqn", "pqn"} == set(experiment.AGENTS)


@functools.cache
def learnt(agent, head):
    """Returns and probabilities [probe, state, side, M], and values, after training on every probe."""
    kind, settings = CONFIGS[agent]
    # C51's projection takes the square of its bins.
    options = HEAD | ({"num_bins": 31} if head == "c51" else {})
    config = kind(head=head, **(COMMON | settings | {"head_options": options}))
    env = probes.signed(probes.number(0, 8))
    algorithm = experiment.AGENTS[agent](config, env.spec, STEPS, 4)

    def init(key, index):
        env = probes.signed(probes.number(index, 8))
        return loop.init_functional(algorithm.agent, env, algorithm.memory, key)

    keys = jnp.broadcast_to(jax.random.key(0), len(probes.NAMES))
    start = jax.jit(jax.vmap(init))(keys, jnp.arange(len(probes.NAMES)))
    schedule = loop.Schedule(STEPS, 500, 4, 8, STEPS)
    *_, last = loop.train_functional(algorithm.agent, env, algorithm.memory, schedule, [], start)
    made, one = config.head_options.make(head), config.critics()
    state, action = (jnp.asarray(x) for x in zip(*itertools.product(np.eye(2), (-0.5, 0.5)), strict=True))
    params = last.state.learner.params["critics"]
    out = jax.vmap(one.all.apply, (0, None, None))(params, state, action[:, None])[:, 0]
    out = out.reshape(len(probes.NAMES), 2, 2, -1)
    return jax.tree.map(np.asarray, (*made.atoms(out), made.value(out)))


@pytest.mark.parametrize("name", probes.NAMES)
@pytest.mark.parametrize(("agent", "head"), list(itertools.product(CONFIGS, HEADS)))
def test_an_agent_learns_a_probe(agent, head, name):
    index = probes.NAMES.index(name)
    returns, probabilities, value = (x[index] for x in learnt(agent, head))
    for place, law in probes.PROBES[name].laws(GAMMA).items():
        assert abs(value[place] - law.returns @ law.probabilities) < MEAN_TOLERANCE, place
        # Implicit Q-learning backs up a state's value alone, not the law of what follows.
        if heads.make(head).distributional and agent != "iql":
            distance = wasserstein_distance(
                returns[place], law.returns, probabilities[place], law.probabilities
            )
            assert distance < LAW_TOLERANCE, place
