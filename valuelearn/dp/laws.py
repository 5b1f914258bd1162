"""Laws of returns, and the exact law of a policy's return."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from valuelearn import checks
from valuelearn.dp.mdp import MDP, MDPError, bound, exist
from valuelearn.objectives import Objective

SAME = 1e-9
"""Returns, and probabilities, nearer than this are one."""


def rounding(value: Any) -> Any:
    """How near another number has to be to values [...], of NumPy or JAX, to be the same but for rounding."""
    return SAME * (1 + abs(value))


class Law(NamedTuple):
    """A return's law: `returns` ascend where they are scalars. `error` bounds what each return lacks."""

    returns: np.ndarray  # f64[N], f64[N, m] for vectors.
    probabilities: np.ndarray  # f64[N]
    error: float = 0.0

    @property
    def mean(self) -> np.ndarray:
        """The expected return, [m] for vectors."""
        return self.probabilities @ self.returns

    def score(self, objective: Objective, *stock: float | np.ndarray) -> float:
        """The objective of this law, at a stock if the objective takes one.

        Of a stock that is a vector every coordinate obtains the return, where that is a scalar.
        """
        returns = self.returns
        if returns.ndim == 1 and stock and np.ndim(stock[0]) == 1:
            returns = np.repeat(returns[:, None], np.size(stock[0]), axis=1)
        return float(objective.score(returns, self.probabilities, *stock))


Policy = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""Actions i64[n] at a time, in states i64[n], with stocks f64[n, m]."""


class Front(NamedTuple):
    """Where an episode can be after some decisions: states with the discounted reward paid so far."""

    state: np.ndarray  # i64[n]
    paid: np.ndarray  # f64[n, m]


def merge(state: np.ndarray, paid: np.ndarray) -> tuple[Front, np.ndarray]:
    """The distinct pairs, and for each pair given, [n], which of them it is."""
    # Some pairs that are one may stay two where a border of rounding parts them: a cost, not an error.
    rows = np.column_stack([state, np.rint(paid / SAME) + 0.0])  # Integers would overflow; -0 is 0.
    _, first, index = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return Front(state[first], paid[first]), index.reshape(-1)


def law_of(paid: np.ndarray, probability: np.ndarray, error: float = 0.0) -> Law:
    """The law of returns [n, m] that come with these probabilities [n]; equal returns are merged."""
    front, index = merge(np.zeros(len(paid), np.int64), paid)
    total = np.bincount(index, probability, len(front.state))
    order = np.lexsort(front.paid.T[::-1])
    kept = order[total[order] > 0]
    returns = front.paid[kept]
    return Law(returns[:, 0] if returns.shape[1] == 1 else returns, total[kept], error)


def execute(
    mdp: MDP,
    policy: Policy | np.ndarray,
    start: int | None = None,
    stock: float | np.ndarray = 0.0,
    tolerance: float = 1e-10,
    max_pairs: int = 2_000_000,
) -> Law:
    """The exact law of a policy's return from a state and a stock.

    `policy` is a function of (time, states, stocks), or actions i64[S], or i64[H, S] by time. Without a
    horizon the law is that of the first steps, after which less than `tolerance` can still come:
    in return where gamma is below 1, in probability where it is 1.

    Raises:
        MDPError: where more than `max_pairs` pairs of state and paid reward can be reached at a time, for a
            policy of another shape, or one that takes an action which does not exist.
    """
    act = policy if callable(policy) else _table_policy(mdp, policy)
    stock = np.atleast_1d(checks.array("stock", stock, ..., error=MDPError).astype(float))
    legal = mdp.legal
    front = Front(np.array([mdp.state(start)]), np.zeros((1, mdp.dimensions)))
    probability: np.ndarray = np.ones(1)
    ended: list[tuple[np.ndarray, np.ndarray]] = []
    time, most = 0, bound(mdp)
    while True:
        over = mdp.terminal[front.state] | (time == mdp.horizon)
        ended.append((front.paid[over], probability[over]))
        front, probability = Front(*(x[~over] for x in front)), probability[~over]
        left = most * mdp.gamma**time if mdp.gamma < 1 else 0.0
        if mdp.horizon is None and (left <= tolerance if mdp.gamma < 1 else probability.sum() <= tolerance):
            ended.append((front.paid, probability))
            break
        if not probability.size:
            left = 0.0
            break
        action = act(time, front.state, (stock + front.paid) / mdp.gamma**time)
        action = checks.array("action", action, len(front.state), kind=np.integer, error=MDPError)
        if (missing := ~exist(legal, front.state, action)).any():
            state, wrong = front.state[missing][0], action[missing][0]
            there = np.flatnonzero(legal[state]).tolist()
            raise MDPError(f"step {time}, state {state}: action {wrong} was given, one of {there} is wanted")
        chance = mdp.probability[front.state, action]
        paid = front.paid[:, None] + mdp.gamma**time * mdp.reward[front.state, action]
        real = chance > 0
        front, index = merge(mdp.next_state[front.state, action][real], paid[real])
        if len(index) > max_pairs:
            raise MDPError(
                f"more than {max_pairs} pairs of state and reward are reached after {time + 1} steps"
            )
        probability = np.bincount(index, (probability[:, None] * chance)[real], len(front.state))
        time += 1
    return law_of(*concatenated(ended), left if mdp.horizon is None else 0.0)


def concatenated(ended: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns [n, m] and their probabilities [n] from where episodes ended, a pair a step."""
    paid, probability = zip(*ended, strict=True)
    return np.concatenate(paid), np.concatenate(probability)


def _table_policy(mdp: MDP, given: np.ndarray) -> Policy:
    by_time = ["H"] if np.ndim(given) == 2 else []
    actions = checks.array("policy", given, *by_time, "S", kind=np.integer, error=MDPError)
    if by_time and len(actions) != mdp.horizon:
        wanted = "no axis of time" if mdp.horizon is None else f"{mdp.horizon}, the horizon,"
        raise MDPError(f"policy is of {len(actions)} steps; {wanted} is wanted")

    def act(time: int, states: np.ndarray, _: np.ndarray) -> np.ndarray:
        if states.max() >= actions.shape[-1]:  # Terminal states need no action.
            raise MDPError(f"policy is of {actions.shape[-1]} states; an action in {states.max()} is wanted")
        return actions[states] if actions.ndim == 1 else actions[time, states]

    return act
