"""Optima over all policies by unrolling every pair of state and paid reward that can be reached.

Exact for any utility and any gamma, because the discounted reward paid so far, with the time, is all
that a policy need remember. It serves where few pairs are reachable: short horizons, or rewards on a
lattice.
"""

from typing import Any, NamedTuple

import numpy as np

from valuelearn.dp.laws import Front, Law, concatenated, law_of, merge, rounding
from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.objectives import Utility

_CELLS = 2_000_000  # Of values per chunk of stocks: 16 MB a copy.


class TooLargeError(MDPError):
    """More pairs can be reached than were allowed."""


class Level(NamedTuple):
    """The pairs after some decisions; of each outcome [n, A, K], the pair of the next level it leads to."""

    front: Front
    over: np.ndarray  # bool[n]: no decision follows.
    child: np.ndarray  # i64[n, A, K]


class Unrolled:
    """All that can happen from a state."""

    def __init__(self, mdp: MDP, start: int | None = None, max_pairs: int = 1_000_000) -> None:
        """Unroll the process.

        Raises:
            TooLargeError: where it has more than `max_pairs` pairs, or no end.
        """
        self.mdp = mdp
        self.levels: list[Level] = []
        front = Front(np.array([mdp.state(start)]), np.zeros((1, mdp.dimensions)))
        if mdp.horizon is None and mdp.endless[front.state].any():
            raise TooLargeError("episodes can last longer than any number of steps")
        pairs = 0
        while len(front.state):
            time = len(self.levels)
            over = mdp.terminal[front.state] | (time == mdp.horizon)
            child = np.zeros((len(over), *mdp.probability.shape[1:]), np.int64)
            live = ~over
            real = mdp.probability[front.state[live]] > 0
            paid = front.paid[live][:, None, None] + mdp.gamma**time * mdp.reward[front.state[live]]
            ahead, index = merge(mdp.next_state[front.state[live]][real], paid[real])
            links = np.zeros(real.shape, np.int64)
            links[real] = index
            child[live] = links
            self.levels.append(Level(front, over, child))
            pairs += len(over)
            if pairs + len(ahead.state) > max_pairs:
                raise TooLargeError(f"more than {max_pairs} pairs of state and paid reward can be reached")
            front = ahead

    @property
    def returns(self) -> np.ndarray:
        """The returns [n, m] that some policy obtains."""
        paid = np.concatenate([level.front.paid[level.over] for level in self.levels])
        return merge(np.zeros(len(paid), np.int64), paid)[0].paid

    spacing = 0.0
    """Between the returns among which stocks are sought: nothing lies there that is not among them."""

    def error(self, utility: Utility) -> float:
        """How far values may be off: not at all."""
        return 0.0

    def values(self, utility: Utility, stocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What can be had [C] from stocks [C, m], and which first actions bool[C, A] attain it."""
        chunk = max(_CELLS // max(level.child.size for level in self.levels), 1)
        found = [self._greedy(utility, stocks[at : at + chunk]) for at in range(0, len(stocks), chunk)]
        return np.concatenate([value for value, *_ in found]), np.concatenate(
            [first for _, first, _ in found]
        )

    def _greedy(
        self, utility: Utility, stocks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Values [C], first actions [C, A] and the action [n, C] at every pair of every level."""
        value = mean = first = np.zeros(0)
        actions: list[np.ndarray] = []
        for level in reversed(self.levels):
            ends = evaluate(utility, stocks + level.front.paid[:, None])  # [n, C]
            paid = np.broadcast_to(level.front.paid.sum(-1)[:, None], ends.shape)
            if level.over.all():
                value, mean = ends, paid
                actions.append(np.zeros(ends.shape, np.int64))
                continue
            chance = self.mdp.probability[level.front.state][..., None]  # [n, A, K, 1]
            illegal = ~self.mdp.legal[level.front.state][..., None]
            q = np.where(illegal, -np.inf, (chance * value[level.child]).sum(2))  # [n, A, C]
            q_mean = np.where(illegal, -np.inf, (chance * mean[level.child]).sum(2))
            best, first = choose(q, q_mean)
            over = level.over[:, None]
            value = np.where(over, ends, np.take_along_axis(q, best[:, None], 1)[:, 0])
            mean = np.where(over, paid, np.take_along_axis(q_mean, best[:, None], 1)[:, 0])
            actions.append(best)
        legal = np.zeros((len(stocks), self.mdp.legal.shape[1]), bool)
        return value[0], legal if self.levels[0].over[0] else first[0].T, actions[::-1]

    def best(self, utility: Utility, stock: np.ndarray) -> tuple[Law, int]:
        """The law of the return under what is best from a stock [m], and the first action.

        Of actions that are equally good the one of the largest mean return is taken, then the first.
        """
        *_, actions = self._greedy(utility, stock[None])
        probability: np.ndarray = np.ones(1)
        ended: list[tuple[np.ndarray, np.ndarray]] = []
        for level, chosen in zip(self.levels, actions, strict=True):
            live = ~level.over
            ended.append((level.front.paid[level.over], probability[level.over]))
            action = chosen[live, 0]
            weight = probability[live][:, None] * self.mdp.probability[level.front.state[live], action]
            index = level.child[live][np.arange(live.sum()), action]
            probability = np.bincount(index.ravel(), weight.ravel())
            following = len(self.levels[len(ended)].over) if len(ended) < len(self.levels) else 0
            probability = np.pad(probability, (0, max(following - len(probability), 0)))
        return law_of(*concatenated(ended)), int(actions[0][0, 0])


def evaluate(utility: Utility, x: Any) -> Any:
    """f [...] of vectors [..., m] of which a scalar utility takes the only coordinate."""
    return utility(x[..., 0] if utility.dimensions is None else x)


def best_of(q: Any) -> Any:
    """Which of actions [n, A, ...] have the largest value but for rounding."""
    top = q.max(1, keepdims=True)
    return q >= top - rounding(top)


def choose(q: Any, mean: Any) -> tuple[Any, Any]:
    """Of values [n, A, ...] the best actions i64[n, ...], and which [n, A, ...] are as good.

    Of those it is one of the largest `mean` [n, A, ...], and of these the first.
    """
    good = best_of(q)
    return best_of(q.__array_namespace__().where(good, mean, -np.inf)).argmax(1), good
