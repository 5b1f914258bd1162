"""What turns an observation into features."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelearn.networks.layers import Conv, InitName, Padding, activate

TorsoName = Literal["nature", "impala", "minatar", "mlp"]


class Torso(nn.Module):
    """Observation [B, ...] -> features [B, F].

    `nature`: Mnih et al. (2015), padded `same` as in Dopamine's JAX agents or `valid` as in the
    paper. `impala`: the residual network of Espeholt et al. (2018). `minatar`: one 3 x 3
    convolution of 16 filters (Young & Tian, 2019). `mlp`: the flat observation. Bytes are scaled by
    1/255 in all of them.
    """

    torso: TorsoName
    scheme: InitName
    padding: Padding
    layer_norm: bool

    def _conv(self, features: int, kernel: int, stride: int, padding: Padding) -> Conv:
        return Conv(features, kernel, stride, self.scheme, padding)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, ...] -> [B, F]."""
        match self.torso:
            case "nature":
                for features, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
                    x = activate(self._conv(features, kernel, stride, self.padding)(x), self.layer_norm)
            case "impala":
                for features in (16, 32, 32):
                    x = self._residual_stage(x, features)
                x = nn.relu(x)
            case "minatar":
                x = activate(self._conv(16, 3, 1, "valid")(x), self.layer_norm)
        x = x.reshape(x.shape[0], -1)
        # A convolution scales its kernel, which is cheaper; what it gives is no longer bytes.
        return x / 255.0 if x.dtype == jnp.uint8 else x

    def _residual_stage(self, x: jax.Array, features: int) -> jax.Array:
        x = self._conv(features, 3, 1, "same")(x)
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for _ in range(2):
            y = self._conv(features, 3, 1, "same")(activate(x, self.layer_norm))
            x = x + self._conv(features, 3, 1, "same")(activate(y, self.layer_norm))
        return x
