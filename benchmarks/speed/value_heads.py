"""One update of DQN's network of Atari with each value head."""

import operator
import statistics

from benchmarks.peers import ours_dqn
from benchmarks.speed import updates
from benchmarks.speed.frameworks import TASKS
from benchmarks.speed.turns import by_turns
from valuelearn import heads

AT_MOST = {"hl_gauss": 1.03}
UPDATES = 16  # In one compiled loop.


def compare(rounds: int) -> tuple[dict, bool]:
    """Milliseconds of an update with each head, by turns, and whether the bars are met."""
    given = TASKS["atari"].given
    runs = by_turns(
        {
            head: updates.timed(ours_dqn.load("atari", given | {"head": head}), UPDATES)
            for head in heads.NAMES
        },
        8 * rounds,
    )
    medians = {head: statistics.median(found) for head, found in runs.items()}
    # Of neighbours in time, as the machine drifts.
    ratios = {
        head: statistics.median(map(operator.truediv, found, runs["mse"])) for head, found in runs.items()
    }
    figures = ", ".join(f"{head} {medians[head]:.1f} ms (x {ratios[head]:.2f})" for head in medians)
    table = {
        "figures": figures,
        "unit": "ms per update",
        "batch_size": given["batch_size"],
        "runs": runs,
    }
    good = all(ratios[head] <= bar for head, bar in AT_MOST.items())
    return table | {"medians": medians, "over_mse": ratios}, good
