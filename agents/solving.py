"""Exact optima of a process in a file: `valuelearn solve`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from agents.objective_config import ObjectiveConfig
from envs import gridworld, tables
from envs.registry import UnknownEnvironmentError
from valuelearn import dp, logs, objectives, plots
from valuelearn.config import Misfit, Section
from valuelearn.errors import UserError

_ARROWS = "\u2191\u2192\u2193\u2190\u25a0"  # Up, right, down, left, and a square for stopping.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class SolveConfig(Section):
    """A process, and what is wanted of it."""

    table: list[list[list[Any]]] | None = None
    """For each state, for each action, outcomes [probability, next state, reward]; no action: terminal."""
    gymnasium: str | None = None
    """A toy-text environment of gymnasium, in place of a table."""
    gridworld: str | None = None
    """A gridworld of ours, such as cliff, in place of a table."""
    options: dict[str, Any] | None = None
    """Arguments of that environment, such as is_slippery."""
    gamma: Annotated[float, Field(gt=0, le=1)]
    """Discount per step."""
    horizon: Annotated[int, Field(ge=0)] | None = None
    """Decisions until the end; none for as many as it takes."""
    start: Annotated[int, Field(ge=0)] | None = None
    """The state to begin in; none for the gridworld's own, or 0."""
    stock: float | list[float] | None = None
    """The stock to begin with; none for 0, or for the best one where the objective seeks it."""
    points: Annotated[int, Field(ge=2)] | None = None
    """Stocks of a grid to solve on; none where every reachable pair can be unrolled."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """What is maximised."""

    @model_validator(mode="after")
    def _check(self) -> "SolveConfig":
        given = [name for name in ("table", "gymnasium", "gridworld") if getattr(self, name) is not None]
        if len(given) != 1:
            reason = "one of table, gymnasium and gridworld is wanted"
            raise Misfit("table", self.table, reason, *given)
        return self

    def process(self) -> dp.MDP:
        """The process.

        Raises:
            Misfit: where it is none.
        """
        key = next(name for name in ("table", "gymnasium", "gridworld") if getattr(self, name) is not None)
        found = "given" if key == "table" else getattr(self, key)
        try:
            table, start = self._table()
            return dp.MDP.from_table(
                table, self.gamma, self.horizon, start if self.start is None else self.start
            )
        except (dp.MDPError, UnknownEnvironmentError) as error:
            raise Misfit(key, found, str(error), "gamma", "horizon", "start") from None

    def _table(self) -> tuple[Any, int]:
        """The table, and the state to begin in where none is given."""
        if self.gridworld is not None:
            grid = gridworld.named(self.gridworld)
            return grid.table(), grid.start
        if self.gymnasium is not None:
            return tables.toy_text(self.gymnasium, self.options or {}), 0
        return self.table, 0


def solve(config: SolveConfig, plot: Path | None, echo: Callable[[str], None]) -> None:
    """Print the optimum and the law of its return, and draw that beside the best mean's.

    Raises:
        UserError: where the process has no such optimum, or a picture was asked for of vectors.
    """
    if plot is not None:
        logs.check_new_file(plot, (".png", ".pdf", ".svg"))
    mdp = config.process()
    if plot is not None and mdp.dimensions > 1:
        raise UserError(f"--plot {plot}: rewards have {mdp.dimensions} coordinates; one can be drawn")
    stock = None if config.stock is None else np.asarray(config.stock)
    found = dp.solve(mdp, config.objective.make(), stock, points=config.points)
    echo(f"value          {found.value:.9g}  ({_gap(found.gap)})")
    echo(f"stock          {np.array2string(np.asarray(found.stock), precision=9)}")
    echo(f"first actions  {', '.join(map(str, found.first_actions)) or 'none'}")
    law = found.law
    mean = np.array2string(np.asarray(law.mean), precision=6)
    echo(f"return         {len(law.probabilities)} values, mean {mean}")
    if law.returns.ndim == 1:
        reached = np.cumsum(law.probabilities)
        for level in _QUANTILES:
            at = law.returns[min(int(np.searchsorted(reached, level - 1e-12)), len(reached) - 1)]
            echo(f"{100 * level:>9.0f} %    {at:.6g}")
    if plot is not None:
        laws = {config.objective.name: law}
        if config.objective.name != "mean":
            laws["mean"] = dp.solve(mdp, objectives.Mean(), points=config.points).law
        drawn = {str(name): (one.returns, one.probabilities) for name, one in laws.items()}
        mapped = config.gridworld is not None and np.ndim(found.stock) == 0
        plots.laws(drawn, plot, _policies(config, mdp, found) if mapped else None)
        echo(f"wrote {plot}")


def _policies(config: SolveConfig, mdp: dp.MDP, found: dp.Solution) -> dict[str, np.ndarray]:
    """For stocks below, at and above the one to begin with, the best actions of each cell as arrows."""
    assert config.gridworld is not None
    grid = gridworld.named(config.gridworld)
    law = found.law
    deviation = float(np.sqrt(law.probabilities @ (law.returns - law.mean) ** 2)) or 1.0
    stocks = float(np.asarray(found.stock)) + 2 * deviation * np.array([-1.0, 0.0, 1.0])
    best = dp.best_actions(mdp, config.objective.make(), stocks, config.points)
    shape = (len(grid.rows), len(grid.rows[0]))

    def cell(state: int, stock: int) -> str:
        if not mdp.legal[state].any():
            return "".join(grid.rows)[state]
        good = np.flatnonzero(best[state, stock])
        # Where the objective does not care, no arrow is better than none.
        return "any" if len(good) == mdp.legal[state].sum() else "".join(_ARROWS[action] for action in good)

    return {
        f"best at stock {stock:.3g}": np.reshape(
            [cell(state, index) for state in range(shape[0] * shape[1])], shape
        )
        for index, stock in enumerate(stocks)
    }


def _gap(gap: float) -> str:
    if gap == 0:
        return "exact"
    if math.isnan(gap):
        return "how much better the optimum is, if at all, is not known"
    return f"the optimum is at most {gap:.3g} better"
