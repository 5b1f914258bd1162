"""Train what a publication trained, and hold the curves against the published ones.

What `reproduce_atari` and `reproduce_robots` share: which agents are published, their runs, the verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents import curves, experiment, training
from agents.experiment_config import ExperimentConfig
from valuelearn import config
from valuelearn.errors import UserError, did_you_mean
from valuelearn.plots import Published

_CONFIGS = Path(experiment.__file__).parent / "configs"

Say = Callable[[str], None]


class Agent(NamedTuple):
    """An agent whose curves are published."""

    config: str  # Its file.
    published: str  # Its name among the published curves.


AGENTS = {  # By the kind of the environment, which is also the folder of the configs.
    "atari": {
        "dqn_mse": Agent("dqn_mse.yaml", "dqn_adam_mse"),
        "dqn_huber_rmsprop": Agent("dqn_huber_rmsprop.yaml", "dqn_rmsprop_huber"),
        "c51": Agent("c51.yaml", "c51"),
        "qr_dqn": Agent("qr.yaml", "qr_dqn_n3_per"),
        "iqn": Agent("iqn.yaml", "iqn"),
        "rainbow": Agent("rainbow.yaml", "rainbow"),
    },
    "mujoco": {"sac": Agent("sac.yaml", "sac")},
}


class Target(NamedTuple):
    """What is to be reproduced."""

    env_id: str
    config: Path
    agent: str  # Its name among the published curves.
    curve: Published


def target(env_id: str, agent: str) -> Target:
    """An agent on an environment, with its published curve.

    Raises:
        UserError: where there is none.
    """
    kind = env_id.partition("/")[0]
    agents = AGENTS.get(kind, {})
    if agents and agent not in agents:
        mend = did_you_mean(agent, agents) or f"known here: {', '.join(agents)}"
        raise UserError(f"--agent {agent}: {mend}")
    if not agents or (curve := curves.published(env_id, agents[agent].published)) is None:
        reason = "there is no published curve of it, as there is of 60 Atari games and 5 robots"
        raise UserError(f"{env_id}: {reason}")
    return Target(env_id, _CONFIGS / kind / agents[agent].config, agents[agent].published, curve)


def _of_curve(cfg: ExperimentConfig) -> dict[str, Any]:
    """What of a config a curve depends on: neither what is saved nor how many threads compute."""
    return cfg.model_dump(exclude={"checkpoint": True, "train": {"cpu_threads": True}})


def train(
    wanted: Target, env_frames: int, runs: Mapping[int, Path], command: list[str], say: Say, *overrides: str
) -> None:
    """Train the run of each seed in its folder; one that is there goes on, or is taken as it is.

    `overrides` are of what a curve does not depend on.

    Raises:
        UserError: where a folder holds another run, before any is trained.
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    arguments = {
        seed: [
            f"env.id={wanted.env_id}",
            f"train.env_frames={env_frames}",
            f"train.seed={seed}",
            *overrides,
        ]
        for seed in runs
    }
    configs = {seed: config.load(ExperimentConfig, wanted.config, arguments[seed]) for seed in runs}
    there = {seed for seed, folder in runs.items() if (folder / "config.yaml").exists()}
    for seed in there:
        if _of_curve(experiment.load_run(runs[seed])) != _of_curve(configs[seed]):
            raise UserError(f"{runs[seed]}: it holds another run; name another folder with --run")
    for seed, folder in runs.items():
        with config.placing(wanted.config, arguments[seed]):
            if seed in there:
                training.resume(folder, command, say)
            else:
                training.train(configs[seed], folder, command, say)


def verdict(lines: Sequence[str], good: Sequence[bool], criterion: str, say: Say) -> bool:
    """Whether all judged points are good; says so beneath the lines of a table."""
    for line in lines:
        say(line)
    reproduced = bool(good) and all(good)
    word = "reproduced" if reproduced else "NOT reproduced"
    say(f"{word}: {sum(good)} of {len(good)} judged points {criterion}")
    return reproduced
