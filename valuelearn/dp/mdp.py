"""Finite Markov decision processes as arrays, checked when they are made."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from valuelearn import checks
from valuelearn.errors import UserError

_SUM_TOLERANCE = 1e-9


class MDPError(UserError):
    """A process that is none, or one on which the question asked has no answer."""


@dataclasses.dataclass(frozen=True)
class MDP:
    """S states, A actions, at most K outcomes of each, rewards of m coordinates.

    A state without a legal action is terminal. With a horizon exactly that many decisions are made,
    unless a terminal state comes first, and policies may look at the time.
    """

    probability: np.ndarray  # f64[S, A, K]; 0 where an outcome or an action does not exist.
    next_state: np.ndarray  # i64[S, A, K]
    reward: np.ndarray  # f64[S, A, K, m]
    gamma: float
    horizon: int | None = None
    start: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no process, naming the state and the action.

        Raises:
            MDPError: with the first thing found wrong.
        """
        probability = checks.array("probability", self.probability, "S", "A", "K", error=MDPError)
        shape = probability.shape
        next_state = checks.array("next_state", self.next_state, *shape, kind=np.integer, error=MDPError)
        reward = checks.array("reward", self.reward, *shape, "m", error=MDPError)
        for name, given in (("probability", probability), ("next_state", next_state), ("reward", reward)):
            object.__setattr__(self, name, given)  # Lists become arrays.
        checks.number("gamma", self.gamma, error=MDPError)
        if self.horizon is not None:
            checks.count("horizon", self.horizon, None, error=MDPError)
        states, actions, _ = shape
        self.state(self.start)
        if not 0 < self.gamma <= 1:
            raise MDPError(f"gamma {self.gamma:g} was given, more than 0 and at most 1 is wanted")
        if self.horizon is not None and self.horizon < 0:
            raise MDPError(f"horizon {self.horizon} was given, at least 0 is wanted")
        for state in range(states):
            for action in range(actions):
                self._check_outcomes(state, action)
        if self.horizon is None and self.gamma == 1 and (trap := self._trap()).any():
            where = ", ".join(map(str, np.flatnonzero(trap)[:5]))
            raise MDPError(
                f"gamma is 1 and there is no horizon, but a policy can stay in states {where} for ever; give "
                "a horizon, or a gamma below 1"
            )

    def _check_outcomes(self, state: int, action: int) -> None:
        where = f"state {state}, action {action}"
        probability, reward = self.probability[state, action], self.reward[state, action]
        if not np.isfinite(probability).all() or (probability < 0).any():
            raise MDPError(f"{where}: probabilities {probability} were given, none below 0 is wanted")
        total = probability.sum()
        if probability.any() and abs(total - 1) > _SUM_TOLERANCE:
            raise MDPError(f"{where}: probabilities sum to {total:.6g}, 1 is wanted")
        if not np.isfinite(reward).all():
            raise MDPError(
                f"{where}: a reward of {reward[~np.isfinite(reward)][0]} was given, a finite one is wanted"
            )
        _check_known(self.next_state[state, action], len(self.probability), where)

    def _trap(self) -> np.ndarray:
        """States bool[S] from which some policy surely never reaches a terminal one."""
        return self._lasting(lambda staying: np.where(self.probability > 0, staying, True).all(-1))

    @functools.cached_property
    def endless(self) -> np.ndarray:
        """States bool[S] from which an episode may last longer than any number of steps."""
        return self._lasting(lambda staying: (staying & (self.probability > 0)).any(-1))

    def _lasting(self, stays: Callable[[np.ndarray], Any]) -> Any:
        """The most states bool[S] each with an action that `stays`, [S, A] of outcomes [S, A, K], in them."""
        kept = ~self.terminal
        while True:
            still = kept & (stays(kept[self.next_state]) & self.legal).any(-1)
            if still.sum() == kept.sum():
                return kept
            kept = still

    @property
    def legal(self) -> np.ndarray:
        """Which actions bool[S, A] exist."""
        return np.asarray(self.probability.any(-1))

    @property
    def terminal(self) -> np.ndarray:
        """Which states bool[S] are."""
        return np.asarray(~self.legal.any(-1))

    def state(self, given: int | None) -> int:
        """The state to begin in; none for `start`.

        Raises:
            MDPError: for one that does not exist.
        """
        if given is not None:
            checks.count("start", given, None, error=MDPError)
        if given is not None and not 0 <= given < len(self.probability):
            raise MDPError(f"start {given} was given, a state is wanted: 0 to {len(self.probability) - 1}")
        return self.start if given is None else given

    def reachable(self, start: int) -> "MDP":
        """The process of those states alone that can be reached from one, which it starts from."""
        seen = np.zeros(len(self.probability), bool)
        seen[start] = True
        while True:
            ahead = seen.copy()
            ahead[self.next_state[seen][self.probability[seen] > 0]] = True
            if ahead.sum() == seen.sum():
                break
            seen = ahead
        number = np.cumsum(seen) - 1
        next_state = np.where(self.probability > 0, number[self.next_state], 0)
        return dataclasses.replace(
            self,
            probability=self.probability[seen],
            next_state=next_state[seen],
            reward=self.reward[seen],
            start=int(number[start]),
        )

    @property
    def dimensions(self) -> int:
        """Coordinates m of a reward."""
        return self.reward.shape[-1]

    @classmethod
    def from_table(
        cls,
        table: Mapping[int, Any] | Sequence[Any],
        gamma: float,
        horizon: int | None = None,
        start: int = 0,
    ) -> "MDP":
        """The process of `table[state][action]`, lists of (probability, next state, reward).

        Where outcomes have a fourth entry it says whether the episode terminates there, as in
        `env.unwrapped.P` of gymnasium's toy-text environments. Rewards are numbers, or vectors of one
        length. States are numbered from 0; one without actions is terminal.

        Raises:
            MDPError: for a table that is no process.
        """
        checks.number("gamma", gamma, error=MDPError)
        rows = [
            _actions(table, state)
            for state in range(len(_several(table, "the table", "of states", keyed=True)))
        ]
        if not rows:
            raise MDPError("the table is empty, a state is wanted")
        outcomes = []
        for state, row in enumerate(rows):
            for action, found in row:
                where = f"state {state}, action {action}"
                checks.count(f"state {state}: an action", action, 0, error=MDPError)
                found = [
                    _several(one, where, "for an outcome") for one in _several(found, where, "of outcomes")
                ]
                outcomes.append((state, action, found))
        ends = any(len(outcome) == 4 and outcome[3] for *_, found in outcomes for outcome in found)
        actions = 1 + max((action for _, action, _ in outcomes), default=0)
        widest = max([1, *(len(found) for *_, found in outcomes)])
        first = next((paid for *_, found in outcomes for outcome in found for paid in outcome[2:3]), 0.0)
        shape = (len(rows) + ends, actions, widest)
        probability, next_state, terminated = (
            np.zeros(shape),
            np.zeros(shape, np.int64),
            np.zeros(shape, bool),
        )
        reward = np.zeros((*shape, np.size(first)))
        for state, action, found in outcomes:
            for index, outcome in enumerate(found):
                place = (state, action, index)
                try:
                    probability[place], next_state[place], reward[place], *end = outcome
                    if len(end) > 1:
                        raise ValueError("of more nothing is known")
                    terminated[place] = bool(end and end[0])
                    if next_state[place] != outcome[1]:
                        raise ValueError("a state is a whole number")
                    if np.size(outcome[2]) != np.size(first):
                        raise ValueError("no coordinate is paid twice")
                except (TypeError, ValueError) as error:
                    raise MDPError(
                        f"state {state}, action {action}: {outcome!r} was given, "
                        f"(probability, next state, reward of {np.size(first)} numbers) is wanted, "
                        "or with whether the episode terminates there"
                    ) from error
            _check_known(next_state[state, action], len(rows), f"state {state}, action {action}")
        # Episodes that end there get a state of their own: the table may lead on from theirs.
        next_state[terminated] = len(rows)
        return cls(probability, next_state, reward, float(gamma), horizon, start)

    @classmethod
    def from_arrays(
        cls,
        transitions: np.ndarray,
        rewards: np.ndarray,
        gamma: float,
        horizon: int | None = None,
        start: int = 0,
    ) -> "MDP":
        """The process of probabilities [S, A, S] and rewards [S, A] or [S, A, S].

        An action whose probabilities are all 0 does not exist.

        Raises:
            MDPError: for arrays of other shapes, or that are no process.
        """
        transitions = checks.array("transitions", transitions, ..., error=MDPError).astype(float)
        rewards = checks.array("rewards", rewards, ..., error=MDPError).astype(float)
        checks.number("gamma", gamma, error=MDPError)
        shape = transitions.shape
        if len(shape) != 3 or shape[0] != shape[2]:
            raise MDPError(f"transitions of shape {shape} were given, [S, A, S] is wanted")
        if rewards.shape not in (shape, shape[:2]):
            raise MDPError(f"rewards of shape {rewards.shape} were given, {shape[:2]} or {shape} is wanted")
        if rewards.ndim == 2:
            rewards = np.broadcast_to(rewards[..., None], shape)
        next_state = np.broadcast_to(np.arange(shape[2]), shape)
        return cls(transitions, next_state, rewards[..., None], float(gamma), horizon, start)


def _check_known(next_state: np.ndarray, states: int, where: str) -> None:
    unknown = next_state[(next_state < 0) | (next_state >= states)]
    if unknown.size:
        raise MDPError(
            f"{where}: it leads to state {unknown[0]}, which is unknown; states are 0 to {states - 1}"
        )


def _several(given: Any, where: str, what: str, keyed: bool = False) -> Any:
    """What was given, where it is a list, or if `keyed` a mapping, or the like."""
    several = hasattr(given, "__getitem__") and getattr(given, "shape", True) != ()
    if not several or isinstance(given, str) or (isinstance(given, Mapping) and not keyed):
        raise MDPError(f"{where}: {given!r} was given, a list {what} is wanted")
    return given


def _actions(table: Mapping[int, Any] | Sequence[Any], state: int) -> Iterable[tuple[int, Any]]:
    try:
        row = table[state]
    except KeyError:
        raise MDPError(
            f"the table has {len(table)} states but none called {state}; number them from 0"
        ) from None
    row = _several(row, f"state {state}", "of actions", keyed=True)
    return row.items() if isinstance(row, Mapping) else enumerate(row)


def exist(legal: np.ndarray, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Which actions i64[...] in states i64[...] are among the legal ones bool[S, A]."""
    known = (actions >= 0) & (actions < legal.shape[1])
    return known & legal[states, np.where(known, actions, 0)]


def settled(mdp: MDP) -> float:
    """The share of a tolerance that the last sweep may change, so that no more than the tolerance is to come.

    Where gamma is 1 nothing bounds that; a thousandth is taken.
    """
    return 1 - mdp.gamma if mdp.gamma < 1 else 1e-3


def bound(mdp: MDP) -> float:
    """The largest absolute coordinate that a return can have; infinite where nothing bounds it."""
    largest = float(np.abs(mdp.reward[mdp.probability > 0]).max(initial=0.0))
    if mdp.horizon is not None:
        return largest * sum(mdp.gamma**time for time in range(mdp.horizon))
    return largest / (1 - mdp.gamma) if mdp.gamma < 1 else math.inf
