"""Rollouts that end early, in a plane whose dynamics are known: what that does, and what mends it.

    python -m benchmarks.ravl point | heads | mend | critics | accuracy
        [--seeds 5] [--runs runs/ravl] [--out FOLDER]

`point`: soft actor-critics (`agents/configs/plane/rollouts.yaml`) learn in rollouts of 10 steps, as they
are; with the true values told of the states at the edge of reach, and nowhere else; with those of as many
random states; and in rollouts of 5, 20 and 30 steps. Policies play whole episodes of 30 steps. Bars: without
help the return is below half of the best, and values end at three times the best policy's; told at the edge
the return is at least 0.9 of the best, told at random below half; rollouts of 5 steps end at values above
2,000; in those of 20 and 30 steps the return is at least 0.95 of the best.

`heads`: the same in rollouts of 10 steps with squared error, HL-Gauss, C51 and quantiles, with two critics
and with ten made unlike, whose lowest counts (RAVL). The categorical heads are given what returns can be. It
has no bars: whatever comes out is what it was run for.

`mend`: what mends it, in rollouts of 10 steps: the minimum and the diversity of critics apart and together,
diversity of several weights, and heads that are a softmax over a support, which ends where returns can end
or far beyond. Bars: one of them obtains at least 0.85 of the best return, with values within half of the best
policy's.

`critics`: the lowest of five, twenty and thirty critics, where `mend` has two and ten. It has no bars.

`accuracy`: rollouts of 10 steps of a model that was fitted to twenty random moves, moved towards what is true
by growing shares, until it is exact: without pessimism, with the model's doubt taken off rewards (MOPO),
with ten critics made unlike (RAVL), and with two whose head can hold no more than returns can be (C51). It
has no bars either.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes

from agents import evaluation, experiment, model_fitting, models, reach
from agents.sac import SACConfig
from benchmarks import evidence, figures
from benchmarks.ravl_cases import CRITICS, HEADS, MEND, PESSIMISM, POINT, TRUTH, Case
from envs import datasets, edge_of_reach
from envs.datasets import Dataset
from valuelearn import logs, stats
from valuelearn.types import EnvSpec

_CONFIG = "plane/rollouts.yaml"
_COLUMNS = ("env_frames", "updates", "episode_return", "value", *reach.COLUMNS)
_RESULTS = Path(__file__).parent / "results" / "ravl"
_FIRST = 4_096  # States that the best policy's return and value are averaged over.
_EXTENT, _PIXELS = 14.0, 141  # Half-width of the drawn plane, and numbers along its side.
_LINES = cycler(linestyle=("-", "--")) * plt.rcParams["axes.prop_cycle"]
_RECORDED = 20  # Random moves that a poor model is fitted to; two thousand make a good one.


class Best(NamedTuple):
    """The best policy from the states that episodes begin in."""

    total: float  # Undiscounted return of an episode.
    value: float


class Found(NamedTuple):
    """What a case came to, along the run."""

    updates: np.ndarray  # i64[K]
    total: np.ndarray  # f64[seeds, K] of whole episodes.
    value: np.ndarray  # f64[seeds, K] mean over batches.
    edge_doubt: float  # How far the lowest critic lies below their mean at the edge; NaN if never read.
    inner_doubt: float  # The same within reach.


def train(wanted: Mapping[Path, Sequence[str]]) -> None:
    """Train the run of each folder with its overrides, one on each core: the networks are tiny."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), spawn) as pool:
        for future in [
            pool.submit(evidence.trained, _CONFIG, folder, [*overrides, "train.cpu_threads=1"])
            for folder, overrides in wanted.items()
        ]:
            future.result()


def best(gamma: float) -> Best:
    """Means over first states."""
    first = edge_of_reach.starts(jax.random.key(0), _FIRST)
    of_best = edge_of_reach.optimal_return(first), edge_of_reach.optimal_value(first, gamma)
    return Best(*(float(x.mean()) for x in of_best))


def read(folder: Path) -> dict[str, np.ndarray]:
    """Columns f64[seeds, K] of a run's metrics."""
    table = logs.read_metrics(folder, reach.COLUMNS)
    seeds = np.unique(table["seed"])
    return {name: np.stack([table[name][table["seed"] == seed] for seed in seeds]) for name in _COLUMNS}


def _mean_of_finite(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if there.size else np.nan


def found(columns: Mapping[str, np.ndarray]) -> Found:
    """The rows after the first update."""
    learning = np.isfinite(columns["value"]).all(0)
    updates, total, value = (columns[name][..., learning] for name in ("updates", "episode_return", "value"))
    doubts = (_mean_of_finite(columns[f"{where}_disagreement"]) for where in ("edge", "inner"))
    return Found(updates[0], total, value, *doubts)


def surface(folder: Path) -> np.ndarray:
    """What the critics of the first seed hold states of the plane to be worth, [_PIXELS, _PIXELS]."""
    cfg = experiment.load_run(folder)
    assert isinstance(cfg.agent, SACConfig)
    spec: EnvSpec = edge_of_reach.make(1).spec
    agent = experiment.make_algorithm(cfg, spec).agent
    side = jnp.linspace(-_EXTENT, _EXTENT, _PIXELS)
    obs = jnp.stack(jnp.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
    assert agent.value is not None
    values = agent.value(evaluation.learners(cfg, folder / "params", spec)[0], obs)
    return np.asarray(values).reshape(_PIXELS, _PIXELS)


def _square(axes: Axes, half: float, color: str, line: str, label: str) -> None:
    corners = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    axes.plot(*corners.T, color=color, linestyle=line, linewidth=1, label=label)


def draw(
    cases: Mapping[str, Case], found: Mapping[str, Found], shown: Mapping[str, Path], wanted: Best, file: Path
) -> None:
    """Returns and values along the runs above, and beneath what the runs in `shown` hold of the plane."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.4), layout="constrained")
    left, middle, legend = axes[0]
    for where in (left, middle):
        where.set_prop_cycle(_LINES)
    for name, case in found.items():
        for where, values in ((left, case.total), (middle, case.value)):
            (line,) = where.plot(case.updates, values.mean(0), label=name)
            if len(values) >= stats.LEAST_RUNS:
                where.fill_between(
                    case.updates, *figures.band(values), color=line.get_color(), alpha=0.2, linewidth=0
                )
    left.axhline(wanted.total, color="black", linestyle="--", linewidth=0.8)
    middle.axhline(wanted.value, color="black", linestyle="--", linewidth=0.8, label="best policy")
    left.set(xlabel="updates", ylabel="return of a whole episode", ylim=(0, None))
    middle.set(xlabel="updates", ylabel="mean value of a batch", yscale="symlog")
    handles, labels = middle.get_legend_handles_labels()
    legend.legend(handles, labels, loc="center", title="case")
    legend.axis("off")
    top = 2.5 * wanted.value
    for below, (name, folder) in zip(axes[1], shown.items(), strict=True):
        extent = (-_EXTENT, _EXTENT) * 2
        picture = below.imshow(surface(folder), origin="lower", extent=extent, vmin=0, vmax=top)
        reach = edge_of_reach.START + cases[name].steps
        _square(below, edge_of_reach.START, "white", "-", "starts")
        _square(below, reach - 1, "white", "--", "learnt of")
        _square(below, reach, "red", "-", "edge of reach")
        below.plot(edge_of_reach.GOAL, edge_of_reach.GOAL, "*", color="white", markersize=9)
        below.set(title=f"values, {name}")
    axes[1, 0].legend(loc="lower left", fontsize="small", framealpha=0.6)
    figure.colorbar(picture, ax=axes[1], label="value held of the policy's action", extend="both")
    evidence.save(figure, file)


def compare(
    study: str, cases: Mapping[str, Case], shown: Sequence[str], seeds: int, runs: Path, out: Path
) -> tuple[dict[str, Found], Best]:
    """Train, tell and draw all cases; what they came to, beside the best policy."""
    folders = {name: runs / name.replace(", ", "_").replace(" ", "_") for name in cases}
    train({folders[name]: [f"train.seeds={seeds}", *case.overrides] for name, case in cases.items()})
    came, rows = {}, []
    for name, folder in folders.items():
        columns = read(folder)
        came[name] = found(columns)
        of_seeds = zip(range(seeds), *(columns[column] for column in _COLUMNS), strict=True)
        rows += [(name, seed, *row) for seed, *each in of_seeds for row in zip(*each, strict=True)]
    evidence.write_table(out / f"{study}.csv", ("case", "seed", *_COLUMNS), rows)
    wanted = best(experiment.load_run(folder).agent.gamma)
    draw(cases, came, {name: folders[name] for name in shown}, wanted, out / f"{study}.png")
    print(f"best policy: return {wanted.total:.2f}, value {wanted.value:.2f} at first states")
    for name, case in came.items():
        share, over = case.total[:, -1] / wanted.total, case.value[:, -1] / wanted.value
        highest = case.value.max(1) / wanted.value
        at_edge = "(never read)" if np.isnan(case.edge_doubt) else f"{case.edge_doubt:.2f} below their mean"
        print(
            f"{name}: {evidence.over_seeds(share)} of the best return, values {evidence.over_seeds(over)} "
            f"times the best policy's, {evidence.over_seeds(highest)} at their highest; the lowest critic "
            f"over the run, at the edge {at_edge}, within reach {case.inner_doubt:.2f}"
        )
    return came, wanted


def point(seeds: int, runs: Path, out: Path) -> bool:
    """What cutting rollouts short does; whether the bars hold."""
    cases, wanted = compare("point", POINT, tuple(POINT)[:3], seeds, runs, out)
    share = {name: (case.total[:, -1] / wanted.total).mean() for name, case in cases.items()}
    bars = {
        "10 steps below half": share["10 steps"] < 0.5,
        "values of 10 steps three times": (cases["10 steps"].value[:, -1] / wanted.value).mean() >= 3,
        "told at the edge 0.9": share["10 steps, told at the edge"] >= 0.9,
        "told at random below half": share["10 steps, told at random"] < 0.5,
        "5 steps explode": (cases["5 steps"].value[:, -1]).mean() > 2_000,
        "20 steps 0.95": share["20 steps"] >= 0.95,
        "30 steps 0.95": share["30 steps"] >= 0.95,
    }
    print("; ".join(f"{name}: {'good' if good else 'missed'}" for name, good in bars.items()))
    return all(bars.values())


def heads(seeds: int, runs: Path, out: Path) -> bool:
    """Whether heads that cannot hold values too large to be true mend what cutting rollouts short does."""
    shown = ("mse, two critics", "mse, ten unlike critics", "c51, two critics")
    compare("heads", HEADS, shown, seeds, runs, out)
    return True


def mend(seeds: int, runs: Path, out: Path) -> bool:
    """Which settings mend what cutting rollouts short does; whether one does."""
    shown = ("mse, ten critics", "c51, two critics, their mean", "c51, ten critics")
    cases, wanted = compare("mend", MEND, shown, seeds, runs, out)
    mended = [
        name
        for name, case in cases.items()
        if (case.total[:, -1] / wanted.total).mean() >= 0.85
        and 0.5 <= (case.value[:, -1] / wanted.value).mean() <= 1.5
    ]
    print(f"mended by: {'; '.join(mended) or 'none of these'}")
    return bool(mended)


def critics(seeds: int, runs: Path, out: Path) -> bool:
    """How many critics it takes, of which the lowest counts."""
    compare("critics", CRITICS, tuple(CRITICS), seeds, runs, out)
    return True


def _model(folder: Path) -> Path:
    """A model that saw little of the plane, fitted where it is missing."""
    model, file = folder / "model", folder / "moves.hdf5"
    if (model / "one_step.csv").exists():
        return model
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    episodes = _RECORDED // 10
    action = chance.uniform(-1, 1, (episodes, 10, 2)).astype(np.float32)
    first = chance.uniform(-edge_of_reach.START, edge_of_reach.START, (episodes, 1, 2)).astype(np.float32)
    states = np.concatenate([first, first + action.cumsum(1)], axis=1)
    obs, next_obs = states[:, :-1].reshape(-1, 2), states[:, 1:].reshape(-1, 2)
    last, ones = np.arange(1, len(obs) + 1) % 10 == 0, np.ones(len(obs), np.float32)
    reward = np.asarray(edge_of_reach.reward(jnp.asarray(obs)))
    datasets.save(Dataset(obs, action.reshape(-1, 2), reward, ones, last, last, next_obs), file)
    cfg = models.ModelConfig(
        dataset=str(file),
        env="plane/edge_of_reach",
        hidden=(64, 64),
        weight_decay=(0.0, 0.0, 0.0),
        open_loop_steps=10,
    )
    model_fitting.fit(cfg, model, sys.argv, print)
    return model


def accuracy(seeds: int, runs: Path, out: Path) -> bool:
    """Whether a better model makes for a better policy."""
    model = f"model: {_model(runs)}"
    cases = {
        f"{name}, {truth:g} true": Case(
            rollouts=(model, f"truth: {truth}", "real_share: 0", penalty), agent=agent
        )
        for name, (penalty, agent) in PESSIMISM.items()
        for truth in TRUTH
    }
    shown = ("none, 0 true", "none, 1 true", "c51, 1 true")
    compare("accuracy", cases, shown, seeds, runs, out)
    return True


STUDIES: dict[str, Callable[[int, Path, Path], bool]] = {
    "point": point,
    "heads": heads,
    "mend": mend,
    "critics": critics,
    "accuracy": accuracy,
}


def main() -> None:
    """Run a study, and exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/ravl"))
    parser.add_argument("--out", type=Path, default=_RESULTS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sys.exit(not STUDIES[given.study](given.seeds, given.runs, given.out))


if __name__ == "__main__":
    main()
