"""Processes that are killed or stopped."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.ground import (
    DATASETS,
    RUNS,
    Ground,
    Outcome,
    checkpoints,
    finish,
    kill,
    lost,
    run,
    start,
)
from benchmarks.kill import CONFIGS, launch

_STUDY = """\
title: Two heads on a probe
config: {config}
overrides:
  env: {{id: probe/action, num_envs: 8}}
  agent.network.hidden: [16]
  train: {{env_frames: 20_000, log_frames: 2_000, collect_steps: 8}}
  agent.minibatches: 4
  evaluation.episodes: 0
axes:
  agent.head: [mse, hl_gauss]
baseline: {{agent.head: mse}}
seeds: 2
"""


def _name(chance: random.Random) -> str:
    return chance.choice(list(RUNS))


def training(ground: Ground, chance: random.Random) -> Outcome:
    """SIGKILL at a random time of a run: between imports and its end."""
    name, folder = _name(chance), ground.place() / "run"
    ground.alone(name)
    process = start(name, folder)
    time.sleep(chance.uniform(0, 12))
    kill(process)
    return ground.ends_as_alone(name, folder)


def saving(ground: Ground, chance: random.Random) -> Outcome:
    """SIGKILL while a checkpoint is being written, a random instant after its files begin to appear."""
    name, folder = _name(chance), ground.place() / "run"
    ground.alone(name)
    nth = chance.randrange(4)
    process = start(name, folder)
    while process.poll() is None:
        drafts = any("tmp" in path.name for path in (folder / "checkpoints").glob("*"))
        if drafts and len(checkpoints(folder)) >= min(nth, 3):
            break
    time.sleep(chance.uniform(0, 0.2))
    kill(process)
    return ground.ends_as_alone(name, folder)


def stopping(ground: Ground, chance: random.Random) -> Outcome:
    """SIGTERM or Ctrl-C while it learns: it saves itself and ends with 130, or had ended."""
    folder = ground.place() / "run"
    ground.alone("inside")
    process = start("inside", folder)
    while process.poll() is None and not checkpoints(folder):
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 1))
    os.kill(process.pid, chance.choice([signal.SIGTERM, signal.SIGINT]))
    ended = finish(process)
    if ended.code not in (0, 130) or "Traceback" in ended.text:
        return lost("it should have saved itself", ended)
    return ground.ends_as_alone("inside", folder)


def sweep(ground: Ground, chance: random.Random) -> Outcome:
    """SIGKILL of a study with its trials; the same command goes on with what is missing."""

    def command(out: Path) -> list[str | Path]:
        file = out.parent / f"{out.name}.yaml"
        file.write_text(_STUDY.format(config=CONFIGS / "minatar" / "pqn_hl_gauss.yaml"))
        return ["ablate", file, "overrides.agent.network={torso: mlp}", "--out", out]

    def same(one: Path, other: Path) -> bool:
        return _scores(one) == _scores(other)

    return _repeated(ground, "study", command, chance.uniform(2, 30), same)


def _scores(study: Path) -> list[list[str]]:
    """All but the seconds, which no seed determines."""
    head, *rows = ((study / "scores.csv").read_text()).splitlines()
    column = head.split(",").index("seconds")
    return [[cell for at, cell in enumerate(row.split(",")) if at != column] for row in (head, *rows)]


def recording(ground: Ground, chance: random.Random) -> Outcome:
    """SIGKILL while datasets are made, from training to writing; the same command makes the same bytes."""

    def command(out: Path) -> list[str | Path]:
        asked = ("--quality", "medium", "--quality", "medium-replay", "--rows", "300")
        return ["dataset", "make", *DATASETS, *asked, "--out", out]

    def same(one: Path, other: Path) -> bool:
        return all(file.read_bytes() == (other / file.name).read_bytes() for file in one.glob("*.hdf5"))

    return _repeated(ground, "datasets", command, chance.uniform(2, 25), same)


def _repeated(
    ground: Ground,
    name: str,
    command: Callable[[Path], list[str | Path]],
    seconds: float,
    same: Callable[[Path, Path], bool],
) -> Outcome:
    """Kill a command after some seconds, give it again, and compare what it made with one left alone."""

    def whole(out: Path) -> None:
        ended = run(*command(out))
        assert ended.code == 0, ended.text

    reference = ground.once(name, whole)
    out = ground.place() / name
    process = launch(*command(out))
    time.sleep(seconds)
    kill(process)
    ended = run(*command(out))
    if ended.code:
        return lost("the same command did not go on", ended)
    return Outcome("went on", f"the same {name}") if same(reference, out) else lost(f"other {name}")
