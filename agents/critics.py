"""Ensembles of critics with any head: their options, their targets and their loss."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field, model_validator

from agents.parts import HeadConfig
from valuelearn import backups, ensembles, heads, networks
from valuelearn.config import Misfit, Section
from valuelearn.types import Metrics, Network, Params, Sample


class ActorNetworkConfig(Section):
    """The actor's network."""

    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (256, 256)
    """Units of each hidden layer."""
    init: networks.InitName = "fan_in_uniform"
    """Initial weights; fan_in_uniform is PyTorch's."""
    normalize_obs: bool = False
    """Whether networks read observations less their mean, over their standard deviation, of all that
    were learnt from so far."""

    def check(self, obs_shape: tuple[int, ...]) -> None:
        """Refuse observations that are not vectors.

        Raises:
            Misfit: with the shape that was found.
        """
        if len(obs_shape) != 1:
            reason = f"these networks read vectors, but an observation has the shape {obs_shape}"
            raise Misfit("agent.network.hidden", list(self.hidden), reason, "env.id")

    def actor(self, outputs: int) -> Network:
        """The actor's network, `apply(params, obs) -> [B, outputs]`."""
        return networks.vector(outputs, hidden=self.hidden, init=self.init)


class ControlNetworkConfig(ActorNetworkConfig):
    """The actor's network and each critic's."""

    critic_hidden: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    """Units of each hidden layer of the critics; none for the same as the actor's."""
    layer_norm: bool = False
    """LayerNorm before each hidden activation of the critics."""
    blocks: networks.BlockName = "plain"
    """The critics' hidden layers after the first: plain ones, or residual blocks with LayerNorm, as many,
    of BRO (Nauman et al., 2024) or of SimBa (Lee et al., 2024)."""
    last_scale: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the critics' last initial weights; 0 starts every value at the support's middle."""

    @model_validator(mode="after")
    def _possible(self) -> "ControlNetworkConfig":
        widths = self.hidden if self.critic_hidden is None else self.critic_hidden
        if self.blocks != "plain" and len(set(widths)) != 1:
            key = "hidden" if self.critic_hidden is None else "critic_hidden"
            raise Misfit(key, list(widths), "residual blocks want one or more layers of one width", "blocks")
        return self

    def critic(self, outputs: int) -> Network:
        """One critic's, `apply(params, *inputs) -> [B, outputs]`."""
        return networks.vector(
            outputs,
            hidden=self.hidden if self.critic_hidden is None else self.critic_hidden,
            init=self.init,
            layer_norm=self.layer_norm,
            blocks=self.blocks,
            last_scale=self.last_scale,
        )


class CriticsConfig(Section):
    """What every agent with critics takes."""

    head: heads.Name = "mse"
    """The critics' head and so their loss: the one word to change."""
    head_options: HeadConfig = HeadConfig()
    """Support, smoothing and the like; what does not concern the head is ignored."""
    network: ControlNetworkConfig = ControlNetworkConfig()
    """The networks."""
    num_critics: Annotated[int, Field(gt=0)] = 2
    """Critics; 2 in SAC and TD3, 10 in REDQ, up to 500 in SAC-N."""
    target_critics: Annotated[int, Field(gt=0)] | None = None
    """Critics drawn anew for the targets of each update (2 in REDQ); none for all."""
    target_rule: ensembles.Rule = "lowest"
    """What targets take of those critics: the output whose mean is lowest, or the mean of all."""
    dropped_quantiles: Annotated[int, Field(ge=0)] | None = None
    """Highest quantiles for each critic that pooled targets leave out (head qr; TQC drops 2 of 25 in most
    tasks); none for `target_rule`."""
    diversity: Annotated[float, Field(ge=0)] = 0.0
    """Weight in the critics' loss of how alike their action gradients are (EDAC's eta)."""

    @model_validator(mode="after")
    def _goes_together(self) -> "CriticsConfig":
        if self.head == "iqn":
            raise Misfit("head", self.head, "its fractions do not enter these critics; use qr")
        if self.target_critics is not None and self.target_critics > self.num_critics:
            reason = f"at most num_critics = {self.num_critics} is wanted"
            raise Misfit("target_critics", self.target_critics, reason, "num_critics")
        if self.dropped_quantiles is not None:
            if self.head != "qr":
                reason = f"{self.head} has no quantiles to drop; use qr"
                raise Misfit("dropped_quantiles", self.dropped_quantiles, reason, "head")
            if self.dropped_quantiles >= (held := self.head_options.num_quantiles):
                reason = f"fewer than head_options.num_quantiles = {held} is wanted"
                raise Misfit(
                    "dropped_quantiles", self.dropped_quantiles, reason, "head_options.num_quantiles"
                )
        if self.diversity and self.num_critics == 1:
            raise Misfit("diversity", self.diversity, "one critic is like itself", "num_critics")
        return self

    def critics(self) -> "Critics":
        """The critics."""
        head = self.head_options.make(self.head)
        one = self.network.critic(head.size)
        if self.dropped_quantiles is None:
            in_targets = partial(ensembles.together, head, rule=self.target_rule)
        else:
            in_targets = partial(ensembles.truncated, dropped=self.dropped_quantiles)
        drawn = self.target_critics or self.num_critics
        return Critics(
            head, one, ensembles.ensemble(one, self.num_critics), in_targets, drawn, self.diversity
        )


def target(
    head: heads.Head,
    together: Callable[[jax.Array], jax.Array],
    next_out: jax.Array,
    next_cost: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
) -> tuple[jax.Array, heads.SupportFit]:
    """What critics are fitted to after one transition, and how the support suits it.

    `next_out` [K, N] are target critics' outputs for the action that follows, of which `together` makes
    one; `next_cost` [] is taken off what follows: of SAC the temperature times the logarithm of the
    action's density. It is part of the return, there before the support cuts anything off, and a
    terminated episode has none to come.
    """
    chosen = together(next_out)
    backup = backups.summed(reward - discount * next_cost, discount)
    return head.target(chosen, backup), heads.support_fit(head, *heads.backed_up(head, chosen, backup))


@dataclasses.dataclass(frozen=True)
class Critics:
    """K critics, and what they are for each other."""

    head: heads.Head
    one: Network
    all: Network
    in_targets: Callable[[jax.Array], jax.Array]
    drawn: int
    diversity: float

    def values(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """What each of them says an action is worth, [K, B]."""
        return self.head.value(self.all.apply(params, obs, action))

    def value(self, params: Params, obs: jax.Array, action: jax.Array, rule: ensembles.Rule) -> jax.Array:
        """What they together say an action is worth, [B]."""
        out = self.all.apply(params, obs, action)
        return jax.vmap(lambda out: self.head.value(ensembles.together(self.head, out, rule)), 1)(out)

    def targets(
        self, params: Params, sample: Sample, action: jax.Array, cost: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, heads.SupportFit]:
        """Targets [B] for following with `action` [B, D] at `cost` [B]; `params` are the target critics'."""
        _, _, reward, discount, next_obs = sample.transition[:5]
        out = ensembles.subset(self.all.apply(params, next_obs, action), self.drawn, key)  # [K, B, N]
        return jax.vmap(partial(target, self.head, self.in_targets), (1, 0, 0, 0))(
            out, cost, reward, discount
        )

    def certain(self, returns: jax.Array) -> tuple[jax.Array, heads.SupportFit]:
        """Targets for returns [B] that are known, each for certain."""
        out, zero = jnp.zeros((len(returns), 1, self.head.size)), jnp.zeros_like(returns)
        return jax.vmap(partial(target, self.head, lambda out: out[0]))(out, zero, returns, zero)

    def loss(self, params: Params, sample: Sample, fitted: jax.Array) -> tuple[jax.Array, Metrics]:
        """The loss of all, with each item's as its `priority` [B]."""
        obs, action = sample.transition.obs, sample.transition.action
        if self.diversity:
            out, slopes = self.with_slopes(params, obs, action)
        else:
            out, slopes = self.all.apply(params, obs, action), None
        losses = self.head.loss(out, fitted)  # [K, B]
        # A sum over critics: how far one is moved does not depend on how many there are.
        loss = (sample.weight * losses).mean(-1).sum()
        if slopes is not None:
            loss += self.diversity * ensembles.alignment(slopes).mean()
        return loss, {"loss": loss, "value": self.head.value(out).mean(), "priority": losses.mean(0)}

    def with_slopes(self, params: Params, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Outputs [K, B, N], and derivatives [K, B, D] of each critic's values by the action."""

        def of_value(out: jax.Array) -> jax.Array:
            return jax.grad(lambda out: self.head.value(out).sum())(out)

        def one(params: Params) -> tuple[jax.Array, jax.Array]:
            if self.one.with_slopes is not None:
                out, slopes = self.one.with_slopes(params, obs, action)
                return out, of_value(out) * slopes[:, -action.shape[-1] :]
            out, slopes_of = jax.vjp(lambda action: self.one.apply(params, obs, action), action)
            return out, slopes_of(of_value(out))[0]

        return jax.vmap(one)(params)
