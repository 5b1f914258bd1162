"""What a study is: one run with something changed and all else equal, over seeds; and its trials.

    title: HL-Gauss against squared error on MinAtar
    config: ../../agents/configs/minatar/pqn_hl_gauss.yaml   # From the study's own folder.
    overrides: {train.env_frames: 500_000}
    axes:
      agent.head: [mse, hl_gauss]
      env.id: [minatar/breakout, minatar/asterix]
    baseline: {agent.head: mse}
    seeds: 5

The values of `env.id` are the tasks; every combination of the other axes is a method.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

import envs
from agents.experiment import ExperimentConfig
from valuelearn import config
from valuelearn.config import Misfit, Section
from valuelearn.errors import UserError

_TASK = "env.id"
_OURS = ("train.seed", "train.seeds")  # Set for every trial.

Settings = tuple[tuple[str, str], ...]  # Keys of a run's config, and their values as JSON.
Values = Annotated[tuple[Any, ...], Field(min_length=1)]


def _settings(values: Mapping[str, Any]) -> Settings:
    return tuple((key, json.dumps(value)) for key, value in values.items())


class TuningConfig(Section):
    """A grid from which each method takes its best, by seeds that the study does not report."""

    key: str = "agent.optimizer.learning_rate"
    """The key that is tuned."""
    values: Annotated[tuple[Any, ...], Field(min_length=2)]
    """Its grid; the best has the highest interquartile mean over tasks and tuning seeds."""
    seeds: Annotated[int, Field(gt=0)] = 3
    """Runs of each value on each task."""
    first_seed: Annotated[int, Field(ge=0)] = 1_000
    """The first of the tuning seeds."""


class RayConfig(Section):
    """What trials ask of a Ray cluster."""

    address: str | None = None
    """The cluster's, such as auto or ray://host:10001; none starts one on this machine."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    """Cores that a trial takes."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that a trial takes."""


class StudyConfig(Section):
    """A study."""

    title: str
    """What the study asks."""
    config: str
    """The config that all trials share, from the study's folder."""
    overrides: dict[str, Any] = Field(default={})
    """Keys of that config and the values that all trials share."""
    axes: Annotated[dict[str, Values], Field(min_length=1)]
    """Keys of that config and the values that are compared, or, for env.id, that are the tasks."""
    baseline: dict[str, Any] = Field(default={})
    """Values of axes: each method is compared with the one that has these, and is equal otherwise."""
    seeds: Annotated[int, Field(gt=0)] = 5
    """Runs of each method on each task."""
    first_seed: Annotated[int, Field(ge=0)] = 0
    """The first of the seeds."""
    tuning: TuningConfig | None = None
    """How each method's tuned key is chosen; none leaves it to the config."""
    cluster: Literal["ray"] | None = None
    """Where trials run; none for processes of this machine. Folders must be shared by all machines."""
    ray: RayConfig = RayConfig()
    """What they ask of a Ray cluster."""

    @model_validator(mode="after")
    def _sound(self) -> "StudyConfig":
        for key, value in self.baseline.items():
            if key == _TASK or value not in self.axes.get(key, ()):
                reason = "a key of axes other than env.id is wanted, with one of its values"
                raise Misfit("baseline", self.baseline, reason, "axes")
        for group in ("axes", "overrides"):
            for key in getattr(self, group):
                if key in _OURS:
                    raise Misfit(group, key, "seeds are the study's to set: first_seed and seeds")
        if self.tuning is not None:
            ours, tuning = seeds_of(self), seeds_of(self.tuning)
            if max(ours.start, tuning.start) < min(ours.stop, tuning.stop):
                reason = "these runs would be both tuned on and reported"
                raise Misfit("tuning.first_seed", self.tuning.first_seed, reason, "first_seed", "seeds")
        return self

    def methods(self) -> list[Settings]:
        """Every combination of the axes that are not the task."""
        axes = {key: values for key, values in self.axes.items() if key != _TASK}
        combinations = itertools.product(*axes.values())
        return [_settings(dict(zip(axes, values, strict=True))) for values in combinations]

    def baseline_of(self, method: Settings) -> Settings | None:
        """The method that this one is compared with; None where that is itself."""
        base = dict(_settings(self.baseline))
        found = tuple((key, base.get(key, value)) for key, value in method)
        return None if found == method else found


def seeds_of(group: StudyConfig | TuningConfig) -> range:
    """The seeds of the study's runs, or of its tuning."""
    return range(group.first_seed, group.first_seed + group.seeds)


class Trial(NamedTuple):
    """One run of the study: all seeds at once on a jitted environment, else one of them."""

    method: Settings
    tuned: Settings  # The tuned key's value, where there is one.
    env_id: str
    config: Path
    arguments: tuple[str, ...]
    folder: Path

    def load(self) -> ExperimentConfig:
        """The run's config.

        Raises:
            ConfigError: for a mistake in the study's config, overrides or axes.
        """
        return config.load(ExperimentConfig, self.config, self.arguments)

    @property
    def log(self) -> Path:
        """The file with what the run said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def started(self) -> bool:
        """Whether there is something to resume."""
        return (self.folder / "config.yaml").exists()

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return (self.folder / "curve.png").exists()


def _name(settings: Settings) -> str:
    """Settings as the name of a folder."""
    text = ",".join(f"{key}={value}" for key, value in settings).replace('"', "")
    return re.sub(r"[^\w.,=+-]+", "-", text) or "all"


def _trials(
    study: StudyConfig, path: Path, folder: Path, seeds: range, variants: Iterable[tuple[Settings, Settings]]
) -> list[Trial]:
    """Every method, with a value of the tuned key, on each task."""
    shared = path.parent / study.config
    found = []
    for method, tuned in variants:
        settings = (*_settings(study.overrides), *method, *tuned)
        arguments = tuple(f"{key}={value}" for key, value in settings)
        tasks = study.axes.get(_TASK) or (config.load(ExperimentConfig, shared, arguments).env.id,)
        for env_id in map(str, tasks):
            together = [seeds] if envs.is_functional(env_id) else [range(seed, seed + 1) for seed in seeds]
            for some in together:
                own = (f"{_TASK}={json.dumps(env_id)}", f"train.seed={some[0]}", f"train.seeds={len(some)}")
                last = f"seeds-{some[0]}-to-{some[-1]}" if len(some) > 1 else f"seed-{some[0]}"
                where = folder / _name((*method, *tuned)) / env_id.replace("/", "-") / last
                found.append(Trial(method, tuned, env_id, shared, (*arguments, *own), where))
    if len({trial.folder for trial in found}) < len(found):
        raise UserError(f"{path}: two values of an axis are equal, or differ in punctuation alone")
    return found


def tuning_trials(study: StudyConfig, path: Path, out: Path) -> list[Trial]:
    """The trials that choose each method's value of the tuned key; none where nothing is tuned."""
    if study.tuning is None:
        return []
    grid = [_settings({study.tuning.key: value}) for value in study.tuning.values]
    variants = itertools.product(study.methods(), grid)
    return _trials(study, path, out / "tuning", seeds_of(study.tuning), variants)


def trials(study: StudyConfig, path: Path, out: Path, best: Mapping[Settings, Settings]) -> list[Trial]:
    """The trials that are reported, each method with its best value of the tuned key."""
    variants = [(method, best.get(method, ())) for method in study.methods()]
    return _trials(study, path, out / "trials", seeds_of(study), variants)
