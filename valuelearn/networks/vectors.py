"""Networks over vectors: actors, critics and state values."""

from collections.abc import Sequence
from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelearn.networks.layers import Dense, InitName, Stream, activate
from valuelearn.networks.slopes import relu_with_slopes
from valuelearn.types import Network, Params

BlockName = Literal["plain", "bro", "simba"]
_EXPANSION = 4  # Of the inner layer of SimBa's block.


class _Residual(nn.Module):
    """Blocks that add to what they read, each with normalised inner layers; all have one width.

    `bro`: Nauman et al. (2024), two layers a block, each followed by LayerNorm. `simba`: Lee et al.
    (2024), one that is 4 times as wide, after LayerNorm, and another LayerNorm at the end.
    """

    hidden: Sequence[int]
    outputs: int
    scheme: InitName
    block: BlockName
    last_scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, *blocks = self.hidden
        x = Dense(width, self.scheme)(x)
        if self.block == "bro":
            x = activate(x, layer_norm=True)
        for _ in blocks:
            x = x + (self._bro(x, width) if self.block == "bro" else self._simba(x, width))
        if self.block == "simba":
            x = nn.LayerNorm()(x)
        return Dense(self.outputs, self.scheme, self.last_scale)(x)

    def _bro(self, x: jax.Array, width: int) -> jax.Array:
        x = activate(Dense(width, self.scheme)(x), layer_norm=True)
        return nn.LayerNorm()(Dense(width, self.scheme)(x))

    def _simba(self, x: jax.Array, width: int) -> jax.Array:
        x = Dense(_EXPANSION * width, self.scheme)(nn.LayerNorm()(x))
        return Dense(width, self.scheme)(nn.relu(x))


def vector(
    outputs: int,
    *,
    hidden: Sequence[int],
    init: InitName = "fan_in_uniform",
    layer_norm: bool = False,
    blocks: BlockName = "plain",
    last_scale: float = 1.0,
) -> Network:
    """`apply(params, *inputs) -> [B, outputs]`, of inputs [B, ...] laid side by side.

    With `blocks` other than plain, the first of `hidden` is the width of a layer that is followed by one
    residual block for each of the others.
    """
    if blocks == "plain":
        module: nn.Module = Stream(tuple(hidden), outputs, init, layer_norm, last_scale)
    else:
        module = _Residual(tuple(hidden), outputs, init, blocks, last_scale)

    def joined(inputs: Sequence[jax.Array]) -> jax.Array:
        return jnp.concatenate([x.reshape(len(x), -1).astype(jnp.float32) for x in inputs], axis=-1)

    def with_slopes(params: Params, *inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        layers = [params["params"][f"Dense_{number}"] for number in range(len(hidden) + 1)]
        pairs = [(layer["kernel"], layer["bias"]) for layer in layers]
        value, slopes = relu_with_slopes(pairs, joined(inputs))
        return value[:, None], slopes

    return Network(
        lambda key, *inputs: module.init(key, joined(inputs)),
        lambda params, *inputs: cast(jax.Array, module.apply(params, joined(inputs))),
        with_slopes if blocks == "plain" and not layer_norm and outputs == 1 else None,
    )
