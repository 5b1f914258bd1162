"""Where the bins of a categorical value head lie.

A support is uniform in the coordinate of a `Transform`; with the identity that is the usual
uniform grid. `v_min` and `v_max` are always in return units.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn import checks

Convention = Literal["edges", "centers"]
TransformName = Literal["identity", "symlog", "signed_hyperbolic"]

_EPSILON = 1e-3  # Of the signed hyperbolic transform, as in MuZero.
_LARGEST = 1e38  # Beyond, distances overflow in float32.


class Transform(NamedTuple):
    """An odd, increasing change of coordinate and its inverse. `xp` is numpy or jax.numpy."""

    forward: Callable
    inverse: Callable


def _signed_hyperbolic(x: Any, xp: Any = jnp) -> Any:
    # sqrt(x + 1) - 1 without the cancellation near 0.
    size = xp.abs(x)
    return xp.sign(x) * size / (xp.sqrt(size + 1.0) + 1.0) + _EPSILON * x


def _signed_parabolic(x: Any, xp: Any = jnp) -> Any:
    size = xp.abs(x)
    root = xp.sqrt(1.0 + 4.0 * _EPSILON * (size + 1.0 + _EPSILON))
    # (root - 1) / (2 eps) = 1 + d; with d computed apart, (1 + d)^2 - 1 keeps its digits near 0.
    start = 1.0 + 2.0 * _EPSILON  # The root at x = 0.
    d = 2.0 * size / (root + start)
    return xp.sign(x) * d * (d + 2.0)


_TRANSFORMS: dict[str, Transform] = {
    "identity": Transform(lambda x, xp=jnp: x, lambda x, xp=jnp: x),
    # Hafner et al. (2023), "Mastering diverse domains through world models", eq. 9.
    "symlog": Transform(
        lambda x, xp=jnp: xp.sign(x) * xp.log1p(xp.abs(x)),
        lambda x, xp=jnp: xp.sign(x) * xp.expm1(xp.abs(x)),
    ),
    # Pohlen et al. (2018), "Observe and look further", with the epsilon of MuZero.
    "signed_hyperbolic": Transform(_signed_hyperbolic, _signed_parabolic),
}


def transform(name: TransformName) -> Transform:
    """The transform of that name.

    Raises:
        ValueError: for a name that is not one of `TransformName`.
    """
    if name not in get_args(TransformName):
        raise ValueError(f"transform {name!r} is not one of {', '.join(get_args(TransformName))}")
    return _TRANSFORMS[name]


def _ends(v_min: float, v_max: float, num_bins: int, name: TransformName) -> tuple[float, float]:
    checks.number("v_min", v_min, f"a number within {_LARGEST:g} of 0", lambda end: not abs(end) > _LARGEST)
    checks.number("v_max", v_max, f"a number within {_LARGEST:g} of 0", lambda end: not abs(end) > _LARGEST)
    checks.count("num_bins", num_bins, None)
    if not v_min < v_max:
        raise ValueError(f"v_min {v_min} must lie below v_max {v_max}")
    if num_bins < 2:
        raise ValueError(f"num_bins {num_bins} must be at least 2")
    forward = transform(name).forward
    return float(forward(np.float64(v_min), np)), float(forward(np.float64(v_max), np))


def apart(points: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    """The points [N], where they increase in that precision too.

    Raises:
        ValueError: where two of them are one.
    """
    if not (np.diff(points.astype(dtype)) > 0).all():
        ends, name = f"{points[0]} to {points[-1]}", np.dtype(dtype).name
        raise ValueError(f"{len(points)} points from {ends} are too near to be told apart in {name}")
    return points


def locations(
    v_min: float, v_max: float, num_bins: int, transform_name: TransformName = "identity"
) -> np.ndarray:
    """Atoms f64[N] in return units, from v_min to v_max: the support of two-hot and C51.

    Raises:
        ValueError: for a support that is empty or not finite, or a name that is unknown.
    """
    low, high = _ends(v_min, v_max, num_bins, transform_name)
    points = transform(transform_name).inverse(np.linspace(low, high, num_bins), np)
    points[0], points[-1] = v_min, v_max  # Exact at the ends, whatever the round trip lost.
    return apart(points)


def edges(
    v_min: float,
    v_max: float,
    num_bins: int,
    convention: Convention = "edges",
    transform_name: TransformName = "identity",
) -> np.ndarray:
    """Bin edges f64[N + 1] in the transformed coordinate, for HL-Gauss.

    `edges` (Farebrother et al., 2024, app. A): N bins tile [v_min, v_max], so their centres stay
    half a bin inside. `centers`: bin centres run from v_min to v_max as those of two-hot and C51
    do, and the edges stick out by half a bin.

    Raises:
        ValueError: for a support that is empty or not finite, or a name that is unknown.
    """
    low, high = _ends(v_min, v_max, num_bins, transform_name)
    if convention == "edges":
        return apart(np.linspace(low, high, num_bins + 1))
    if convention == "centers":
        half = (high - low) / (num_bins - 1) / 2
        return apart(np.linspace(low - half, high + half, num_bins + 1))
    raise ValueError(f"convention {convention!r} is not one of {', '.join(get_args(Convention))}")


def clipped_mass(
    returns: jax.Array, probabilities: jax.Array, low: jax.Array | float, high: jax.Array | float
) -> jax.Array:
    """Share of target mass f32[2] below `low` and above `high`, averaged over all leading axes.

    `returns` and `probabilities` are [..., N]; a scalar target is N = 1 with probability 1.

    Raises:
        ValueError: for arrays of other shapes, or not of real numbers.
    """
    returns, probabilities = checks.law(returns, probabilities)
    checks.array("low", low)
    checks.array("high", high)
    total = probabilities.sum(-1).mean()
    below = jnp.where(returns < low, probabilities, 0.0).sum(-1).mean()
    above = jnp.where(returns > high, probabilities, 0.0).sum(-1).mean()
    return jnp.stack([below, above]) / total
