"""A windy cliff, solved exactly for its mean and for its worst outcomes.

The same process serves as a table here and as the environment `grid/cliff`, in which
`agents/configs/grid/stock_dqn_cliff.yaml` learns what is computed here.
"""

import numpy as np

from envs import gridworld
from valuelearn import dp, objectives

MOVES = "^>v<."  # Up, right, down, left, stop.
grid = gridworld.named("cliff")
mdp = dp.MDP.from_table(grid.table(), gamma=0.95, horizon=16, start=grid.start)

for share in (1.0, 0.25, 0.05):
    objective = objectives.CVaR(share)  # Of all outcomes: the mean.
    best = dp.solve(mdp, objective)
    tail, mean = best.law.score(objectives.CVaR(0.05)), best.law.mean
    print(f"best for the worst {share:4.0%}: mean {mean:.3f}, worst twentieth {tail:.3f}")

print("\nFirst moves of the policy for the worst twentieth, by the stock that it is given:")
print("\n".join(grid.rows))
for stock in (-8.0, 0.0, 8.0):
    actions = dp.best_actions(mdp, objectives.CVaR(0.05), np.array([stock]))[:, 0]
    moves = [MOVES[one.argmax()] if one.any() else " " for one in actions]
    print(f"stock {stock}")
    for row in np.array(moves).reshape(len(grid.rows), -1):
        print("  " + "".join(row))
