"""Values of a ReLU network with their slopes, made to be differentiated once more.

Losses of a critic's action gradients (EDAC, An et al., 2021) differentiate the network twice. Left to
itself, JAX goes down the network once for the slopes, and from there once for them and once for the
values. But a ReLU network is linear around its input: what the values' derivatives by the weights want
on the way down is the slopes' own way down, each item's times one number. That leaves one way down, one
up and one product for each layer, instead of two, one and two.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Layer = tuple[jax.Array, jax.Array]  # Kernel [F, G] and bias [G].


@jax.custom_vjp
def relu_with_slopes(layers: Sequence[Layer], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Values [B] of inputs [B, F], and their derivatives [B, F] by them.

    The last of `layers` has one output; a ReLU follows each of the others.
    """
    return _forward(layers, x)[0]


def _forward(layers: Sequence[Layer], x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    *hidden, (last, last_bias) = layers
    active = []
    out = x
    for kernel, bias in hidden:
        out = jax.nn.relu(out @ kernel + bias)
        active.append(out > 0)
    value = (out @ last + last_bias)[:, 0]
    slope = jnp.broadcast_to(last[:, 0], out.shape)
    before = []  # Derivatives of the value by what each hidden layer gives before its ReLU.
    for (kernel, _), on in zip(reversed(hidden), reversed(active), strict=True):
        before.append(jnp.where(on, slope, 0.0))
        slope = before[-1] @ kernel.T
    return (value, slope), (layers, x, active, before[::-1], slope)


def _backward(saved: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple[list[Layer], jax.Array]:
    """Derivatives of r * value + v . slope, for cotangents r [B] and v [B, F].

    With the ReLUs held as they are, r * value + v . slope is what the network makes of the input
    r * x + v where its biases are r times as large.
    """
    layers, x, active, before, by_input = saved
    *hidden, _ = layers
    by_value, by_slope = cotangents
    factor = by_value[:, None]
    mixed = factor * x + by_slope
    gradients = []
    for (kernel, bias), on, slope in zip(hidden, active, before, strict=True):
        gradients.append((mixed.T @ slope, by_value @ slope))
        mixed = jnp.where(on, mixed @ kernel + factor * bias, 0.0)
    gradients.append((mixed.sum(0)[:, None], by_value.sum()[None]))
    return gradients, factor * by_input


relu_with_slopes.defvjp(_forward, _backward)
