"""Torsos and action-value networks as `Network(init, apply)`: the only place that knows flax.

Convolutions are written as a matrix product where the backend is a CPU, on which XLA runs
`lax.conv` inside `lax.scan` up to ten times slower. Parameters, initial values and results are the
same either way, to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from valuelearn import heads, projections
from valuelearn.types import Network

Padding = Literal["same", "valid"]
TorsoName = Literal["nature", "impala", "minatar", "mlp"]
InitName = Literal["xavier_uniform", "he_normal", "lecun_normal", "third_uniform", "fan_in_uniform"]

_KERNELS: dict[str, Callable] = {
    "xavier_uniform": nn.initializers.xavier_uniform(),
    "he_normal": nn.initializers.he_normal(),
    "lecun_normal": nn.initializers.lecun_normal(),
    # Dopamine's C51 and Rainbow: variance 1 / (sqrt(3) fan_in).
    "third_uniform": nn.initializers.variance_scaling(3**-0.5, "fan_in", "uniform"),
    # DQN Zoo and PyTorch: +-1 / sqrt(fan_in), biases too.
    "fan_in_uniform": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
}


def _bias_init(init: InitName, fan_in: int) -> Callable:
    if init != "fan_in_uniform":
        return nn.initializers.zeros
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


@jax.custom_vjp
def _matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[..., F] @ [F, G] with a gradient of the kernel made for CPUs. It has no forward-mode derivative.

    JAX's own comes transposed, so that the optimiser reads it against the grain: an update of DQN on
    MinAtar then takes 1.7 times as long.
    """
    return x @ kernel


def _matmul_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return x @ kernel, (x, kernel)


def _matmul_backward(saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    inputs, outputs = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    # XLA on CPUs copies a left factor that is transposed: never the patches of a convolution, which are
    # large. The barrier keeps it from turning the product around.
    if inputs.size <= outputs.size + kernel.size:
        kernel_gradient = inputs.T @ outputs
    else:
        kernel_gradient = jax.lax.optimization_barrier(outputs.T @ inputs).T
    return g @ kernel.T, kernel_gradient


_matmul.defvjp(_matmul_forward, _matmul_backward)


class Dense(nn.Module):
    """Affine layer whose initial values follow a named scheme, times `scale`."""

    features: int
    scheme: InitName
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., F] -> [..., features]."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", lambda *args: self.scale * _KERNELS[self.scheme](*args), shape)
        bias = self.param(
            "bias", lambda *args: self.scale * _bias_init(self.scheme, shape[0])(*args), (self.features,)
        )
        return _matmul(x, kernel) + bias


def _padding(size: int, kernel: int, stride: int, mode: Padding) -> tuple[int, int]:
    if mode == "valid":
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _squares(x: jax.Array, size: int) -> jax.Array:
    """Images [B, H, W, C] as [B, H / size, W / size, size * size * C]: pixels of a square are channels."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return jnp.swapaxes(x, 2, 3).reshape(batch, height // size, width // size, -1)


def _matmul_convolution(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Sequence[tuple[int, int]]
) -> jax.Array:
    """What `lax.conv` gives, as one matrix product.

    With squares of `stride` pixels for pixels, windows are a few unit shifts of the image, which
    moves fewer and longer pieces of memory than one shift for each pixel of the kernel does.
    """
    span = -(-kernel.shape[0] // stride)  # Squares that a window reaches over.
    rows, columns = (
        (size + sum(pad) - kernel.shape[0]) // stride + 1
        for size, pad in zip(x.shape[1:3], pads, strict=True)
    )
    # Up to the end of the last window's last square; beyond it the image is cropped.
    ends = [(count - 1 + span) * stride for count in (rows, columns)]
    margins = [
        (low, end - low - size, 0) for (low, _), end, size in zip(pads, ends, x.shape[1:3], strict=True)
    ]
    x = _squares(jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *margins, (0, 0, 0)]), stride)
    patches = jnp.concatenate(
        [x[:, i : i + rows, j : j + columns] for i in range(span) for j in range(span)], axis=-1
    )
    rest = (0, span * stride - kernel.shape[0])
    kernel = jnp.pad(kernel, (rest, rest, (0, 0), (0, 0)))
    weights = _squares(kernel.reshape(1, *kernel.shape[:2], -1), stride).reshape(-1, kernel.shape[-1])
    return _matmul(patches.astype(kernel.dtype), weights)  # Bytes until here, where images are.


class Conv(nn.Module):
    """Square convolution over [B, H, W, C]; integer images are scaled by 1/255.

    `matmul` None takes the form that is fast on the default backend.
    """

    features: int
    kernel: int
    stride: int
    scheme: InitName
    padding: Padding = "same"
    matmul: bool | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", _KERNELS[self.scheme], shape)
        fan_in = self.kernel * self.kernel * x.shape[-1]
        bias = self.param("bias", _bias_init(self.scheme, fan_in), (self.features,))
        if x.dtype == jnp.uint8:
            kernel = kernel / 255.0  # Cheaper than scaling the images.
        pads = [_padding(size, self.kernel, self.stride, self.padding) for size in x.shape[1:3]]
        matmul = jax.default_backend() == "cpu" if self.matmul is None else self.matmul
        if not matmul:
            layout = ("NHWC", "HWIO", "NHWC")
            return bias + jax.lax.conv_general_dilated(
                x.astype(kernel.dtype), kernel, (self.stride,) * 2, pads, dimension_numbers=layout
            )
        return bias + _matmul_convolution(x, kernel, self.stride, pads)


def _activate(x: jax.Array, layer_norm: bool) -> jax.Array:
    return nn.relu(nn.LayerNorm()(x) if layer_norm else x)


class Torso(nn.Module):
    """Observation [B, ...] -> features [B, F].

    `nature`: Mnih et al. (2015), padded `same` as in Dopamine's JAX agents or `valid` as in the
    paper. `impala`: the residual network of Espeholt et al. (2018). `minatar`: one 3 x 3
    convolution of 16 filters (Young & Tian, 2019). `mlp`: the flat observation.
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
        if x.dtype != jnp.uint8:
            x = x.astype(jnp.float32)
        match self.torso:
            case "nature":
                for features, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
                    x = _activate(self._conv(features, kernel, stride, self.padding)(x), self.layer_norm)
            case "impala":
                for features in (16, 32, 32):
                    x = self._residual_stage(x, features)
                x = nn.relu(x)
            case "minatar":
                x = _activate(self._conv(16, 3, 1, "valid")(x), self.layer_norm)
        return x.reshape(x.shape[0], -1)

    def _residual_stage(self, x: jax.Array, features: int) -> jax.Array:
        x = self._conv(features, 3, 1, "same")(x)
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for _ in range(2):
            y = self._conv(features, 3, 1, "same")(_activate(x, self.layer_norm))
            x = x + self._conv(features, 3, 1, "same")(_activate(y, self.layer_norm))
        return x


class _Stream(nn.Module):
    """Hidden layers, then one linear layer whose initial values are scaled."""

    hidden: Sequence[int]
    outputs: int
    scheme: InitName
    layer_norm: bool
    last_scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in self.hidden:
            x = _activate(Dense(features, self.scheme)(x), self.layer_norm)
        return Dense(self.outputs, self.scheme, self.last_scale)(x)


class ActionValue(nn.Module):
    """Torso, then one stream, or two where `dueling`, to [B, A, N].

    Duelling (Wang et al., 2016) adds the value to the advantages minus their mean, in the head's
    own output space. With `num_cosines` the features are modulated by fractions (IQN).
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

    @nn.compact
    def __call__(self, obs: jax.Array, fractions: jax.Array | None = None) -> jax.Array:
        """Obs [B, ...], fractions [B, K] or None -> [B, A, N], or [B, K, A] where modulated."""
        x = Torso(self.torso, self.scheme, self.padding, self.layer_norm)(obs)
        if self.num_cosines:
            assert fractions is not None
            order = jnp.arange(1, self.num_cosines + 1)
            waves = jnp.cos(jnp.pi * order * fractions[..., None])
            x = x[:, None] * nn.relu(Dense(x.shape[-1], self.scheme)(waves))
        size = 1 if self.num_cosines else self.size

        def stream(outputs: int) -> jax.Array:
            out = _Stream(self.hidden, outputs * size, self.scheme, self.layer_norm, self.last_scale)(x)
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
) -> Network:
    """A network with `head.size` outputs for each action.

    For an `ImplicitQuantile` head the outputs are quantiles followed by their fractions:
    `head.num_fractions` random ones where `apply` is given a key, `acting_fractions` midpoints
    where it is not.

    Raises:
        ValueError: for an unknown torso or initialisation.
    """
    for value, names in ((torso, get_args(TorsoName)), (init, get_args(InitName))):
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
    )

    def fractions(obs: jax.Array, key: jax.Array | None) -> jax.Array | None:
        if not num_fractions:
            return None
        if key is None:
            return jnp.tile(projections.quantile_midpoints(acting_fractions), (obs.shape[0], 1))
        return jax.random.uniform(key, (obs.shape[0], num_fractions))

    def init_params(key: jax.Array, obs: jax.Array) -> Any:
        return module.init(key, obs, fractions(obs, None))

    def apply(params: Any, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        taus = fractions(obs, key)
        out = cast(jax.Array, module.apply(params, obs, taus))
        if taus is None:
            return out
        quantiles = jnp.swapaxes(out, -1, -2)  # [B, A, K]
        return jnp.concatenate([quantiles, jnp.broadcast_to(taus[:, None], quantiles.shape)], -1)

    return Network(init_params, apply)
