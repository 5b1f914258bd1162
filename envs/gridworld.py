"""Gridworlds from ASCII maps: the same object as an exact process and as a jitted environment.

States are cells, row by row; actions are up, right, down, left and, where there is one, stop. A move
into a wall (`#`) or over the edge stays where it is, and enters that cell again.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from envs import tabular
from envs.registry import UnknownEnvironmentError, unknown
from valuelearn.types import FunctionalEnv

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
Reward = float | tuple[float, ...]
Chances = tuple[tuple[float, Reward], ...]
"""Pairs of probability and reward."""


def _sum(first: Reward, second: Reward) -> Reward:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return tuple(a + b for a, b in zip(first, second, strict=True))
    assert isinstance(first, float | int) and isinstance(second, float | int)
    return first + second


@dataclasses.dataclass(frozen=True)
class Gridworld:
    """A map and its rules. Cells are characters of `rows`; `S` is the start, or else the first cell is."""

    rows: tuple[str, ...]
    pays: Mapping[str, Chances] = dataclasses.field(default_factory=dict)
    """What entering a cell of a kind pays; nothing where it is not named. Rewards are numbers, or tuples of
    as many as `step_reward`."""
    ends: str = ""
    """Kinds of cell in which the episode terminates."""
    step_reward: Reward = 0.0
    """Paid for every move."""
    wind: float = 0.0
    """Chance that a move goes on one row down, unless it has ended the episode."""
    stop: bool = False
    """Whether there is a fifth action, which terminates and pays nothing."""

    def __post_init__(self) -> None:
        """Refuse maps whose rows differ in length, or on which nothing can be done.

        Raises:
            UnknownEnvironmentError: naming the first such row, or the cell where episodes would begin.
        """
        if not "".join(self.rows):
            raise UnknownEnvironmentError("the map has no cells")
        for number, row in enumerate(self.rows):
            if len(row) != len(self.rows[0]):
                raise UnknownEnvironmentError(
                    f"row {number} of the map has {len(row)} cells, row 0 has {len(self.rows[0])}"
                )
        if self._over(self.start):
            place = f"in {self._kind(self.start)!r}, a wall or an end"
            raise UnknownEnvironmentError(f"episodes would begin {place}; an S is wanted")

    @property
    def start(self) -> int:
        """The first state."""
        return max("".join(self.rows).find("S"), 0)

    @property
    def num_states(self) -> int:
        """Cells, and one more to be in after stopping."""
        return len(self.rows) * len(self.rows[0]) + self.stop

    @property
    def num_actions(self) -> int:
        """Four moves, and to stop."""
        return len(_MOVES) + self.stop

    def table(self) -> dict[int, dict[int, list[tuple[float, int, Reward]]]]:
        """`{state: {action: [(probability, next state, reward)]}}`; walls and ends have no action."""
        return {
            state: {}
            if self._over(state)
            else {action: self._outcomes(state, action) for action in range(self.num_actions)}
            for state in range(self.num_states)
        }

    def make(self, num_envs: int, limit: int = 100) -> FunctionalEnv:
        """`num_envs` copies that run inside the compiled loop, truncated after `limit` steps."""
        table = self._tabular(limit)
        return tabular.make(lambda: table, self.num_states, self.num_actions, num_envs, *self._dimensions)

    def _tabular(self, limit: int) -> tabular.Table:
        table = self.table()
        widest = max(len(outcomes) for actions in table.values() for outcomes in actions.values())
        shape = (self.num_states, self.num_actions, widest)
        probability, reward = np.zeros(shape, np.float32), np.zeros(shape + self._dimensions, np.float32)
        following = np.zeros(shape, np.int32)
        for state, actions in table.items():
            for action, outcomes in actions.items():
                for index, (chance, target, paid) in enumerate(outcomes):
                    place = (state, action, index)
                    probability[place], following[place], reward[place] = chance, target, paid
        over = np.array([self._over(state) for state in range(self.num_states)])
        start = np.eye(self.num_states, dtype=np.float32)[self.start]
        return tabular.Table(
            start, probability, reward, following, over[following], np.asarray(limit, np.int32)
        )

    def _kind(self, state: int) -> str | None:
        row, column = divmod(state, len(self.rows[0]))
        return self.rows[row][column] if row < len(self.rows) else None

    def _over(self, state: int) -> bool:
        kind = self._kind(state)
        return kind is None or kind == "#" or kind in self.ends

    def _moved(self, state: int, move: tuple[int, int]) -> int:
        row, column = divmod(state, len(self.rows[0]))
        row, column = row + move[0], column + move[1]
        if not (0 <= row < len(self.rows) and 0 <= column < len(self.rows[0])):
            return state
        return state if self.rows[row][column] == "#" else row * len(self.rows[0]) + column

    @property
    def _dimensions(self) -> tuple[int, ...]:
        return np.shape(self.step_reward)

    def _outcomes(self, state: int, action: int) -> list[tuple[float, int, Reward]]:
        nothing: Reward = tuple(np.zeros(self._dimensions).tolist()) if self._dimensions else 0.0
        if action == len(_MOVES):
            return [(1.0, self.num_states - 1, nothing)]
        target = self._moved(state, _MOVES[action])
        below = self._moved(target, (1, 0)) if self.wind and not self._over(target) else target
        entered = {target: 1.0} if below == target else {target: 1 - self.wind, below: self.wind}
        return [
            (chance * likely, cell, _sum(self.step_reward, paid))
            for cell, chance in entered.items()
            for likely, paid in self.pays.get(str(self._kind(cell)), ((1.0, nothing),))
        ]


GRIDWORLDS = {
    # The way along the cliff is short; wind makes it dear in the worst cases.
    "cliff": Gridworld(
        ("......", "......", "S.....", ".CCCCG"),
        {"C": ((1.0, -10.0),), "G": ((1.0, 10.0),)},
        ends="CG",
        step_reward=-1.0,
        wind=0.03,
    ),
    # Coins paid whenever a cell is entered, by chance in the middle: which returns can be had exactly?
    "coin": Gridworld(
        ("0a-", "b?m", "-c0"),
        {
            "a": ((1.0, 1.0),),
            "b": ((1.0, 2.0),),
            "c": ((1.0, 3.0),),
            "-": ((1.0, -1.0),),
            "m": ((1.0, -2.0),),
            "?": ((0.5, 1.0), (0.5, -1.0)),
        },
        stop=True,
    ),
    # Levels of food and water, which fall with every step; those who go on eating are filled.
    "homeostasis": Gridworld(
        ("FSW",),
        {
            "F": ((0.75, (1.5, 0.0)), (0.25, (2.5, 0.0))),
            "W": ((0.75, (0.0, 1.5)), (0.25, (0.0, 2.5))),
        },
        step_reward=(-0.5, -0.5),
    ),
}
"""Those that ship."""


def named(name: str) -> Gridworld:
    """The gridworld of that name.

    Raises:
        UnknownEnvironmentError: naming the nearest one that is.
    """
    if name not in GRIDWORLDS:
        raise unknown("gridworld", name, list(GRIDWORLDS))
    return GRIDWORLDS[name]
