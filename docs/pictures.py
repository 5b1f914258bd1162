"""The pictures of the documentation, drawn by the code that they show."""

import os
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from agents import solving
from envs import edge_of_reach
from valuelearn import config, dp, heads, objectives, plots
from valuelearn.backups import summed

_PROCESSES = Path(solving.__file__).parent / "processes"


def draw(folder: Path) -> None:
    """Draw all of them into a folder."""
    folder.mkdir(exist_ok=True)
    _targets(folder / "targets.png")
    _backups(folder / "backups.png")
    _objectives(folder / "objectives.png")
    _stock(folder / "stock.png")
    _reach(folder / "reach.png")


def _save(figure: Figure, file: Path) -> None:
    """Write a picture whole: another build may be reading it."""
    draft = file.with_name(f".{os.getpid()}-{file.name}")
    figure.savefig(draft, dpi=120)
    draft.replace(file)
    plt.close(figure)


def _targets(file: Path) -> None:
    """What four heads are asked to fit for a reward of 0.6 before a next value of 2."""
    support = {"v_min": -5.0, "v_max": 5.0, "num_bins": 21}
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), sharey=True, layout="constrained")
    for axis, name in zip(axes, ("mse", "two_hot", "hl_gauss", "c51"), strict=True):
        head = heads.make(name, **support)
        if name == "mse":
            axis.axvline(0.6 + 0.9 * 2.0, color="C0")
            axis.set_title("mse: one number")
            continue
        if name == "c51":  # The next state's law: 0 or 4, each with probability a half.
            next_out = jnp.log(0.5 * head_mass(head, 0.0) + 0.5 * head_mass(head, 4.0) + 1e-12)
        else:
            next_out = jnp.log(head.encode(2.0) + 1e-12)
        target = head.target(next_out, summed(0.6, 0.9))
        axis.bar(np.asarray(head.locations), np.asarray(target), width=0.4)
        axis.set_title(name)
    for axis in axes:
        axis.set_xlim(-5, 5)
        axis.set_xlabel("return")
    axes[0].set_ylabel("probability")
    _save(figure, file)


def head_mass(head: heads.Categorical, value: float) -> jnp.ndarray:
    """All probability on the location of `value`."""
    return (jnp.abs(head.locations - value) < 1e-4).astype(jnp.float32)


def _backups(file: Path) -> None:
    """A law of the return, the same a step before, and what C51 makes of it."""
    returns, probabilities = np.array([-3.0, 0.0, 1.0, 4.0]), np.array([0.1, 0.2, 0.5, 0.2])
    backup = summed(1.0, 0.9)
    head = heads.make("c51", v_min=-5.0, v_max=5.0, num_bins=11)
    before = sum(share * head_mass(head, value) for value, share in zip(returns, probabilities, strict=True))
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True, layout="constrained")
    axes[0].bar(returns, probabilities, width=0.25)
    axes[0].set_title("the next state's")
    axes[1].bar(backup(returns), probabilities, width=0.25, color="C1")
    axes[1].set_title("after a reward of 1, discount 0.9")
    target = head.target(jnp.log(before + 1e-12), backup)
    axes[2].bar(np.asarray(head.locations), np.asarray(target), width=0.25, color="C2")
    axes[2].set_title("on the support of a head")
    for axis in axes:
        axis.set(xlim=(-5.5, 5.5), xlabel="return")
    axes[0].set_ylabel("probability")
    _save(figure, file)


def _objectives(file: Path) -> None:
    """Two laws, and their scores under five objectives."""
    returns = np.linspace(-8.0, 8.0, 321)
    laws = {
        "narrow": np.exp(-0.5 * ((returns - 0.5) / 0.7) ** 2),
        "wide": np.exp(-0.5 * ((returns - 1.2) / 2.2) ** 2),
    }
    laws = {name: mass / mass.sum() for name, mass in laws.items()}
    asked = {
        "mean": objectives.Mean(),
        "worst fifth": objectives.CVaR(0.2),
        "best fifth": objectives.OptimisticCVaR(0.2),
        "at least 0": objectives.Threshold(),
        "losses twice": objectives.TwoSlope(1.0, 2.0),
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for place, (name, mass) in enumerate(laws.items()):
        axes[0].plot(returns, mass / (returns[1] - returns[0]), label=name)
        scores = [float(objective.score(returns, mass)) for objective in asked.values()]
        axes[1].bar(np.arange(len(asked)) + 0.4 * place, scores, width=0.4, label=name)
    axes[0].set(xlabel="return", ylabel="density")
    axes[0].legend()
    axes[1].set_xticks(np.arange(len(asked)) + 0.2, list(asked), rotation=20)
    axes[1].set_ylabel("score, more is better")
    axes[1].axhline(0.0, color="0.6", linewidth=0.8)
    _save(figure, file)


def _stock(file: Path) -> None:
    """The law of the return on the windy cliff under the two best policies."""
    mdp = config.load(solving.SolveConfig, _PROCESSES / "cliff.yaml").process()
    asked = {"best mean": objectives.Mean(), "best for the worst twentieth": objectives.CVaR(0.05)}
    found = {name: dp.solve(mdp, objective).law for name, objective in asked.items()}
    plots.laws({name: (law.returns, law.probabilities) for name, law in found.items()}, file)


def _reach(file: Path) -> None:
    """Rollouts of ten random moves in the plane."""
    steps, count = 10, 500
    start_key, move_key = jax.random.split(jax.random.key(0))
    angles = jax.random.uniform(move_key, (count, 1), maxval=2 * jnp.pi)
    noise = 0.3 * jax.random.normal(move_key, (steps, count, 2))
    moves = jnp.clip(1.3 * jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1) + noise, -1, 1)
    starts = edge_of_reach.starts(start_key, count)
    places = np.asarray(starts + jnp.cumsum(moves, 0))
    edge = np.asarray(edge_of_reach.at_edge(places, steps))
    figure, axes = plt.subplots(figsize=(5, 5.8), layout="constrained")
    axes.plot(*places[~edge].T, ".", color="0.7", markersize=2, label="learnt from, sooner or later")
    axes.plot(*places[edge].T, ".", color="C3", markersize=4, label="at the edge: only bootstrapped from")
    for half in (edge_of_reach.START, edge_of_reach.START + steps - 1, edge_of_reach.START + steps):
        axes.plot(*(half * np.array([[-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1]])), color="0.3", linewidth=0.8)
    axes.plot(edge_of_reach.GOAL, edge_of_reach.GOAL, "*", color="C2", markersize=12, label="most reward")
    axes.set_aspect("equal")
    figure.legend(loc="outside lower center")
    _save(figure, file)
