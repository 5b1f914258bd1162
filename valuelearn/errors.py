"""The one base of every error that is the user's to mend, and the hints that such errors give."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """A mistake told in one sentence: where it is, what was found, what was wanted."""

    def __init__(self, sentence: str) -> None:
        """Keep the sentence on one line, whatever it quotes."""
        super().__init__(" ".join(sentence.split()))


class Interrupted(Exception):
    """A run that was asked to stop and did; the sentence says how to go on."""


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The question that offers the nearest of `names`; None where none is near."""
    near = difflib.get_close_matches(name, list(names), 1, cutoff)
    return f"did you mean {near[0]!r}?" if near else None


def no_such_path(path: Path) -> str:
    """What to say of a path that leads nowhere: which existing one it resembles, part by part."""
    good = Path()
    for part in path.parts:
        if not (good / part).exists():
            names = [other.name for other in good.iterdir()] if good.is_dir() else []
            near = difflib.get_close_matches(part, names, 1)
            if not near:
                return "there is no such file or folder"
            part = near[0]
        good /= part
    return f"there is no such file or folder; did you mean {good}?"
