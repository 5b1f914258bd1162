"""Every agent of continuous actions learns every probe with every head; of an action the sign counts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import experiment, offline, sac, td3
from envs import probes
from tests.probing import GAMMA, HEAD, NUM_ENVS, missed, trained
from valuelearn import heads, loop

STEPS = 6_000
HEADS = [name for name in heads.NAMES if name != "iqn"]
COMMON = {
    "head_options": HEAD,
    "gamma": GAMMA,
    "network": {"hidden": (64,), "last_scale": 0.1},
    "optimizer": {"learning_rate": 2e-3, "epsilon": 1e-8},
    # Actions are uniform throughout: what is learnt is what the best policy from here on would bring.
    "replay": {"capacity": 8_000, "warmup_steps": STEPS, "batch_size": 128},
    "target_tau": 0.05,
}
# Entropy is left out of values: those of the probes are sums of rewards.
CONFIGS = {
    "sac": (sac.SACConfig, {"entropy_in_target": False, "temperature": 1e-3}),
    "td3": (td3.TD3Config, {}),
    "iql": (offline.IQLConfig, {"decay_updates": None}),
}


def test_every_agent_with_critics_is_here():
    assert set(CONFIGS) | {"bc", "dqn", "stock_dqn", "pqn"} == set(experiment.AGENTS)


@pytest.mark.parametrize(("agent", "head"), list(itertools.product(CONFIGS, HEADS)))
def test_an_agent_learns_every_probe(agent, head):
    kind, settings = CONFIGS[agent]
    # What a quantile learns from is the sign of an error, not its size: it needs longer steps.
    if head == "qr":
        settings = settings | {"optimizer": COMMON["optimizer"] | {"learning_rate": 1e-2}}
    config = kind(head=head, **(COMMON | settings))
    spec = probes.signed(probes.number(0, NUM_ENVS)).spec
    algorithm = experiment.AGENTS[agent](config, spec, STEPS, 4)
    learner = trained(algorithm, loop.Schedule(STEPS, 500, 4, 8, STEPS), probes.signed)
    made = config.head_options.make(head)
    state, action = (jnp.asarray(x) for x in zip(*itertools.product(np.eye(2), (-0.5, 0.5)), strict=True))
    critics = jax.jit(jax.vmap(config.critics().all.apply, (0, None, None)))
    out = critics(learner.params["critics"], state, action[:, None])[:, 0]
    # Implicit Q-learning backs up a state's value alone, not the law of what follows.
    judge_law = made.distributional and agent != "iql"
    assert not missed(made, out.reshape(len(probes.NAMES), 2, 2, -1), judge_law)
