"""What `valuelearn dataset` prints, checks and converts."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from envs import registry
from envs.datasets import formats, scores
from envs.datasets.dataset import Dataset, episode_returns, episodes, finished


def info(source: str, max_episode_steps: int | None, echo: Callable[[str], None]) -> None:
    """Print a dataset's card: its rows, episodes, returns, scores, oddities and notes.

    Raises:
        DatasetError: as `formats.load`.
    """
    dataset = formats.load(source, max_episode_steps=max_episode_steps)
    for line in _card(dataset, formats.located(source)):
        echo(line)


def _card(dataset: Dataset, path: Path) -> Iterator[str]:
    whole = finished(dataset)
    lengths = np.array([rows.stop - rows.start for rows in episodes(dataset)])
    returns = episode_returns(dataset)
    yield f"rows           {dataset.rows}"
    yield f"episodes       {len(lengths)}, {np.count_nonzero(~whole)} of them unfinished"
    yield f"lengths        mean {lengths.mean():.6g}, least {lengths.min()}, greatest {lengths.max()}"
    yield f"observations   {dataset.obs.dtype} {list(dataset.obs.shape[1:])}"
    yield f"actions        {dataset.action.dtype} {list(dataset.action.shape[1:])}"
    for name, array in dataset.infos.items():
        yield f"infos/{name:<9}{array.dtype} {list(array.shape[1:])}"
    terminals, timeouts = np.count_nonzero(dataset.discount == 0), np.count_nonzero(dataset.truncated)
    yield f"terminations   {terminals}, {terminals / len(lengths):.1%} of episodes"
    yield f"time limits    {timeouts}, {timeouts / len(lengths):.1%} of episodes"
    if len(returns):
        mean, deviation = returns.mean(), returns.std()
        yield f"return         mean {mean:.6g}, deviation {deviation:.6g}, {_range(returns)}"
        yield from _scores(dataset, path, mean, deviation)
    yield from (f"warning        {remark}" for remark in dataset.notes["remarks"])
    notes = {name: note for name, note in dataset.notes.items() if name != "remarks"}
    if notes:
        yield f"notes          {json.dumps(notes)}"


def _range(returns: np.ndarray) -> str:
    return f"least {returns.min():.6g}, greatest {returns.max():.6g}"


def _scores(dataset: Dataset, path: Path, mean: float, deviation: float) -> Iterator[str]:
    """Scores by the references of the dataset's own notes, and by D4RL's."""
    names = [str(dataset.notes.get("env_id", "")), str(dataset.notes.get("dataset_id", ""))]
    # OGBench's files have names as D4RL's, and other tasks.
    names += [path.name] if formats.is_hdf5(path) else []
    known = next((name for name in names if scores.reference(name)), None)
    own = dataset.notes.get("reference_returns")
    if isinstance(own, dict) and {"random", "expert"} <= own.keys():
        reference = scores.Reference(float(own["random"]), float(own["expert"]))
        scored, spread = scores.score(reference, mean), scores.score_deviation(reference, deviation)
        yield f"score          {scored:.2f} +- {spread:.2f} by its own references"
    if known is not None:
        scored, spread = scores.normalized_score(known, mean), scores.normalized_deviation(known, deviation)
        yield f"score          {scored:.2f} +- {spread:.2f} by D4RL's references"


def check(
    source: str, env_id: str | None, max_episode_steps: int | None, echo: Callable[[str], None]
) -> None:
    """Print what is odd about a dataset, or that nothing is.

    Raises:
        UserError: where it is faulty, is not of the environment, or there is no such environment.
    """
    spec = None
    if env_id is not None:
        env = registry.make(env_id, num_envs=1)
        spec = env.spec
        if (close := getattr(env, "close", None)) is not None:
            close()
    remarks = formats.load(source, spec, env_id, max_episode_steps=max_episode_steps).notes["remarks"]
    for remark in remarks:
        echo(f"warning: {remark}")
    echo(f"{source}: no faults, {len(remarks)} warnings")


def convert(
    source: str, out: Path, form: str, max_episode_steps: int | None, echo: Callable[[str], None]
) -> None:
    """Write a dataset in another format, telling what was odd about it.

    Raises:
        DatasetError: as `formats.load` and `formats.save`.
    """
    dataset = formats.load(source, max_episode_steps=max_episode_steps)
    for remark in dataset.notes["remarks"]:
        echo(f"warning: {remark}")
    formats.save(dataset, out, form)
