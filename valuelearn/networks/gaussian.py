"""The network of a model of the dynamics: a mean and a log-variance for each thing predicted."""

from collections.abc import Sequence
from typing import cast

import flax.linen as nn
import jax

from valuelearn.networks.layers import Dense
from valuelearn.types import Network, Params

_SCALE = 0.5  # On initial weights: half of what keeps variances, as those of Chua et al. (2018).


class _Swish(nn.Module):
    hidden: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in self.hidden:
            x = nn.silu(Dense(features, "lecun_normal", _SCALE)(x))
        return Dense(2 * self.outputs, "lecun_normal", _SCALE)(x)


def gaussian(outputs: int, *, hidden: Sequence[int]) -> Network:
    """`apply(params, x [B, F]) -> [B, 2 * outputs]`: means, then log-variances without bounds."""
    module = _Swish(tuple(hidden), outputs)
    return Network(
        lambda key, x: module.init(key, x), lambda params, x: cast(jax.Array, module.apply(params, x))
    )


def kernel_shares(params: Params, shares: Sequence[float]) -> Params:
    """The share of each layer, in order, in the place of its weights; 0 in that of its biases."""
    layers = {f"Dense_{number}": {"kernel": share, "bias": 0.0} for number, share in enumerate(shares)}
    if layers.keys() != params["params"].keys():
        raise ValueError(f"{len(shares)} shares were given, and there are {len(params['params'])} layers")
    return {"params": layers}
