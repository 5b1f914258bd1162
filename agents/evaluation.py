"""Evaluate the runs that training left."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import envs
from agents import asking, experiment
from agents.experiment import ExperimentConfig
from agents.parts import Algorithm
from agents.stock_dqn import StockDQNConfig
from valuelearn import checkpoint, config, evaluate, logs
from valuelearn.types import EnvSpec, FunctionalEnv, HostEnv, LearnerState

_HOST_COPIES = 8  # Environments that share the episodes of an evaluation on the host.
_FIRST = 64  # First observations over which a network's account of a first stock is averaged.
_CHOOSING = 2**21  # Between the seeds of episodes that choose a stock and of those that are counted.

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


def play(
    cfg: ExperimentConfig,
    env: FunctionalEnv | HostEnv,
    learner: LearnerState,
    seed: int,
    episodes: int,
) -> evaluate.Returns:
    """Returns of whole greedy episodes; a functional `env` has a copy for each."""
    agent = _algorithm(cfg, env.spec).agent
    if isinstance(env, FunctionalEnv):
        key = jax.random.fold_in(jax.random.key(seed), 1)  # Not the episodes of training.
        return evaluate.functional_returns(agent, env, learner, cfg.evaluation.epsilon, key, cfg.agent.gamma)
    return evaluate.host_returns(
        agent, env, learner, cfg.evaluation.epsilon, seed + 2**20, episodes, cfg.agent.gamma
    )


def evaluate_run(
    folder: Path, episodes: int, video: Path | None, say: Say, overrides: Sequence[str] = ()
) -> list[np.ndarray]:
    """Play whole greedy episodes with every seed of a run; returns each seed's returns f32[episodes].

    Stock agents answer with the discounted returns f32[episodes], [episodes, m] for vectors, that they
    bring when asked for `evaluation.objective`. `overrides` are `key=value` over the run's config.
    `video` gets an animation of the first seed's first episode, for environments that draw.

    Raises:
        RunFolderError, ConfigError, CheckpointError: where the folder is not a finished run.
        UnknownEnvironmentError: where a video is asked for and what draws it is not installed.
    """
    cfg = experiment.load_run(folder, overrides)
    functional = envs.is_functional(cfg.env.id)
    if video is not None:
        if functional:
            raise config.ConfigError(f"--video {video}: {cfg.env.id} cannot be drawn")
        logs.check_new_file(video, (".gif",))
        _film(cfg, folder, video)  # First, so that a missing package is found before the long part.
        say(f"wrote {video}")
    env = experiment.make_env(cfg, episodes if functional else min(episodes, _HOST_COPIES))
    found = []
    for index, learner in enumerate(learners(cfg, folder, env.spec)):
        seed = cfg.train.seed + index
        if isinstance(cfg.agent, StockDQNConfig):
            returns, text = _asked(cfg, cfg.agent, env, learner, seed, episodes)
        else:
            returns = play(cfg, env, learner, seed, episodes).undiscounted
            error = f" +- {returns.std(ddof=1) / episodes**0.5:.2f}" if episodes > 1 else ""
            text = f"greedy return {returns.mean():.2f}{error}"
        found.append(returns)
        say(f"seed {seed}: {text}, episodes {episodes}")
    if not isinstance(env, FunctionalEnv):
        env.close()
    return found


def _asked(
    cfg: ExperimentConfig,
    agent: StockDQNConfig,
    env: FunctionalEnv | HostEnv,
    learner: LearnerState,
    seed: int,
    episodes: int,
) -> tuple[np.ndarray, str]:
    """Discounted returns of a stock agent asked for the config's objective, and a sentence on them."""
    objective = cfg.evaluation.objective
    if objective is None:
        returns = play(cfg, env, learner, seed, episodes)
        return returns.discounted, asking.as_trained(agent, returns)
    first = env.init(jax.random.key(seed))[1] if isinstance(env, FunctionalEnv) else env.reset(seed)

    def played(question: asking.Question, seed: int) -> evaluate.Returns:
        asked = experiment.make_env(cfg, env.spec.num_envs, question.stocks)
        try:
            return play(cfg, asked, learner, seed, episodes)
        finally:
            if not isinstance(asked, FunctionalEnv):
                asked.close()

    question = asking.question(
        agent,
        objective,
        cfg.evaluation.stock,
        env.spec,
        learner.params,
        first.obs[:_FIRST],
        # The episodes that choose are not those that count.
        lambda question: played(question, seed + _CHOOSING),
    )
    returns = played(question, seed)
    return returns.discounted, asking.scored(question, returns)


def _film(cfg: ExperimentConfig, folder: Path, video: Path) -> None:
    """Write one greedy episode of the first seed as an animation."""
    env = experiment.make_env(cfg, 1)
    assert not isinstance(env, FunctionalEnv)
    agent = _algorithm(cfg, env.spec).agent
    learner = learners(cfg, folder, env.spec)[0]
    frames: list[np.ndarray] = []
    policy = (agent, env, learner, cfg.evaluation.epsilon)
    try:
        evaluate.host_returns(*policy, cfg.train.seed, 1, on_step=lambda env: frames.append(env.render()))
    finally:
        env.close()
    logs.write_animation(video, frames)
