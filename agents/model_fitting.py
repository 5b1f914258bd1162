"""Fitting models of an environment's dynamics to a dataset, and telling how good they are.

A folder holds `config.yaml`, `versions.json`, the best members (`model`), the course of fitting (`fit.csv`)
and the report: `one_step.csv`, `open_loop.csv` and `report.png`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from agents.models import ModelConfig, spec_of
from envs import datasets
from envs.datasets import Dataset
from valuelearn import checkpoint, config, dynamics, logs, model_report, plots
from valuelearn.config import Misfit
from valuelearn.dynamics import Transitions
from valuelearn.model_report import LEVELS, Report

Say = Callable[[str], None]
_WINDOWS = 200  # Of the dataset, that the model goes along on its own.
_WELL = 0.99  # R^2 from which on a dimension counts as known.


def fit(cfg: ModelConfig, folder: Path, command: list[str], say: Say) -> None:
    """Fit a model to a dataset, and leave it and a report on it in `folder`.

    Raises:
        RunFolderError: where the folder is in use or cannot be written.
        DatasetError: where the dataset cannot be read, is another environment's, or is too small.
    """
    logs.check_new_folder(folder)
    spec = spec_of(cfg.env)
    dataset = datasets.load(cfg.dataset, spec, cfg.env)
    known = np.flatnonzero(datasets.next_obs_known(dataset))
    split_key, key = jax.random.split(jax.random.key(cfg.seed))
    order = known[np.asarray(jax.random.permutation(split_key, len(known)))]
    apart = max(int(cfg.held_out * len(known)), 1)
    if apart == len(known):
        raise datasets.DatasetError(
            f"{cfg.dataset}: it has {len(known)} transitions to learn from; 2 are wanted"
        )
    held_out, learnt = (_transitions(dataset, rows) for rows in (order[:apart], order[apart:]))
    windows = _windows(dataset, cfg.open_loop_steps, np.random.default_rng(cfg.seed))
    logs.make_folder(folder, config.dump(cfg))
    logs.write_whole(folder / "versions.json", json.dumps({"command": command, **logs.versions()}, indent=1))
    network = dynamics.network(spec.obs_shape[0], cfg.hidden)
    course = []
    for progress in dynamics.fit(
        network,
        learnt,
        held_out,
        key,
        **cfg.model_dump(
            include={"members", "batch_size", "learning_rate", "weight_decay", "patience", "most_epochs"}
        ),
    ):
        best, worst = progress.errors.min(), progress.errors.max()
        say(f"epoch {progress.epoch}: held-out error of the best member {best:.5f}, of the worst {worst:.5f}")
        course.append([progress.epoch, *progress.errors])
    model = dynamics.elites(progress.model, progress.errors, cfg.elites)
    checkpoint.save_params(folder / "model", model)
    members = [f"member_{index}" for index in range(cfg.members)]
    logs.write_table(folder / "fit.csv", ["epoch", *members], course)
    report = model_report.report(network, model, held_out, *windows)
    _tell(report, folder, say)


def _transitions(dataset: Dataset, rows: np.ndarray) -> Transitions:
    columns = (dataset.obs, dataset.action, dataset.reward, dataset.next_obs)
    return Transitions(*(jnp.asarray(column[rows]) for column in columns))


def _windows(dataset: Dataset, steps: int, chance: np.random.Generator) -> tuple[jax.Array, jax.Array]:
    """Observations [W, K + 1, D] and actions [W, K, A] of stretches of single episodes, all recorded.

    Raises:
        Misfit: where every episode is shorter.
    """
    known = datasets.next_obs_known(dataset)
    # Only an episode's last row may lead to what was not recorded.
    lengths = {rows.start: np.count_nonzero(known[rows]) for rows in datasets.episodes(dataset)}
    longest = max(lengths.values())
    if longest < steps:
        reason = f"the longest episode has {longest} steps whose next observations are known"
        raise Misfit("open_loop_steps", steps, reason, "dataset")
    starts = np.concatenate([start + np.arange(length - steps + 1) for start, length in lengths.items()])
    starts = chance.permutation(starts)[:_WINDOWS]
    rows = starts[:, None] + np.arange(steps)
    obs = np.concatenate([dataset.obs[rows], dataset.next_obs[rows[:, -1:]]], axis=1)
    return jnp.asarray(obs), jnp.asarray(dataset.action[rows])


def _tell(report: Report, folder: Path, say: Say) -> None:
    """Write the report, and say how well each dimension is known."""
    names = [*(f"obs_{index}" for index in range(len(report.explained) - 1)), "reward"]
    columns = ["predicted", "r_squared", *(f"covered_{level}" for level in LEVELS)]
    rows = zip(names, report.explained, *report.covered, strict=True)
    logs.write_table(folder / "one_step.csv", columns, rows)
    quantiles = [np.quantile(report.errors, q, axis=1) for q in (0.1, 0.5, 0.9)]
    still = np.median(report.standing, axis=1)
    rows = zip(range(1, len(still) + 1), *quantiles, still, strict=True)
    columns = ["steps", "error_10", "error_50", "error_90", "standing_50"]
    logs.write_table(folder / "open_loop.csv", columns, rows)
    plots.model(names, report.explained, report.covered, LEVELS, (*quantiles, still), folder / "report.png")
    poor = [f"{name} {r:.3f}" for name, r in zip(names, report.explained, strict=True) if not r >= _WELL]
    say(f"R^2 of held-out changes: {f'below {_WELL}: ' + ', '.join(poor) if poor else f'{_WELL} or more'}")
    half = report.covered[LEVELS.index(0.5)].mean()
    say(f"within central intervals that half of them should lie in: {half:.2f} of held-out changes")
    alone, standing = quantiles[1][-1], still[-1]
    say(f"after {len(still)} steps alone: {alone:.2f} deviations off; if nothing changed, {standing:.2f}")
