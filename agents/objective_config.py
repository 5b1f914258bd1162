"""The objective of a config: what is maximised of the return's law."""

import dataclasses
from typing import Any

from pydantic import model_validator

from valuelearn import heads, objectives
from valuelearn.config import Misfit, Section


class _Named(Section):
    """An objective by name, with the fields of utilities; those that it has no use for are refused."""

    name: str
    """The objective."""
    above: float | None = None
    """Slope of two_slope above zero."""
    below: float | None = None
    """Slope of two_slope below zero."""
    strict: bool | None = None
    """Whether threshold asks for more than the stock lacks, not for as much."""
    rate: float | None = None
    """Risk aversion of exponential, per unit of return."""
    perspective: bool | None = None
    """Whether exponential keeps the time beside the stock, which gamma below 1 needs."""
    order: float | None = None
    """Order of norm; 2 is Euclid's."""
    penalty: float | None = None
    """Price of each unit that constraint's second coordinate lacks."""

    def make(self) -> Any:
        """The objective of that name from the fields that are its own.

        Raises:
            Misfit: for a field that is not its own, or is missing, or is out of range.
        """
        of = objectives.BY_NAME[self.name]
        wanted = {field.name: field for field in dataclasses.fields(of)}
        given = {name: getattr(self, name) for name in type(self).model_fields if name != "name"}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in given.items():
            if name not in wanted:
                raise Misfit(name, value, f"{self.name} has no use for it", "name")
        for name, field in wanted.items():
            if name not in given and field.default is dataclasses.MISSING:
                raise Misfit("name", self.name, f"it needs {name}", name)
        if isinstance(utility := given.get("utility"), UtilityConfig):
            given["utility"] = utility.make()
        try:
            return of(**given)
        except objectives.ObjectiveError as error:
            raise Misfit("name", self.name, str(error), *given) from None

    @model_validator(mode="after")
    def _check(self) -> "_Named":
        self.make()
        return self


class UtilityConfig(_Named):
    """A utility of stock and return."""

    name: objectives.UtilityName
    """The utility."""


class ObjectiveConfig(_Named):
    """What is maximised of the return's law."""

    name: objectives.Name = "mean"
    """The objective."""
    tau: float | None = None
    """Share of outcomes that cvar, optimistic_cvar and mean_cvar average."""
    weight: float | None = None
    """Weight of the mean in mean_cvar."""
    levels: list[tuple[float, float]] | None = None
    """Pairs of share and weight that spectral sums."""
    utility: UtilityConfig | None = None
    """What oce is the certainty equivalent of."""

    def check_head(self, key: str, head: heads.Name) -> None:
        """Refuse an objective that the head cannot serve; `key` is that of the objective beside `head`.

        Raises:
            Misfit: where it needs the whole law and the head knows only the mean, or it is of vectors.
        """
        if getattr(self.make(), "dimensions", None) is not None:
            raise Misfit(f"{key}.name", self.name, "it is of vectors, and the return here is one number")
        if not self.make().linear and not heads.make(head).distributional:
            reason = f"{self.name} needs the return's whole law, but the head {head} models only its mean; "
            raise Misfit(f"{key}.name", self.name, f"{reason}use the head c51, qr or iqn", "head")
