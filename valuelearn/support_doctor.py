"""The support doctor: which support fits, and when the one in use does not."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from valuelearn import checks, supports

_ALARM = 0.01  # Share of target mass beyond one end.
_PAD_SIGMAS = 4.0  # Nearer to an end, HL-Gauss targets are pulled inwards.


class Support(NamedTuple):
    """The bins of a value head, and the discount of the returns that they are to hold."""

    v_min: float
    v_max: float
    num_bins: int
    gamma: float
    sigma_ratio: float = 0.0  # Smoothing of HL-Gauss in bin widths; 0 for other heads.
    transform: supports.TransformName = "identity"
    of_returns: bool = True  # Otherwise of something else, which rewards do not bound in the same way.


def _outwards(x: float) -> float:
    """The number of three digits next to `x`, away from 0."""
    if x == 0.0:
        return x
    unit = 10.0 ** (math.floor(math.log10(abs(x))) - 2)
    digits = math.ceil(abs(x) / unit - 1e-9)  # What has three digits already stays.
    return math.copysign(float(f"{digits * unit:.3g}"), x)


def _no_range(reward_min: float, reward_max: float) -> str:
    return f"the rewards are {reward_min:g} to {reward_max:g}; a range with a reward is wanted"


def return_bounds(reward_min: float, reward_max: float, gamma: float) -> tuple[float, float]:
    """The least and the greatest return of rewards in [reward_min, reward_max].

    Discounted by `gamma` below 1 they add up to at most 1 / (1 - gamma) of the extreme one, at any
    n-step and any time limit, as both bootstrap. Episodes may terminate, so 0 lies between.

    Raises:
        ValueError: for gamma outside [0, 1), or rewards out of order or not finite.
    """
    checks.number("gamma", gamma, "a number from 0 to below 1", lambda number: 0 <= number < 1)
    checks.number("reward_min", reward_min, "a finite number", math.isfinite)
    checks.number("reward_max", reward_max, "a finite number", math.isfinite)
    if reward_min > reward_max:
        raise ValueError(_no_range(reward_min, reward_max))
    return min(reward_min, 0.0) / (1.0 - gamma), max(reward_max, 0.0) / (1.0 - gamma)


def _free_bins(support: Support) -> float:
    """Bins that HL-Gauss is to have free at both ends together."""
    return 2 * _PAD_SIGMAS * support.sigma_ratio


def fitting(support: Support, reward_min: float, reward_max: float) -> Support:
    """The support with the ends moved so that it holds every return of rewards in that range.

    For HL-Gauss four sigma are left free on each side.

    Raises:
        ValueError: for gamma outside [0, 1), rewards out of order, not finite or all 0, or no more bins
            than are to be left free.
    """
    bounds = return_bounds(reward_min, reward_max, support.gamma)
    checks.count("num_bins", support.num_bins)
    checks.number("sigma_ratio", support.sigma_ratio, "a number from 0", lambda ratio: 0 <= ratio < math.inf)
    if reward_min == reward_max == 0.0:
        raise ValueError(_no_range(reward_min, reward_max))
    free = _free_bins(support)
    if support.num_bins <= free:
        raise ValueError(f"num_bins is {support.num_bins}; more than {free:g} are wanted")
    forward, inverse = supports.transform(support.transform)
    low, high = (float(forward(np.float64(x), np)) for x in bounds)
    pad = free / 2 * (high - low) / (support.num_bins - free)
    v_min, v_max = (_outwards(float(inverse(np.float64(x), np))) for x in (low - pad, high + pad))
    return support._replace(v_min=v_min, v_max=v_max)


def prescription(support: Support, reward_min: float, reward_max: float, n_step: int) -> str:
    """The fitting support and its reasons, in lines for a reader.

    Raises:
        ValueError: as `fitting`, and for no steps.
    """
    checks.count("n_step", n_step)
    fit = fitting(support, reward_min, reward_max)
    gamma = fit.gamma
    low, high = return_bounds(reward_min, reward_max, gamma)
    extreme, bound = (reward_max, high) if high >= -low else (reward_min, low)
    rewards = extreme * (1.0 - gamma**n_step) / (1.0 - gamma)
    lines = [
        f"agent.head_options.v_min={fit.v_min:g} agent.head_options.v_max={fit.v_max:g}",
        f"No return leaves [{low:.4g}, {high:.4g}]: rewards from {reward_min:g} to {reward_max:g}, "
        f"discounted by {gamma:g}, add up to at most 1 / (1 - {gamma:g}) = {1 / (1 - gamma):.4g} times that.",
        f"A {n_step}-step target of the extreme value is that value again: {rewards:.4g} + "
        f"{gamma**n_step:.4g} x {bound:.4g} = {bound:.4g}.",
    ]
    if fit.sigma_ratio:
        free = f"{min(fit.v_max - high, low - fit.v_min):.3g} is left free on each side"
        lines.append(f"{free}, {_PAD_SIGMAS:g} sigma or more: nearer to an end, targets are pulled inwards.")
    # HL-Gauss's bins lie between the ends, the locations of others on them; a transform's differ in width.
    apart = (fit.v_max - fit.v_min) / (fit.num_bins if fit.sigma_ratio else fit.num_bins - 1)
    size = f"The {fit.num_bins} bins are {apart:.3g} apart. " if fit.transform == "identity" else ""
    lines.append(
        f"{size}Where values stay far inside the bounds, as in most games, a narrower support tells them "
        "apart better; training warns when it is too narrow."
    )
    return "\n".join(lines)


def diagnosis(
    support: Support, metrics: Mapping[str, float], reward_min: float, reward_max: float
) -> str | None:
    """A warning where more than 1 % of the target mass lies beyond one end; None where all is well.

    `metrics` are those of one row; the rewards are the extremes seen so far.
    """
    shares = {name: metrics.get(f"clipped_{name}", 0.0) for name in ("below", "above")}
    side = max(shares, key=lambda name: shares[name])
    if not shares[side] > _ALARM:
        return None
    key, end = ("v_max", support.v_max) if side == "above" else ("v_min", support.v_min)
    loss = f"{shares[side]:.1%} of the target mass is lost {side} agent.head_options.{key} = {end:g}"
    if reward_min == reward_max == 0.0:
        return f"{loss}, though no reward has been seen yet"
    if support.gamma >= 1.0 or not support.of_returns:
        return f"{loss}; rewards alone do not bound what is learnt here: widen it"
    if support.num_bins <= (free := _free_bins(support)):
        return (
            f"{loss}; no ends would hold every return, as all {support.num_bins} bins are within "
            f"{_PAD_SIGMAS:g} sigma of one: give agent.head_options.num_bins more than {free:g}"
        )
    fit = fitting(support, reward_min, reward_max)
    return (
        f"{loss}; with rewards from {reward_min:g} to {reward_max:g}, v_min={fit.v_min:g} and "
        f"v_max={fit.v_max:g} would hold every return"
    )
