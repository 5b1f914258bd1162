"""Any environment of ours with the stock beside its observations, jitted or on the host."""

from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.stocks import Stocks
from valuelearn.types import Array, FunctionalEnv, HostEnv, Stocked, Timestep


@overload
def stocked(env: FunctionalEnv, stocks: Stocks) -> FunctionalEnv: ...
@overload
def stocked(env: HostEnv, stocks: Stocks) -> HostEnv: ...
def stocked(env: FunctionalEnv | HostEnv, stocks: Stocks) -> FunctionalEnv | HostEnv:
    """The environment with `Stocked` observations; every episode begins with a stock drawn anew."""
    return _functional(env, stocks) if isinstance(env, FunctionalEnv) else _StockedHost(env, stocks)


def _carried_on(step: Timestep, carried: Array, fresh: Array, stocks: Stocks, xp: Any) -> Timestep:
    """The timestep with stocks beside its observations, [E, K] each: `carried` before, `fresh` for resets."""
    after = stocks.after(carried, step.reward)
    # A step that the environment took to reset itself brings no reward, and leaves the stock as it was drawn.
    after = xp.where(step.valid[:, None], after, carried)
    following = xp.where(step.last[:, None], fresh, after)
    return step._replace(next_obs=Stocked(step.next_obs, after), obs=Stocked(step.obs, following))


class _State(NamedTuple):
    env: Any
    carried: jax.Array  # f32[E, K]


def _functional(env: FunctionalEnv, stocks: Stocks) -> FunctionalEnv:
    shape = (env.spec.num_envs, stocks.num_draws)

    def init(key: jax.Array) -> tuple[_State, Stocked]:
        env_key, stock_key = jax.random.split(key)
        state, obs = env.init(env_key)
        carried = stocks.first(jax.random.uniform(stock_key, shape))
        return _State(state, carried), Stocked(obs, carried)

    def step(state: _State, action: jax.Array, key: jax.Array) -> tuple[_State, Timestep]:
        env_key, stock_key = jax.random.split(key)
        env_state, timestep = env.step(state.env, action, env_key)
        fresh = stocks.first(jax.random.uniform(stock_key, shape))
        timestep = _carried_on(timestep, state.carried, fresh, stocks, jnp)
        return _State(env_state, timestep.obs.stock), timestep

    return FunctionalEnv(env.spec._replace(stock_size=stocks.size), init, step)


class _StockedHost:
    """A host environment with the stock beside its observations."""

    def __init__(self, env: HostEnv, stocks: Stocks) -> None:
        self._env, self._stocks = env, stocks
        self.spec = env.spec._replace(stock_size=stocks.size)
        self._random: list[np.random.Generator] = []  # Of each copy its own, whatever other copies there are.
        self._carried = self._fresh(np.zeros(self.spec.num_envs, bool))

    def _fresh(self, which: np.ndarray) -> np.ndarray:
        """Stocks f32[E, K] for the copies that begin an episode; what the others have there means nothing."""
        draws = np.zeros((self.spec.num_envs, self._stocks.num_draws), np.float32)
        for copy in np.flatnonzero(which):
            draws[copy] = self._random[copy].random(self._stocks.num_draws, np.float32)
        return self._stocks.first(draws)

    def reset(self, seed: int) -> Stocked:
        copies = range(self.spec.num_envs)
        # Not the numbers that the environment may draw.
        self._random = [np.random.default_rng((seed + copy, 1)) for copy in copies]
        self._carried = self._fresh(np.ones(len(copies), bool))
        return Stocked(self._env.reset(seed), self._carried)

    def step(self, action: np.ndarray) -> Timestep:
        step = self._env.step(action)
        step = _carried_on(step, self._carried, self._fresh(step.last), self._stocks, np)
        self._carried = step.obs.stock
        return step

    def render(self) -> np.ndarray:
        return self._env.render()

    def close(self) -> None:
        self._env.close()
