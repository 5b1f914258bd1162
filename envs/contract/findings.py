"""What was looked for, and what was found."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

ENDINGS = 2  # So many episodes must have ended before much can be said of their ends.


class Guarantee(NamedTuple):
    """Something that training rests on."""

    name: str
    fix: str  # What to do where it does not hold.


class Finding(NamedTuple):
    """Whether a guarantee holds."""

    guarantee: Guarantee
    against: str | None = None  # What was found against it.
    unseen: str | None = None  # Why nothing can be said of it.

    @property
    def holds(self) -> bool:
        """Whether it was looked for and found."""
        return self.against is None and self.unseen is None


class BrokenError(Exception):
    """What is looked at cannot be played any further."""


class Findings:
    """Guarantees, and the first thing that was found against each."""

    def __init__(self, *guarantees: Guarantee) -> None:
        """Begin where all of them hold."""
        self._found = {guarantee: Finding(guarantee) for guarantee in guarantees}

    def against(self, guarantee: Guarantee, found: str) -> None:
        """Something that speaks against a guarantee; the first is kept."""
        if self._found[guarantee].against is None:
            self._found[guarantee] = Finding(guarantee, found)

    def unseen(self, guarantee: Guarantee, reason: str) -> None:
        """Nothing can be said of a guarantee, unless something was found against it."""
        if self._found[guarantee].against is None:
            self._found[guarantee] = Finding(guarantee, unseen=reason)

    def broken(self, guarantee: Guarantee, where: str, error: Exception) -> BrokenError:
        """Something that an environment raised, of whatever type; gives what ends the looking."""
        said = " ".join(str(error).split())[:200]
        self.against(guarantee, f"{where} raises {type(error).__name__}: {said}")
        return BrokenError()

    def all_but_unplayed(self) -> list[Finding]:
        """Of every guarantee what was found before it could not be played any further."""
        for guarantee in self._found:
            self.unseen(guarantee, "it could not be played to the end")
        return self.all()

    def all(self) -> list[Finding]:
        """Of every guarantee what was found."""
        return list(self._found.values())


def first_difference(one: Sequence[Any], other: Sequence[Any], names: Sequence[str]) -> str | None:
    """Where two lists of steps, each a row of arrays of those names, first differ; None where they do not."""
    for index, (first, second) in enumerate(zip(one, other, strict=False)):
        for name, x, y in zip(names, first, second, strict=True):
            if not same(x, y):
                return f"at step {index} {name} is {shown(x)} the first time and {shown(y)} the second"
    if len(one) != len(other):
        return f"it goes on for {len(one)} steps the first time and for {len(other)} the second"
    return None


def same(x: Any, y: Any) -> bool:
    """Whether two arrays are the same in every bit."""
    x, y = np.asarray(x), np.asarray(y)
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def shown(x: Any) -> str:
    """A value in a few words."""
    x = np.asarray(x)
    text = " ".join(np.array2string(x, precision=6, threshold=8, edgeitems=3).split())
    return text if x.size <= 8 else f"{x.dtype}{list(x.shape)} {text}"


def of_a_reset(finals: np.ndarray, before: np.ndarray, firsts: np.ndarray) -> bool:
    """Whether the last observations of episodes look like first ones, and those before them do not.

    Args:
        finals: the last observation of each episode, [N, ...].
        before: the one before it, [N, ...].
        firsts: first observations, [M, ...].

    They do where in every number each last observation lies among first ones, and no observation before it
    does; what is as far beyond the least and greatest as those are apart is among them, too. Fewer than
    `ENDINGS` episodes tell nothing.
    """
    if len(finals) < ENDINGS:
        return False
    low, high = firsts.min(0).astype(np.float64), firsts.max(0).astype(np.float64)
    low, high = low - (high - low), high + (high - low)

    def within(obs: np.ndarray) -> np.ndarray:
        return ((obs >= low) & (obs <= high)).reshape(len(obs), -1).all(1)

    return bool(within(finals).all() and not within(before).any())
