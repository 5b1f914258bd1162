"""Evaluate the runs that training left."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import envs
from agents import experiment
from agents.experiment import ExperimentConfig
from agents.parts import Algorithm
from valuelearn import checkpoint, config, evaluate, logs
from valuelearn.types import EnvSpec, FunctionalEnv, LearnerState

_HOST_COPIES = 8  # Environments that share the episodes of an evaluation on the host.

Say = Callable[[str], None]


def _algorithm(cfg: ExperimentConfig, spec: EnvSpec) -> Algorithm:
    """The algorithm as it was trained, whatever the number of copies that it now plays."""
    return experiment.make_algorithm(cfg, spec._replace(num_envs=cfg.env.num_envs))


def learners(cfg: ExperimentConfig, folder: Path, spec: EnvSpec) -> list[LearnerState]:
    """The trained learner of each seed of a finished run; only its parameters are known."""
    blank = experiment.abstract_learner(_algorithm(cfg, spec), spec)
    like, seeds = blank.params, cfg.train.seeds
    # The parameters of seeds that were trained together, and only those, have an axis of seeds.
    if functional := envs.is_functional(cfg.env.id):
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype), like)
    params = checkpoint.restore_params(folder / "params", like)
    each = [jax.tree.map(lambda x, i=i: x[i], params) for i in range(seeds)] if functional else [params]
    return [LearnerState(params, None, None, jax.random.key(0), jnp.int32(0)) for params in each]


def evaluate_run(folder: Path, episodes: int, video: Path | None, say: Say) -> list[np.ndarray]:
    """Play whole greedy episodes with every seed of a run; returns each seed's returns f32[episodes].

    `video` gets an animation of the first seed's first episode, for environments that draw.

    Raises:
        RunFolderError, ConfigError, CheckpointError: where the folder is not a finished run.
        UnknownEnvironmentError: where a video is asked for and what draws it is not installed.
    """
    cfg = experiment.load_run(folder)
    functional = envs.is_functional(cfg.env.id)
    if video is not None:
        if functional:
            raise config.ConfigError(f"--video {video}: {cfg.env.id} cannot be drawn")
        logs.check_new_file(video, (".gif",))
        _film(cfg, folder, video)  # First, so that a missing package is found before the long part.
        say(f"wrote {video}")
    env = cfg.env.make(episodes if functional else min(episodes, _HOST_COPIES))
    agent = _algorithm(cfg, env.spec).agent
    found = []
    for index, learner in enumerate(learners(cfg, folder, env.spec)):
        seed = cfg.train.seed + index
        if isinstance(env, FunctionalEnv):
            key = jax.random.fold_in(jax.random.key(seed), 1)  # Not the episodes of training.
            returns = evaluate.functional_returns(agent, env, learner, cfg.evaluation.epsilon, key)
        else:
            returns = evaluate.host_returns(
                agent, env, learner, cfg.evaluation.epsilon, seed + 2**20, episodes
            )
        found.append(returns)
        error = f" +- {returns.std(ddof=1) / episodes**0.5:.2f}" if episodes > 1 else ""
        say(f"seed {seed}: greedy return {returns.mean():.2f}{error}, episodes {episodes}")
    if not isinstance(env, FunctionalEnv):
        env.close()
    return found


def _film(cfg: ExperimentConfig, folder: Path, video: Path) -> None:
    """Write one greedy episode of the first seed as an animation."""
    env = cfg.env.make(1)
    assert not isinstance(env, FunctionalEnv)
    agent = _algorithm(cfg, env.spec).agent
    learner = learners(cfg, folder, env.spec)[0]
    frames: list[np.ndarray] = []
    policy = (agent, env, learner, cfg.evaluation.epsilon)
    try:
        evaluate.host_returns(*policy, cfg.train.seed, 1, lambda env: frames.append(env.render()))
    finally:
        env.close()
    logs.write_animation(video, frames)
