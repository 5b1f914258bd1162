"""Action-value networks."""

from collections.abc import Sequence
from typing import Literal, cast, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelearn import heads, projections
from valuelearn.networks.layers import Dense, InitName, Padding, Stream
from valuelearn.networks.stock import StockInput, StockLayer
from valuelearn.networks.torsos import Torso, TorsoName
from valuelearn.types import Array, Network, Params

Precision = Literal["float32", "bfloat16"]


class _Stream(Stream):
    """A stream under the name that the parameters of saved runs have."""


class ActionValue(nn.Module):
    """Torso, then one stream, or two where `dueling`, to [B, A, N].

    Duelling (Wang et al., 2016) adds the value to the advantages minus their mean, in the head's
    own output space. With `num_cosines` the features are modulated by fractions (IQN). With `stock`
    observations are `Stocked`, and the first hidden layer is modulated by what they carry.
    """

    num_actions: int
    size: int
    torso: TorsoName
    hidden: Sequence[int]
    scheme: InitName
    padding: Padding
    layer_norm: bool
    dueling: bool
    last_scale: float
    num_cosines: int = 0
    stock: StockInput | None = None

    @nn.compact
    def __call__(self, obs: Array, fractions: jax.Array | None = None) -> jax.Array:
        """Obs [B, ...], fractions [B, K] or None -> [B, A, N], or [B, K, A] where modulated."""
        hidden = self.hidden
        torso = Torso(self.torso, self.scheme, self.padding, self.layer_norm)
        if self.stock is None:
            x = torso(obs)
        else:
            shown, carried = obs
            first, *hidden = self.hidden
            x = StockLayer(self.stock, first, self.scheme, self.layer_norm)(torso(shown), carried)
        if self.num_cosines:
            assert fractions is not None
            order = jnp.arange(1, self.num_cosines + 1)
            waves = jnp.cos(jnp.pi * order * fractions[..., None])
            x = x[:, None] * nn.relu(Dense(x.shape[-1], self.scheme)(waves))
        size = 1 if self.num_cosines else self.size

        def stream(outputs: int) -> jax.Array:
            out = _Stream(hidden, outputs * size, self.scheme, self.layer_norm, self.last_scale)(x)
            return out.reshape(*x.shape[:-1], outputs, size)

        out = stream(self.num_actions)
        if self.dueling:
            out = stream(1) + out - out.mean(-2, keepdims=True)
        return out[..., 0] if self.num_cosines else out


def action_value(
    num_actions: int,
    head: heads.Head,
    *,
    torso: TorsoName = "mlp",
    hidden: Sequence[int] = (512,),
    init: InitName = "xavier_uniform",
    padding: Padding = "same",
    layer_norm: bool = False,
    dueling: bool = False,
    last_scale: float = 1.0,
    num_cosines: int = 64,
    acting_fractions: int = 32,
    precision: Precision = "float32",
    stock: StockInput | None = None,
) -> Network:
    """A network with `head.size` outputs for each action; with `stock` it reads `Stocked` observations.

    For an `ImplicitQuantile` head the outputs are quantiles followed by their fractions:
    `head.num_fractions` random ones where `apply` is given a key, `acting_fractions` midpoints
    where it is not.

    `precision` is that of its layers. Parameters, their gradients and the outputs are float32 either way, so
    that optimisers add up small steps and losses tell returns apart; bfloat16 has float32's range, so that
    no loss need be scaled.

    Raises:
        ValueError: for an unknown torso, initialisation or precision.
    """
    choices = (torso, get_args(TorsoName)), (init, get_args(InitName)), (precision, get_args(Precision))
    for value, names in choices:
        if value not in names:
            raise ValueError(f"{value!r} is not one of {', '.join(names)}")
    num_fractions = head.num_fractions if isinstance(head, heads.ImplicitQuantile) else 0
    module = ActionValue(
        num_actions=num_actions,
        size=head.size,
        torso=torso,
        hidden=tuple(hidden),
        scheme=init,
        padding=padding,
        layer_norm=layer_norm,
        dueling=dueling,
        last_scale=last_scale,
        num_cosines=num_cosines if num_fractions else 0,
        stock=stock,
    )

    def fractions(obs: Array, key: jax.Array | None) -> jax.Array | None:
        if not num_fractions:
            return None
        batch = len(jax.tree.leaves(obs)[0])
        if key is None:
            return jnp.tile(projections.quantile_midpoints(acting_fractions), (batch, 1))
        return jax.random.uniform(key, (batch, num_fractions))

    def init_params(key: jax.Array, obs: Array) -> Params:
        return module.init(key, obs, fractions(obs, None))

    def apply(params: Params, obs: Array, key: jax.Array | None = None) -> jax.Array:
        taus = fractions(obs, key)
        params = jax.tree.map(lambda x: x.astype(precision), params)
        out = cast(jax.Array, module.apply(params, obs, taus)).astype(jnp.float32)
        if taus is None:
            return out
        quantiles = jnp.swapaxes(out, -1, -2)  # [B, A, K]
        return jnp.concatenate([quantiles, jnp.broadcast_to(taus[:, None], quantiles.shape)], -1)

    return Network(init_params, apply)
