"""Policies that do not look at what they have obtained: the baselines of stock-augmented optima.

Each step back chooses, in every state, by what an objective says of the law ahead (ordinary
distributional dynamic programming; value iteration where the objective is the mean), or by nesting the
objective. Such a policy is the best there is for the mean alone.
"""

from typing import Literal, get_args

import numpy as np

from valuelearn.dp.interface import Solution
from valuelearn.dp.laws import Law, execute, law_of, rounding
from valuelearn.dp.mdp import MDP, MDPError
from valuelearn.objectives import Objective

Rule = Literal["law", "nested"]


def stock_free(
    mdp: MDP, objective: Objective, rule: Rule = "law", start: int | None = None, max_atoms: int = 1_000_000
) -> Solution:
    """What a policy of state and time obtains that is greedy for an objective of the law ahead.

    `law` takes the objective of the whole law to come under later choices; `nested` of the next reward
    plus the nested value of the next state, which is dearer than the objective where that is averse to
    risk. The value is the objective of the executed law from the start, and the stock is 0.

    Raises:
        MDPError: for a process without a horizon or with vector rewards, where laws have more than
            `max_atoms` atoms in all, or for a rule that is unknown.
    """
    if rule not in get_args(Rule):
        raise MDPError(f"rule {rule!r} was given, one of {', '.join(get_args(Rule))} is wanted")
    if mdp.horizon is None or mdp.dimensions > 1:
        raise MDPError("policies without stock need a horizon, and rewards of one coordinate")
    at_end = Law(np.zeros(1), np.ones(1))
    if mdp.horizon == 0:
        return Solution(at_end.score(objective), 0.0, [], at_end, float("nan"))
    ahead, actions = [at_end] * len(mdp.probability), []
    first: list[int] = []
    start = mdp.state(start)
    for _ in range(mdp.horizon):
        found = [_choose(mdp, state, ahead, objective, rule) for state in range(len(ahead))]
        actions.append(np.array([action for action, *_ in found]))
        ahead, first = [law for _, law, _ in found], found[start][2]
        if sum(len(law.returns) for law in ahead) > max_atoms:
            raise MDPError(f"laws of more than {max_atoms} atoms in all; give a shorter horizon")
    policy = np.array(actions[::-1]).reshape(mdp.horizon, -1)
    law = execute(mdp, policy, start)
    return Solution(law.score(objective), 0.0, first, law, float("nan"))


def _choose(
    mdp: MDP, state: int, ahead: list[Law], objective: Objective, rule: Rule
) -> tuple[int, Law, list[int]]:
    """The first of the best actions, the law that it leads on to, and all of the best."""
    legal = np.flatnonzero(mdp.legal[state])
    if not legal.size:
        return 0, Law(np.zeros(1), np.ones(1)), []
    laws = [_ahead(mdp, state, int(action), ahead) for action in legal]
    scores = np.array([law.score(objective) for law in laws])
    good = np.flatnonzero(scores >= scores.max() - rounding(scores.max()))
    law = laws[good[0]]
    if rule == "nested":  # The value stands for the law, as if it were certain.
        law = Law(scores[good[:1]], np.ones(1))
    return int(legal[good[0]]), law, [int(legal[one]) for one in good]


def _ahead(mdp: MDP, state: int, action: int, ahead: list[Law]) -> Law:
    """The law of reward + gamma * what follows."""
    returns, chances = [], []
    for outcome in np.flatnonzero(mdp.probability[state, action]):
        after = ahead[mdp.next_state[state, action, outcome]]
        returns.append(mdp.reward[state, action, outcome] + mdp.gamma * after.returns)
        chances.append(mdp.probability[state, action, outcome] * after.probabilities)
    return law_of(np.concatenate(returns)[:, None], np.concatenate(chances))
