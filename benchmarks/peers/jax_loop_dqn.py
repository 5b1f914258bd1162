"""DQN in JAX as one writes it around a loop in Python: compiled pieces, a replay in numpy."""

import importlib.metadata
import json
import resource
import sys
import time

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn


class Network(nn.Module):
    """MinAtar's (Young & Tian, 2019)."""

    num_actions: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """Values [B, A] of observations [B, 10, 10, C]."""
        x = nn.relu(nn.Conv(16, (3, 3), padding="VALID")(obs.astype(jnp.float32)))
        x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_actions)(x)


class Replay:
    """A ring of transitions."""

    def __init__(self, capacity: int, obs_shape: tuple[int, ...]) -> None:
        """Empty."""
        self.obs, self.next_obs = (np.zeros((capacity, *obs_shape), bool) for _ in range(2))
        self.action, self.reward, self.discount = (
            np.zeros(capacity, int),
            *np.zeros((2, capacity), np.float32),
        )
        self.capacity, self.count = capacity, 0
        self.chance = np.random.default_rng(0)

    def add(self, *batch: np.ndarray) -> None:
        """Transitions of all copies."""
        rows = (self.count + np.arange(len(batch[1]))) % self.capacity
        for column, values in zip(self.columns, batch, strict=True):
            column[rows] = values
        self.count += len(rows)

    def sample(self, size: int) -> tuple[np.ndarray, ...]:
        """A batch."""
        rows = self.chance.integers(min(self.count, self.capacity), size=size)
        return tuple(column[rows] for column in self.columns)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """In the order of what is added."""
        return self.obs, self.action, self.reward, self.discount, self.next_obs


def main() -> None:
    """Warm up and compile, then time agent steps with their updates."""
    task = json.loads(sys.argv[2])
    env, options = gymnax.make("Breakout-MinAtar")
    copies, network = task["num_envs"], Network(env.num_actions)
    reset = jax.jit(jax.vmap(env.reset, (0, None)))
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    key = jax.random.key(0)
    obs, state = reset(jax.random.split(key, copies), options)
    params = network.init(key, obs)
    target, optimizer = params, optax.adam(task["learning_rate"])
    moments = optimizer.init(params)

    def values(params: dict, obs: jax.Array) -> jax.Array:
        out = network.apply(params, obs)
        assert isinstance(out, jax.Array)
        return out

    replay = Replay(task["capacity"], obs.shape[1:])

    @jax.jit
    def act(params: dict, obs: jax.Array, key: jax.Array) -> jax.Array:
        greedy = values(params, obs).argmax(-1)
        explore, action = jax.random.split(key)
        random = jax.random.randint(action, greedy.shape, 0, env.num_actions)
        return jnp.where(jax.random.uniform(explore, greedy.shape) < 0.1, random, greedy)

    @jax.jit
    def update(params: dict, target: dict, moments: optax.OptState, *batch: jax.Array) -> tuple:
        obs, action, reward, discount, next_obs = batch
        wanted = reward + discount * values(target, next_obs).max(-1)

        def loss(params: dict) -> jax.Array:
            value = jnp.take_along_axis(values(params, obs), action[:, None], -1)[:, 0]
            return jnp.square(value - wanted).mean()

        change, moments = optimizer.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, change), moments

    warm, steps = task["warmup_steps"] + task["steps"] // 10, task["steps"]
    together = copies * task["collect_steps"]  # Agent steps between two rounds of updates.
    timed_from = warm - warm % copies  # A step of all copies.
    for step_number in range(0, timed_from + steps, copies):
        if step_number == timed_from:
            jax.block_until_ready(params)
            start = time.perf_counter()
        key, act_key, env_key = jax.random.split(key, 3)
        action = act(params, obs, act_key)
        next_obs, state, reward, ended, *_ = step(jax.random.split(env_key, copies), state, action, options)
        # Where an episode ends what follows counts for nothing.
        replay.add(obs, action, reward, np.where(ended, 0.0, 0.99), next_obs)
        obs = next_obs
        if step_number >= task["warmup_steps"] and step_number % together == 0:
            for _ in range(together // task["update_period_steps"]):
                params, moments = update(params, target, moments, *replay.sample(task["batch_size"]))
        if step_number % task["target_period_steps"] < copies:
            target = params
    jax.block_until_ready(params)
    rate = (step_number + copies - timed_from) / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "gymnax")}
    print(json.dumps({"agent_steps_per_second": rate, "peak_gib": peak, "versions": versions}))


if __name__ == "__main__":
    main()
