"""What a study is: one run with something changed and all else equal, over seeds; and its trials.

    title: HL-Gauss against squared error on MinAtar
    config: ../../agents/configs/minatar/pqn_hl_gauss.yaml   # From the study's own folder.
    overrides: {train.env_frames: 500_000}
    axes:
      agent.head: [mse, hl_gauss]
      env.id: [minatar/breakout, minatar/asterix]
    baseline: {agent.head: mse}
    seeds: 5

The values of `env.id` are the tasks; every combination of the other axes is a method. Whole configs are
compared by an axis of their names, tasks that differ in more than a key by `tasks`:

    axes: {config: [../../agents/configs/offline/bc.yaml, ../../agents/configs/offline/iql.yaml]}
    tasks:
      hopper: {env.id: mujoco/Hopper-v5, offline.dataset: data/hopper/medium.hdf5}
      cheetah: {env.id: mujoco/HalfCheetah-v5, offline.dataset: data/cheetah/medium.hdf5}
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from agents.experiment_config import ExperimentConfig
from valuelearn import config
from valuelearn.config import Misfit, Section
from valuelearn.errors import UserError

_TASK = "env.id"
_CONFIG = "config"  # An axis of whole configs.
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
    config: str | None = None
    """The config that all trials share, from the study's folder; none where the axes name some."""
    overrides: dict[str, Any] = Field(default={})
    """Keys of that config and the values that all trials share."""
    axes: Annotated[dict[str, Values], Field(min_length=1)]
    """Keys of that config and the values that are compared, or, for env.id, that are the tasks."""
    tasks: dict[str, dict[str, Any]] = Field(default={})
    """Tasks by name, and what keys and values make each; none for the values of env.id among the axes."""
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
        if (self.config is None) == (_CONFIG not in self.axes):
            reason = "a config for all trials, or an axis of them, is wanted"
            raise Misfit("config", self.config, reason, "axes")
        for name in self.tasks:
            if not re.fullmatch(r"\w[^\0]{,99}", name):  # Not "..", which leads out of the folder.
                reason = "a task's name is a folder's; a letter or a digit is wanted at its beginning"
                raise Misfit("tasks", name, reason)
        if self.tasks and _TASK in self.axes:
            raise Misfit("tasks", sorted(self.tasks), "they are named here or by env.id, not both", "axes")
        if self.tuning is not None:
            ours, tuning = seeds_of(self), seeds_of(self.tuning)
            if max(ours.start, tuning.start) < min(ours.stop, tuning.stop):
                reason = "these runs would be both tuned on and reported"
                raise Misfit("tuning.first_seed", self.tuning.first_seed, reason, "first_seed", "seeds")
        return self

    def anchored(self, folder: Path) -> "StudyConfig":
        """The study with whole paths for configs named from `folder`: copies of it have no siblings."""
        if self.config is not None:
            return self.model_copy(update={"config": str((folder / self.config).resolve())})
        paths = tuple(str((folder / path).resolve()) for path in self.axes[_CONFIG])
        changes: dict[str, Any] = {"axes": self.axes | {_CONFIG: paths}}
        if _CONFIG in self.baseline:
            base = str((folder / self.baseline[_CONFIG]).resolve())
            changes["baseline"] = self.baseline | {_CONFIG: base}
        return self.model_copy(update=changes)

    def methods(self) -> list[Settings]:
        """Every combination of the axes that are not the task."""
        axes = {key: values for key, values in self.axes.items() if key != _TASK}
        combinations = itertools.product(*axes.values())
        return [_settings(dict(zip(axes, values, strict=True))) for values in combinations]

    def baseline_of(self, method: Settings) -> Settings | None:
        """The method that this one is compared with; None where that is itself."""
        # As the axis has it: 0.0 in the baseline is 0 in the axis.
        own = {key: next(x for x in self.axes[key] if x == value) for key, value in self.baseline.items()}
        base = dict(_settings(own))
        found = tuple((key, base.get(key, value)) for key, value in method)
        return None if found == method else found


def shown(key: str, value: str) -> str:
    """A setting's value as people read it: of a whole config its name."""
    text = value.strip('"')
    return Path(text).stem if key == _CONFIG else text


def seeds_of(group: StudyConfig | TuningConfig) -> range:
    """The seeds of the study's runs, or of its tuning."""
    return range(group.first_seed, group.first_seed + group.seeds)


class Trial(NamedTuple):
    """One run of the study: all seeds at once on a jitted environment or a dataset, else one of them."""

    method: Settings
    tuned: Settings  # The tuned key's value, where there is one.
    task: str
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
    text = ",".join(f"{key}={shown(key, value)}" for key, value in settings).replace('"', "")
    return re.sub(r"[^\w.,=+-]+", "-", text) or "all"


def _tasks(study: StudyConfig, file: Path, arguments: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The tasks by name, with what makes each."""
    if study.tasks:
        return study.tasks
    ids = study.axes.get(_TASK) or (config.load(ExperimentConfig, file, arguments).env.id,)
    return {str(env_id): {_TASK: env_id} for env_id in ids}


def _trials(
    study: StudyConfig, path: Path, folder: Path, seeds: range, variants: Iterable[tuple[Settings, Settings]]
) -> list[Trial]:
    """Every method, with a value of the tuned key, on each task."""
    found = []
    for method, tuned in variants:
        named = dict(method)
        file = path.parent / (json.loads(named.pop(_CONFIG)) if study.config is None else study.config)
        settings = (*_settings(study.overrides), *named.items(), *tuned)
        arguments = tuple(f"{key}={value}" for key, value in settings)
        for task, keys in _tasks(study, file, arguments).items():
            own = (*arguments, *(f"{key}={value}" for key, value in _settings(keys)))
            try:
                cfg = config.load(ExperimentConfig, file, own)
            except config.ConfigError as error:
                raise config.ConfigError(f"{path}: {error}") from None
            at_once = cfg.together
            for some in [seeds] if at_once else [range(seed, seed + 1) for seed in seeds]:
                last = f"seeds-{some[0]}-to-{some[-1]}" if len(some) > 1 else f"seed-{some[0]}"
                where = folder / _name((*method, *tuned)) / task.replace("/", "-") / last
                ours = (f"train.seed={some[0]}", f"train.seeds={len(some)}")
                found.append(Trial(method, tuned, task, file, (*own, *ours), where))
    tasks: dict[Settings, dict[str, None]] = {}
    for trial in found:
        tasks.setdefault(trial.method, {})[trial.task] = None
    if len(different := {tuple(own) for own in tasks.values()}) > 1:
        shown = " and ".join(sorted(", ".join(own) for own in different))
        raise UserError(
            f"{path}: its methods would be compared on different tasks, {shown}; name tasks, or env.id "
            "among the axes"
        )
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
