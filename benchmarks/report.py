"""One page on a finished study: `report.html`, which needs no other file and no network."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np

from agents import curves
from benchmarks import ablate, figures, scores
from benchmarks.study import Settings, Trial
from valuelearn import config, logs
from valuelearn.stats import Interval

_HERE = Path(__file__).parent
# What to cite for an agent or a head; heads that are not here are compared in Farebrother et al. (2024).
_CITED = {
    "mse": ("mnih2015human",),
    "huber": ("mnih2015human",),
    "hl_gauss": ("farebrother2024stop", "imani2018improving"),
    "c51": ("bellemare2017distributional",),
    "qr": ("dabney2018distributional",),
    "iqn": ("dabney2018implicit",),
    "dqn": ("mnih2015human",),
    "stock_dqn": ("pires2025optimizing",),
    "pqn": ("gallici2025simplifying",),
}


class _Row(NamedTuple):
    """A method in the page's tables, as text but for its point."""

    name: str
    point: float
    interval: str
    better: str
    better_interval: str
    tasks: list[str]
    clipped: str
    seconds: str
    rate: str
    tuned: str


def report(out: Path) -> Path:
    """Write the page on the study in `out`, and its pictures; gives the page's file.

    Raises:
        UserError: where that is no study's folder, or trials are missing.
    """
    done = ablate.load_finished(out)
    study, table = done.study, done.table
    unit, matrices = scores.normalised(study, table)
    pictures = list(_pictures(out, done, unit, matrices))
    made = _made(done.trials)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    runs = len(next(iter(matrices.values())))
    page = environment.get_template("report.html.j2").render(
        study=study,
        unit=unit,
        runs=runs,
        tasks=scores.tasks(table),
        notice=scores.of_few(runs, len(scores.tasks(table))),
        methods=[_row(done, method, matrices) for method in matrices],
        pictures=pictures,
        tuned=study.tuning is not None,
        axes=curves.axes(done.trials[0].load()),
        device=made.pop("device"),
        command=(out / "command.txt").read_text().strip(),
        definition=config.dump(study).strip(),
        versions="\n".join(f"{key}: {value}" for key, value in made.items()),
        citations=_citations(done.trials),
    )
    logs.write_whole(out / "report.html", page)
    return out / "report.html"


def _made(trials: Sequence[Trial]) -> dict[str, str]:
    """With what, and on what, all trials were made: every value, where sittings differ."""
    found: dict[str, list[str]] = {}
    for trial in trials:
        for sitting in json.loads((trial.folder / "versions.json").read_text()):
            for key, value in sitting.items():
                if key not in ("command", "from") and str(value) not in found.setdefault(key, []):
                    found[key].append(str(value))
    return {key: ", and ".join(values) for key, values in found.items()}


def _row(done: ablate.Finished, method: Settings, matrices: Mapping[Settings, np.ndarray]) -> _Row:
    own = [score for score in done.table if score.method == method]
    by_task = [[s.final_return for s in own if s.task == task] for task in scores.tasks(done.table)]
    found, better = scores.interval(matrices[method]), scores.improvement(done.study, method, matrices)
    seconds, clipped = sum(score.seconds for score in own), np.mean([score.clipped for score in own])
    return _Row(
        name=scores.name(method),
        point=found.point,
        interval=_ends(found),
        better="" if better is None else f"{better.point:.2f}",
        better_interval="" if better is None else _ends(better),
        tasks=[_mean(values) for values in by_task],
        clipped="" if np.isnan(clipped) else f"{clipped:.2%}",
        seconds=f"{seconds:,.0f}",
        rate=f"{sum(score.updates for score in own) / seconds:,.0f}",
        tuned=", ".join(value for _, value in own[0].tuned),
    )


def _mean(values: Sequence[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{deviation}"


def _ends(found: Interval) -> str:
    return "" if np.isnan(found.low) else f"{found.low:.2f} to {found.high:.2f}"


def _pictures(
    out: Path, done: ablate.Finished, unit: str, matrices: Mapping[Settings, np.ndarray]
) -> Iterator[dict[str, str]]:
    """Draw each picture into `out`; gives its content and its caption."""
    named = {scores.name(method): matrix for method, matrix in matrices.items()}
    middles = {label: scores.interval(matrix) for label, matrix in named.items()}
    better = {scores.name(m): scores.improvement(done.study, m, matrices) for m in matrices}

    clock, returns = curves.axes(done.trials[0].load())
    for task, found in _curves(done.trials).items():
        file = out / f"curves-{task.replace('/', '-')}.png"
        figures.learning_curves(file, {"title": task, "xlabel": clock, "ylabel": returns}, found)
        yield _picture(file, f"Learning curves on {task}: the mean over seeds, and its interval.")
    figures.intervals(out / "scores.png", f"interquartile mean,\n{unit}", middles)
    yield _picture(out / "scores.png", "Final scores: interquartile means and their intervals.")
    figures.profiles(out / "profiles.png", unit, named)
    yield _picture(out / "profiles.png", "Performance profiles: how many runs exceed a score.")
    if any(better.values()):
        label = "probability of improvement on the baseline"
        figures.intervals(out / "improvement.png", label, better, mark=0.5)
        yield _picture(out / "improvement.png", "How probably a run is better than one of the baseline.")


def _picture(file: Path, caption: str) -> dict[str, str]:
    return {"data": base64.b64encode(file.read_bytes()).decode(), "caption": caption}


def _curves(trials: Sequence[Trial]) -> dict[str, dict[str, figures.Curve]]:
    """Returns of each task and method, between rows in which no episode ended as a line."""
    found: dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]] = {}
    for trial in trials:
        metrics = logs.read_metrics(trial.folder)
        lines = found.setdefault(trial.task, {}).setdefault(scores.name(trial.method), [])
        lines += [scores.curve(metrics, seed) for seed in np.unique(metrics["seed"])]
    return {task: {label: _together(lines) for label, lines in own.items()} for task, own in found.items()}


def _together(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> figures.Curve:
    """Seeds' curves at the same places: their rows lie apart where one of them was stopped and went on."""
    places = np.unique(np.concatenate([come for come, _ in lines]))
    places = places[places <= min(come[-1] for come, _ in lines)]  # Where every seed has come.
    return places, np.array([np.interp(places, *line) for line in lines])


def _citations(trials: Sequence[Trial]) -> str:
    """BibTeX of what the trials used, and of the statistics."""
    configs = [trial.load() for trial in trials]
    used = [name for cfg in configs for name in (cfg.agent.name, getattr(cfg.agent, "head", cfg.agent.name))]
    wanted = {key for name in used for key in _CITED.get(name, _CITED["hl_gauss"][:1])} | {"agarwal2021deep"}
    entries = (_HERE / "citations.bib").read_text().strip().split("\n\n")
    keys = [entry.partition("{")[2].partition(",")[0] for entry in entries]
    return "\n\n".join(entry for key, entry in zip(keys, entries, strict=True) if key in wanted)
