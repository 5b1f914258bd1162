"""What each part of the stock agent is worth, where returns are asked for among coins.

    python -m benchmarks.stock_ablations [--seeds 3] [--runs runs/stock] [--out FOLDER]

Each variant of `agents/configs/grid/stock_dqn_coin.yaml` is trained for a quarter of its steps and asked for
eight returns g. `no stock` sees and carries 0, so no question reaches it; `frozen stock` keeps the first one;
`wrong update` adds rewards and does not divide by gamma; `no relabelling` learns from stocks as they were;
`no tie averaging` takes the first of equally good next actions. No bar.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import jax
import matplotlib.pyplot as plt
import numpy as np

from agents import stock_dqn
from benchmarks import evidence, stock_agents
from benchmarks.stock_targets import TARGETS
from valuelearn.stocks import Stocks
from valuelearn.types import Array


class _NoStock(Stocks):
    def first(self, uniform: Array) -> Array:
        return 0.0 * super().first(uniform)

    anywhere = first

    def after(self, carried: Array, reward: Array) -> Array:
        return carried


class _Frozen(Stocks):
    def after(self, carried: Array, reward: Array) -> Array:
        return carried


class _Added(Stocks):
    def after(self, carried: Array, reward: Array) -> Array:
        xp = carried.__array_namespace__()
        return xp.clip(carried + reward[..., None], -self.bound, self.bound)


def _first(scores: jax.Array) -> jax.Array:
    return jax.nn.one_hot(scores.argmax(), len(scores), dtype=bool)


_Variant = tuple[tuple[str, ...], Callable[[], contextlib.AbstractContextManager]]
VARIANTS: dict[str, _Variant] = {
    "whole": ((), contextlib.nullcontext),
    "no stock": ((), lambda: mock.patch.object(stock_dqn, "Stocks", _NoStock)),
    "frozen stock": ((), lambda: mock.patch.object(stock_dqn, "Stocks", _Frozen)),
    "wrong update": ((), lambda: mock.patch.object(stock_dqn, "Stocks", _Added)),
    "no relabelling": (("agent.stock.relabel=0",), contextlib.nullcontext),
    "no tie averaging": ((), lambda: mock.patch.object(stock_dqn, "best", _first)),
}
"""Overrides of the config, and what is put in the place of a part."""


def misses(runs: Path, seeds: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each variant's mean |return - g|, [targets, seeds]."""
    for name, (overrides, place) in VARIANTS.items():
        folder = runs / f"coin {name}"
        with place():
            short = ("train.env_frames=160_000", "agent.exploration.decay_steps=48_000")
            wanted = [f"train.seeds={seeds}", *short, *overrides]
            evidence.trained("grid/stock_dqn_coin.yaml", folder, wanted)
            returns = stock_agents.hitting(folder, TARGETS)
        yield name, stock_agents.misses(returns, TARGETS)


def draw(found: dict[str, np.ndarray], file: Path) -> None:
    """Draw each seed's miss, averaged over the targets, a row for each variant."""
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for row, values in enumerate(found.values()):
        axes.plot(values.mean(0), np.full(values.shape[1], row), "o", color="tab:red", alpha=0.7)
    axes.set(xscale="log", xlabel="mean |return - wanted| over eight returns", yticks=range(len(found)))
    axes.set_yticklabels(list(found))
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    evidence.save(figure, file)


def main() -> None:
    """Measure and write."""
    arguments = stock_agents.arguments(__doc__, "ablations", seeds=3)
    found = dict(misses(arguments.runs, arguments.seeds))
    rows = [
        (name, seed, target, float(values[index, seed]))
        for name, values in found.items()
        for seed in range(arguments.seeds)
        for index, target in enumerate(TARGETS)
    ]
    evidence.write_table(arguments.out / "misses.csv", ("variant", "seed", "target", "miss"), rows)
    draw(found, arguments.out / "misses.png")
    print("; ".join(f"{name} {evidence.over_seeds(values.mean(0))}" for name, values in found.items()))


if __name__ == "__main__":
    main()
