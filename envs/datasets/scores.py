"""D4RL's normalised scores: 0 is a random policy's return, 100 an expert's (Fu et al., 2020).

The references belong to the environments of D4RL's time (MuJoCo 2.0 and older); returns in later
versions are set on the same scale, which is then a convention.
"""

from typing import NamedTuple

import numpy as np

from envs.datasets.dataset import DatasetError


class Reference(NamedTuple):
    """Mean returns of two policies."""

    random: float
    expert: float


D4RL = {
    "halfcheetah": Reference(-280.178953, 12135.0),
    "hopper": Reference(-20.272305, 3234.3),
    "walker2d": Reference(1.629008, 4592.3),
    "ant": Reference(-325.6, 3879.7),
    "maze2d-umaze": Reference(23.85, 161.86),
    "maze2d-medium": Reference(13.13, 277.39),
    "maze2d-large": Reference(6.7, 273.99),
    "maze2d-umaze-dense": Reference(68.537689, 193.66285642381482),
    "maze2d-medium-dense": Reference(44.264742, 297.4552547777125),
    "maze2d-large-dense": Reference(30.569041, 303.4857382709002),
    "antmaze": Reference(0.0, 1.0),
    "kitchen": Reference(0.0, 4.0),
    "pen": Reference(96.262799, 3076.8331017826877),
    "hammer": Reference(-274.856578, 12794.134825156867),
    "relocate": Reference(-6.425911, 4233.877797728884),
    "door": Reference(-56.512833, 2880.5693087298737),
    "bullet-halfcheetah": Reference(-1275.766996, 2381.6725),
    "bullet-hopper": Reference(20.058972, 1441.8059623430963),
    "bullet-ant": Reference(373.705955, 2650.495),
    "bullet-walker2d": Reference(16.523877, 1623.6476303317536),
}


def reference(env_id: str) -> Reference | None:
    """D4RL's references for an environment or one of its datasets; None where it has none.

    Args:
        env_id: such as mujoco/HalfCheetah-v5, halfcheetah-medium-v2, halfcheetah_medium-v2.hdf5.
    """
    kind, _, name = env_id.partition("/")
    if kind in ("mujoco", "gym") and "/" in name:
        return None  # Of a suite of its own, whose hopper is another.
    words = f"{env_id.rpartition('/')[2].lower().replace('_', '-')}-"
    known = [name for name in D4RL if words.startswith(f"{name}-")]
    return D4RL[max(known, key=len)] if known else None


def normalized_score(env_id: str, returns: np.ndarray | float) -> np.ndarray:
    """Scores of returns [...], on D4RL's scale.

    Raises:
        DatasetError: where D4RL has no references for the environment.
    """
    return score(_known(env_id), returns)


def normalized_deviation(env_id: str, deviation: np.ndarray | float) -> np.ndarray:
    """Standard deviations [...] of scores, of those of returns: only divided, never shifted.

    Raises:
        DatasetError: where D4RL has no references for the environment.
    """
    return score_deviation(_known(env_id), deviation)


def score(reference: Reference, returns: np.ndarray | float) -> np.ndarray:
    """Scores of returns [...], on the scale of two references."""
    return 100 * (np.asarray(returns, float) - reference.random) / (reference.expert - reference.random)


def score_deviation(reference: Reference, deviation: np.ndarray | float) -> np.ndarray:
    """Standard deviations [...] of scores on the scale of two references."""
    return 100 * np.asarray(deviation, float) / (reference.expert - reference.random)


def _known(env_id: str) -> Reference:
    if (found := reference(env_id)) is None:
        raise DatasetError(f"{env_id}: D4RL has no references for it; it has for {', '.join(D4RL)}")
    return found
