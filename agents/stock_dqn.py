"""DηN: a DQN that maximises a utility of the whole return, known from the stock that it carries.

Avila Pires et al. (2025), "Optimizing return distributions with distributional dynamic programming"; the
hyper-parameters here are ours. One network serves every first stock, and
so, by the choice of that stock, every level of CVaR or every target return, without training anew.

A head for the whole law learns the law of the return and ranks actions by E f(stock + return). A head for
the mean learns how far the utility will rise from here on, E f(..) - f(stock), from the rise that each
reward brings: f(stock + reward) - f(stock). That serves stocks that are vectors, too.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from pydantic import Field, model_validator

from agents import q_learning
from agents.objective_config import UtilityConfig
from agents.parts import Algorithm
from agents.q_learning import Outputs, QConfig, Rule
from valuelearn import backups, heads, objectives
from valuelearn.config import Misfit, Section
from valuelearn.evaluate import Returns
from valuelearn.networks import StockInput
from valuelearn.stocks import Stocks
from valuelearn.types import EnvSpec, Network, Params, Stocked, Transition

_TIE = 1e-8  # Actions whose scores differ by less are equally good: ties are structural, where f is flat.


class StockConfig(Section):
    """The stock."""

    low: float = -10.0
    """Least stock that an episode begins with: less the greatest return that may be asked for."""
    high: float = 10.0
    """Greatest stock that an episode begins with; they are drawn uniformly."""
    bound: Annotated[float, Field(gt=0)] = 20.0
    """Where |stock| is clipped. As much as the largest return by absolute value changes no decision where
    the utility is linear in each coordinate on either side of 0, as mean, two_slope, constraint and norm of
    order 1 are; squared and norms of other orders bend everywhere, and lose less the larger it is."""
    relabel: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of replayed transitions that get another stock, uniform within the bound: what an environment
    does depends on none. 0 keeps all as they were."""
    num_bumps: Annotated[int, Field(ge=2)] = 21
    """Triangular features of the stock; 2 bound + 1 of them tell whole numbers apart exactly."""
    any_slopes: bool = False
    """Whether the slopes of two_slope are drawn anew for each episode and shown to the network, which then
    serves them all."""

    @model_validator(mode="after")
    def _ordered(self) -> "StockConfig":
        if not -self.bound <= self.low <= self.high <= self.bound:
            reason = f"low <= high is wanted, both within the bound of {self.bound:g}"
            raise Misfit("low", self.low, reason, "high", "bound")
        return self


class StockDQNConfig(QConfig):
    """A DQN that carries a stock, with any head."""

    name: Literal["stock_dqn"] = "stock_dqn"
    """The algorithm."""
    head: heads.Name = "qr"
    """The value head: one for the whole law learns returns, one for the mean how far the utility rises."""
    utility: UtilityConfig = UtilityConfig(name="mean")
    """What is maximised of stock and return together; two_slope, above 0 and below 1, serves every CVaR."""
    stock: StockConfig = StockConfig()
    """The stock."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Discount per agent step; 1 where every episode terminates."""

    @model_validator(mode="after")
    def _possible(self) -> "StockDQNConfig":
        utility = self.utility.make()
        if self.gamma < 1 and not utility.gamma_indifferent:
            reason = "it is not indifferent to gamma, and the time is not kept beside this stock; use gamma 1"
            raise Misfit("utility.name", self.utility.name, reason, "gamma")
        if self.stock.any_slopes and self.utility.name != "two_slope":
            reason = "the slopes are those of two_slope"
            raise Misfit("stock.any_slopes", True, reason, "utility.name")
        if self.learns_returns and utility.dimensions is not None:
            reason = f"{self.utility.name} is of vectors, whose law it cannot hold; use a head for the mean"
            raise Misfit("head", self.head, reason, "utility.name")
        if not self.learns_returns and utility.degree is None:
            reason = "a head for the mean needs f(gamma x) = gamma^p f(x); use c51, qr or iqn"
            raise Misfit("head", self.head, reason, "utility.name")
        if self.stock.relabel and self.replay.n_step > 1:
            reason = "relabelled transitions need 1, as later actions were chosen for another stock"
            raise Misfit("replay.n_step", self.replay.n_step, reason, "stock.relabel")
        if not self.network.hidden:
            raise Misfit("network.hidden", [], "the stock enters at the first hidden layer; one is wanted")
        return self

    @property
    def learns_returns(self) -> bool:
        """Whether the head learns laws of the return; otherwise it learns how far the utility rises."""
        return heads.make(self.head).distributional

    def stocks(self, spec: EnvSpec) -> Stocks:
        """How stocks begin and go on in environments of that shape.

        Raises:
            Misfit: where the utility is of other rewards than the environment pays.
        """
        wanted = self.utility.make().dimensions
        if (wanted is None) != (spec.reward_size == 0) or wanted not in (None, -1, spec.reward_size):
            pays = f"{spec.reward_size} numbers a step" if spec.reward_size else "one number a step"
            takes = {None: "one", -1: "a vector"}.get(wanted, f"{wanted}")
            reason = f"it takes {takes}, and the environment pays {pays}"
            raise Misfit("agent.utility.name", self.utility.name, reason, "env.id")
        angles = (0.0, 2 * math.pi) if self.stock.any_slopes else None
        stock = self.stock
        return Stocks(self.gamma, max(spec.reward_size, 1), stock.low, stock.high, stock.bound, angles)


def _asked(config: StockDQNConfig, utility: objectives.Utility, obs: Stocked) -> tuple[Any, jax.Array]:
    """The utility that one observation's episode is asked for, and its stock [], [m] for a vector."""
    if config.stock.any_slopes:
        stock, above, below = obs.stock
        return objectives.TwoSlope(above, below), stock
    return utility, obs.stock if utility.dimensions is not None else obs.stock[0]


def network(config: StockDQNConfig, spec: EnvSpec) -> Network:
    """The network for environments of that shape; it reads `Stocked` observations."""
    stock = StockInput(max(spec.reward_size, 1), config.stock.bound, config.stock.num_bumps)
    return config.network.make(spec.num_actions, config.head_options.make(config.head), stock)


def values(config: StockDQNConfig, spec: EnvSpec) -> Callable[[Params, Stocked], jax.Array]:
    """E f(stock + return) [B] of the best action, as (parameters, observations [B, ...]) say."""
    head, utility = config.head_options.make(config.head), config.utility.make()
    apply = network(config, spec).apply

    def value(out: jax.Array, obs: Stocked) -> jax.Array:
        asked, stock = _asked(config, utility, obs)
        if head.distributional:
            return asked.score(*head.atoms(out), stock).max()
        return asked(stock) + head.value(out).max()

    return lambda params, obs: jax.vmap(value)(apply(params, obs), obs)


def obtained(config: StockDQNConfig, returns: Returns) -> jax.Array:
    """f(stock + return) [B] of episodes played as trained."""
    utility = config.utility.make()

    def worth(carried: jax.Array, total: jax.Array) -> jax.Array:
        asked, stock = _asked(config, utility, Stocked(None, carried))
        return asked(stock + total)

    return jax.vmap(worth)(jnp.asarray(returns.stock), jnp.asarray(returns.discounted))


def best(scores: jax.Array) -> jax.Array:
    """Which actions bool[A] are as good as any, by scores [A]."""
    return scores >= scores.max() - _TIE


def rule(config: StockDQNConfig, spec: EnvSpec) -> Rule:
    """What sets the agent apart from a DQN, for environments of that shape."""
    head, utility, stocks = config.head_options.make(config.head), config.utility.make(), config.stocks(spec)

    def scores(out: jax.Array, obs: Stocked) -> jax.Array:
        if not head.distributional:
            return head.value(out)  # The stock's own utility is the same for every action.
        asked, stock = _asked(config, utility, obs)
        return asked.score(*head.atoms(out), stock)

    def greedy(out: jax.Array, obs: Stocked) -> jax.Array:
        # Where the utility does not care which, the mean does, as in the exact solvers.
        among = best(scores(out, obs))
        return jnp.where(among, head.value(out), -jnp.inf).argmax().astype(jnp.int32)

    def target(outputs: Outputs, transition: Transition) -> tuple[jax.Array, heads.SupportFit]:
        obs, _, reward, discount, next_obs, *_ = transition
        among = best(scores(outputs.next_online, next_obs))
        chosen = head.mix(outputs.next_target, among / among.sum())
        if head.distributional:
            backup = backups.summed(reward, discount)
        else:
            asked, stock = _asked(config, utility, obs)
            # At degree 0 nothing fades, but a terminated episode still has nothing to come.
            fading = jnp.where(discount > 0, discount**asked.degree, 0.0)
            backup = backups.summed(asked(stock + reward) - asked(stock), fading)
        return head.target(chosen, backup), heads.support_fit(head, *heads.backed_up(head, chosen, backup))

    def prepare(transition: Transition, key: jax.Array) -> Transition:
        if not config.stock.relabel:
            return transition
        chance_key, stock_key = jax.random.split(key)
        batch = transition.action.shape[0]
        another = stocks.anywhere(jax.random.uniform(stock_key, (batch, stocks.num_draws)))
        chosen = jax.random.bernoulli(chance_key, config.stock.relabel, (batch, 1))
        obs, next_obs = transition.obs, transition.next_obs
        return transition._replace(
            obs=obs._replace(stock=jnp.where(chosen, another, obs.stock)),
            next_obs=next_obs._replace(
                stock=jnp.where(chosen, stocks.after(another, transition.reward), next_obs.stock)
            ),
        )

    return Rule(greedy, target, prepare=prepare)


def make(config: StockDQNConfig, spec: EnvSpec, total_steps: int, collect_steps: int) -> Algorithm:
    """The algorithm for environments of that shape."""
    parts = config.head_options.make(config.head), network(config, spec), rule(config, spec)
    return q_learning.make(config, spec, config.gamma, total_steps, collect_steps, *parts)
