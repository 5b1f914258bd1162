"""How agents are trained on every probe at once, and what they miss of the truth."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import wasserstein_distance

from envs import probes
from valuelearn import loop

GAMMA = 0.8  # Values lie from -1 to 1 / (1 - 0.8) = 5:
RANGE = 6.0
MEAN_TOLERANCE = 0.02 * RANGE
LAW_TOLERANCE = 0.04 * RANGE  # In 1-Wasserstein distance.
# Within its delta Huber's loss fits the mean, beyond it a median; with a kappa of 0 quantiles are exact.
HEAD = {"v_min": -3.0, "v_max": 7.0, "num_bins": 31, "delta": 10.0}
HEAD |= {"num_quantiles": 16, "num_fractions": 8, "kappa": 0.0}
NUM_ENVS = 8


def trained(algorithm, schedule, wrapped=lambda env: env):
    """The learner [probe, ...] after so many steps; `wrapped` makes of a probe the agent's environment."""

    def init(key, index):
        env = wrapped(probes.number(index, NUM_ENVS))
        return loop.init_functional(algorithm.agent, env, algorithm.memory, key)

    keys = jnp.broadcast_to(jax.random.key(0), len(probes.NAMES))
    jax.config.update("jax_disable_most_optimizations", True)  # What runs once is not worth the compilation.
    start = jax.jit(jax.vmap(init))(keys, jnp.arange(len(probes.NAMES)))
    jax.config.update("jax_disable_most_optimizations", False)
    env = wrapped(probes.number(0, NUM_ENVS))
    *_, last = loop.train_functional(algorithm.agent, env, algorithm.memory, schedule, [], start)
    return last.state.learner


def missed(head, out, judge_law):
    """Where outputs [probe, state, action, N] miss a probe's mean, and if wanted its law."""
    returns, probabilities, values = jax.tree.map(np.asarray, (*head.atoms(out), head.value(out)))
    misses = []
    for index, name in enumerate(probes.NAMES):
        for place, law in probes.PROBES[name].laws(GAMMA).items():
            at = (index, *place)
            error = abs(values[at] - law.returns @ law.probabilities)
            if not error < MEAN_TOLERANCE:
                misses.append(f"{name} at {place}: the mean by {error:.3f}")
            if judge_law:
                atoms = law.returns, law.probabilities
                distance = wasserstein_distance(returns[at], atoms[0], probabilities[at], atoms[1])
                if not distance < LAW_TOLERANCE:
                    misses.append(f"{name} at {place}: the law by {distance:.3f}")
    return misses
