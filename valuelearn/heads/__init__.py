"""Value heads: how a network's output [..., N] stands for a return, and how it is fitted.

A head is a small frozen dataclass of pure functions. `target` takes one transition
(lift it with `jax.vmap`); everything else takes any leading axes.

    head = heads.make("hl_gauss", v_min=-10, v_max=10, num_bins=51)
    target = head.target(next_out, backups.summed(reward, discount))
    loss = head.loss(out, target)

Heads for the mean (`mse`, `huber`, `mse_softmax`, `two_hot`, `hl_gauss`) send their value through the
backup and `encode` it; heads for the whole law (`c51`, `qr`, `iqn`) send every atom.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn import checks, supports
from valuelearn.heads.interface import Head, MeanHead, SupportFit, backed_up, support_fit
from valuelearn.heads.quantile import ImplicitQuantile, Quantile
from valuelearn.heads.scalar import Scalar
from valuelearn.heads.softmax import Categorical, HLGauss, SoftmaxScalar, TwoHot, calibrated

__all__ = [
    "LEAST_KAPPA",
    "NAMES",
    "WITH_SUPPORT",
    "Categorical",
    "HLGauss",
    "Head",
    "ImplicitQuantile",
    "MeanHead",
    "Name",
    "Quantile",
    "Scalar",
    "SoftmaxScalar",
    "SupportFit",
    "TwoHot",
    "backed_up",
    "make",
    "support_fit",
]

Name = Literal["mse", "huber", "mse_softmax", "two_hot", "hl_gauss", "c51", "qr", "iqn"]
NAMES: tuple[str, ...] = get_args(Name)
LEAST_KAPPA = 1e-3  # But for 0: of less float32 leaves no digits.
WITH_SUPPORT = ("mse_softmax", "two_hot", "hl_gauss", "c51")


def make(
    name: str,
    *,
    v_min: float = -10.0,
    v_max: float = 10.0,
    num_bins: int = 51,
    sigma_ratio: float = 0.75,
    convention: supports.Convention = "edges",
    transform: supports.TransformName = "identity",
    label_smoothing: float = 0.0,
    delta: float = 1.0,
    num_quantiles: int = 200,
    num_fractions: int = 64,
    kappa: float = 1.0,
) -> Head:
    """The head of that name (one of `NAMES`), built from the options that concern it.

    The rest are ignored, so that one set of options serves every head of an ablation.

    Args:
        name: one of `NAMES`.
        v_min: lower end of the support, return units (mse_softmax, two_hot, hl_gauss, c51).
        v_max: upper end.
        num_bins: bins or atoms of the support.
        sigma_ratio: smoothing in bin widths (hl_gauss); 0.75 in Farebrother et al. (2024).
        convention: what v_min and v_max are, outer edges or outer centres (hl_gauss).
        transform: coordinate in which the bins are uniform.
        label_smoothing: share of target mass spread evenly (two_hot, hl_gauss).
        delta: where the error turns from squared to absolute, return units (huber).
        num_quantiles: quantiles (qr).
        num_fractions: fractions drawn for each update (iqn).
        kappa: half-width of the quadratic part, return units (qr, iqn); 0 for the plain quantile
            loss, else at least LEAST_KAPPA.

    Raises:
        ValueError: for an unknown name, an option out of its range, or a support that is empty.
    """
    if name in ("qr", "iqn"):
        wanted = f"a finite number from {LEAST_KAPPA:g}, or 0,"
        checks.number("kappa", kappa, wanted, lambda x: x == 0 or LEAST_KAPPA <= x < np.inf)
    if name in ("two_hot", "hl_gauss"):
        checks.number("label_smoothing", label_smoothing, "a number from 0 to 1", lambda x: 0 <= x <= 1)
    precision = jax.dtypes.canonicalize_dtype(np.float64)
    match name:
        case "mse":
            return Scalar()
        case "huber":
            checks.number("delta", delta, "a number above 0", lambda x: x > 0)
            return Scalar(delta)
        case "qr":
            checks.count("num_quantiles", num_quantiles)
            return Quantile(num_quantiles, kappa)
        case "iqn":
            checks.count("num_fractions", num_fractions)
            return ImplicitQuantile(num_fractions, kappa)
        case "hl_gauss":
            edges = supports.apart(supports.edges(v_min, v_max, num_bins, convention, transform), precision)
            checks.number("sigma_ratio", sigma_ratio, "a finite number above 0", lambda x: 0 < x < np.inf)
            # The ratio is the option, not sigma, so that other bins keep the smoothing.
            sigma = sigma_ratio * (edges[1] - edges[0])
            head = HLGauss(jnp.asarray(edges), jnp.asarray(sigma), transform, label_smoothing, convention)
            return head if transform == "identity" else calibrated(head)
    locations = jnp.asarray(supports.apart(supports.locations(v_min, v_max, num_bins, transform), precision))
    match name:
        case "mse_softmax":
            return SoftmaxScalar(locations)
        case "two_hot":
            return TwoHot(locations, label_smoothing)
        case "c51":
            return Categorical(locations)
    raise ValueError(f"head {name!r} is not one of {', '.join(NAMES)}")
