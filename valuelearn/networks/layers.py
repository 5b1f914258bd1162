"""Affine and convolutional layers that are fast where they run, and compute in the type of their parameters.

Convolutions are written as a matrix product where the backend is a CPU, on which XLA runs
`lax.conv` inside `lax.scan` up to ten times slower. Parameters, initial values and results are the
same either way, to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

Padding = Literal["same", "valid"]
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
        return _matmul(x.astype(kernel.dtype), kernel) + bias


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


class Stream(nn.Module):
    """Hidden layers, then one linear layer whose initial values are scaled."""

    hidden: Sequence[int]
    outputs: int
    scheme: InitName
    layer_norm: bool
    last_scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., F] -> [..., outputs]."""
        for features in self.hidden:
            x = activate(Dense(features, self.scheme)(x), self.layer_norm)
        return Dense(self.outputs, self.scheme, self.last_scale)(x)


def activate(x: jax.Array, layer_norm: bool) -> jax.Array:
    """ReLU, after LayerNorm where asked for; inside a module."""
    return nn.relu(nn.LayerNorm()(x) if layer_norm else x)
