"""From returns to probabilities on a support: the targets of categorical value heads.

All are exact to rounding in float32 and float64, for every finite or infinite target and a sigma up to the
width of the support, and carry a NaN target through as NaN.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, erfc, log_ndtr

from valuelearn import checks

# Beyond this many standard deviations all mass is in the nearest bin, to any precision; going
# further would only round the distances between edges away.
_FAR_SIGMAS = 1e3


def hl_gauss(targets: jax.Array, edges: jax.Array, sigma: jax.Array | float) -> jax.Array:
    """Bin probabilities [..., N] of N(target, sigma^2) restricted to the support.

    Imani & White (2018), eq. 6; Farebrother et al. (2024), eq. 3.3. Targets outside the support
    are not clipped: the Gaussian's tail within it is renormalised, in log space, which stays
    exact where the mass underflows.

    Args:
        targets: [...], in the coordinate of the edges.
        edges: [N + 1], increasing.
        sigma: standard deviation, same unit as the edges.

    Raises:
        ValueError: for arrays of other shapes, or not of real numbers, or a sigma that is none.
    """
    targets, edges = _gaussian(targets, edges, sigma)
    targets = jnp.clip(targets, edges[0] - _FAR_SIGMAS * sigma, edges[-1] + _FAR_SIGMAS * sigma)
    z = (edges - targets[..., None]) / sigma
    low, high = z[..., :-1], z[..., 1:]
    above = low + high > 0  # Such bins use the survival tail.
    near = log_ndtr(jnp.where(above, -low, high))
    far = log_ndtr(jnp.where(above, -high, low))
    # Around the mean a bin much narrower than sigma loses its digits in log space, not in erf.
    central = jnp.maximum(jnp.abs(low), jnp.abs(high)) < 1
    inner = jnp.where(central, z[..., 1:], 1.0), jnp.where(central, z[..., :-1], 0.0)
    difference = 0.5 * (erf(inner[0] / jnp.sqrt(2.0)) - erf(inner[1] / jnp.sqrt(2.0)))
    log_mass = jnp.where(central, jnp.log(difference), near + jnp.log(-jnp.expm1(far - near)))
    return jax.nn.softmax(log_mass)


def hl_gauss_within(targets: jax.Array, edges: jax.Array, sigma: jax.Array | float) -> jax.Array:
    """As `hl_gauss`, of targets [...] that are clipped to the edges first; several times as fast on CPUs.

    A Gaussian whose mean lies within has mass enough there, and needs no logarithms. Of bins far from the
    target the mass keeps its digits as far down as floats do.

    Raises:
        ValueError: for arrays of other shapes, or not of real numbers, or a sigma that is none.
    """
    targets, edges = _gaussian(targets, edges, sigma)
    z = (edges - jnp.clip(targets, edges[0], edges[-1])[..., None]) / (sigma * jnp.sqrt(2.0))
    beyond, within = 0.5 * erfc(jnp.abs(z)), 0.5 * erf(z)  # Mass on the far side of an edge, and up to it.
    astride = (z[..., :-1] < 0) & (z[..., 1:] > 0)
    near, far = beyond[..., :-1], beyond[..., 1:]
    outer = jnp.where(astride, 1 - near - far, jnp.abs(near - far))
    # Around the mean one tail less another would lose a narrow bin's digits.
    central = jnp.maximum(jnp.abs(z[..., :-1]), jnp.abs(z[..., 1:])) < 0.7
    mass = jnp.where(central, within[..., 1:] - within[..., :-1], outer)
    return mass / mass.sum(-1, keepdims=True)


def _gaussian(targets: jax.Array, edges: jax.Array, sigma: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    checks.array("targets", targets, ...)
    checks.array("edges", edges, "N + 1", least=2)
    checks.array("sigma", sigma)
    checks.number("sigma", sigma, "a number above 0", lambda width: width > 0)
    return jnp.asarray(targets), jnp.asarray(edges)


def two_hot(targets: jax.Array, locations: jax.Array) -> jax.Array:
    """Probabilities [..., N] on the two locations around each target, preserving its value.

    Targets [...] are clipped to the support. Locations [N] increase, by any spacing.

    Raises:
        ValueError: for arrays of other shapes, or not of real numbers.
    """
    checks.array("targets", targets, ...)
    targets = jnp.asarray(targets)
    return categorical(targets[..., None], jnp.ones_like(targets)[..., None], locations)


def categorical(returns: jax.Array, probabilities: jax.Array, locations: jax.Array) -> jax.Array:
    """Probabilities [..., N] on `locations` of the law that puts `probabilities` on `returns`.

    The Cramer projection of C51 (Bellemare et al., 2017, eq. 7) for any increasing locations [N]:
    each atom is shared between its two neighbours so that its mean stays; atoms outside are clipped.

    Args:
        returns: [..., M], any order.
        probabilities: [..., M].
        locations: [N], increasing.

    Raises:
        ValueError: for arrays of other shapes, or not of real numbers.
    """
    returns, probabilities = checks.law(returns, probabilities)
    checks.array("locations", locations, "N", least=2)
    returns, locations = jnp.asarray(returns), jnp.asarray(locations)
    clipped = jnp.clip(returns, locations[0], locations[-1])[..., None]  # [..., M, 1]
    widths = jnp.diff(locations)
    # The hat function of each location is the lower one of its two sides; at the two ends the outer side lies
    # higher than any atom comes. What rises between two locations is what falls there: shares add up to one.
    starts = jnp.concatenate([locations[:1] - 2 * widths[:1], locations])
    steps = jnp.concatenate([widths[:1], widths, widths[-1:]])
    rising = (clipped - starts[:-1]) / steps[:-1]  # [..., M, N]
    falling = (clipped - starts[1:]) / steps[1:]
    hats = jnp.clip(jnp.minimum(rising, 1 - falling), 0.0, 1.0)
    # Not a product: a fused sum writes no array [..., M, N].
    return (hats * probabilities[..., None]).sum(-2)


def quantile_midpoints(num_quantiles: int) -> jax.Array:
    """Fractions [N] at the middle of N equal parts of (0, 1); Dabney et al. (2018), lemma 2.

    Raises:
        ValueError: for a number of quantiles that is none.
    """
    checks.count("num_quantiles", num_quantiles)
    return (jnp.arange(num_quantiles) + 0.5) / num_quantiles
