"""Evaluate the runs that training left."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from agents import asking, experiment, recordings
from agents.experiment import Experiment
from agents.experiment_config import ExperimentConfig
from agents.stock_dqn import StockDQNConfig
from envs import datasets
from valuelearn import checkpoint, config, evaluate, logs, random_keys
from valuelearn.loop import Chunk
from valuelearn.types import Agent, EnvSpec, FunctionalEnv, HostEnv, LearnerState

_HOST_COPIES = 8  # Environments that share the episodes of an evaluation on the host.
_FIRST = 64  # First observations over which a network's account of a first stock is averaged.
_CHOOSING = 2**21  # Between the seeds of episodes that choose a stock and of those that are counted.
_LATE = 10  # Policies at the end of a run whose returns are averaged.
ALONG = ("return_deviation", "held_value", "obtained")  # What `along` adds to the metrics of all runs.

Say = Callable[[str], None]


def learners(cfg: ExperimentConfig, saved: Path, spec: EnvSpec) -> list[LearnerState]:
    """The learner of each seed whose parameters a run saved in `saved`; nothing else of it is known."""
    blank = experiment.abstract_learner(experiment.make_algorithm(cfg, spec), spec)
    like, seeds = blank.params, cfg.train.seeds
    # The parameters of seeds that were trained together, and only those, have an axis of seeds.
    if cfg.together:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype), like)
    params = checkpoint.restore_params(saved, like)
    each = [of_seed(cfg, params, index) for index in range(seeds)]
    return [LearnerState(params, None, None, jax.random.key(0), jnp.int32(0)) for params in each]


def of_seed(cfg: ExperimentConfig, tree: Any, index: int) -> Any:
    """What belongs to the seed at `index` of the parameters or the learner of a run's seeds."""
    return jax.tree.map(lambda x: x[index], tree) if cfg.together else tree


def play(
    cfg: ExperimentConfig,
    env: FunctionalEnv | HostEnv,
    learner: LearnerState,
    seed: int,
    episodes: int,
) -> evaluate.Returns:
    """Returns of whole greedy episodes; a functional `env` has a copy for each."""
    return _played(cfg, experiment.make_algorithm(cfg, env.spec).agent, env, learner, seed, episodes)


def _played(
    cfg: ExperimentConfig,
    agent: Agent,
    env: FunctionalEnv | HostEnv,
    learner: LearnerState,
    seed: int,
    episodes: int,
) -> evaluate.Returns:
    policy, gamma = evaluate.Policy(cfg.evaluation.epsilon, cfg.evaluation.stochastic), cfg.agent.gamma
    if isinstance(env, FunctionalEnv):
        return evaluate.functional_returns(agent, env, learner, policy, _evaluating(seed), gamma)
    return evaluate.host_returns(agent, env, learner, policy, host_seed(seed), episodes, gamma)


def _evaluating(seed: int) -> jax.Array:
    """The key of a seed's episodes inside the compiled loop, which are not those of training."""
    return jax.random.fold_in(jax.random.key(seed), 1)


def host_seed(seed: int) -> int:
    """What a seed's episodes on the host begin with; training has its seed and the steps so far."""
    return random_keys.host_seed(seed, 0, 1)


def along(cfg: ExperimentConfig, built: Experiment, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Chunks of a run that does not learn in the environment, with what each seed's policy obtains there.

    Whole episodes are played, the same first states each time; `held_value` and `obtained` are what the
    critics hold the policy to be worth in those states and what it then obtained, both discounted.
    """
    agent = built.algorithm.agent
    extremes = {}
    if cfg.rollouts is not None:
        episodes = cfg.rollouts.episodes
        env = experiment.make_env(cfg, max(episodes, 1))
    else:
        assert cfg.offline is not None
        episodes, env = cfg.offline.episodes, built.env
        _, rewards = recordings.held(built.algorithm.memory.init())
        # What the support doctor asks of a run that meets rewards one by one.
        extremes = {"reward_min": float(rewards.min()), "reward_max": float(rewards.max())}
    value = None if agent.value is None else jax.jit(agent.value)

    def found_of(learner: LearnerState, seed: int) -> dict[str, float]:
        returns = _played(cfg, agent, env, learner, seed, episodes)
        if isinstance(env, FunctionalEnv):
            first = evaluate.first_obs(env, _evaluating(seed))
        else:
            first = env.reset(host_seed(seed))
        held = np.nan if value is None else float(np.mean(value(learner, first)))
        obtained = returns.undiscounted
        return {
            "episodes": episodes,
            "episode_return": float(obtained.mean()),
            "return_deviation": float(obtained.std(ddof=1)) if episodes > 1 else np.nan,
            "held_value": held,
            "obtained": float(returns.discounted.mean()),
        }

    try:
        for chunk in chunks:
            each: list[dict[str, float]] = [dict(extremes) for _ in range(cfg.train.seeds)]
            if episodes:
                for index, found in enumerate(each):
                    found |= found_of(of_seed(cfg, chunk.state.learner, index), cfg.train.seed + index)
            columns = {name: np.array([one[name] for one in each], np.float64) for name in each[0]}
            yield chunk._replace(metrics=chunk.metrics | columns)
    finally:
        if not isinstance(env, FunctionalEnv):
            env.close()


def summary(cfg: ExperimentConfig, metrics: Mapping[str, np.ndarray]) -> list[str]:
    """What a run on a dataset came to, in sentences: its last policies, their mean, and apart the best."""
    said = []
    for seed in np.unique(metrics["seed"]):
        found = metrics["episode_return"][metrics["seed"] == seed]
        if np.isnan(found).any():
            continue
        late = found[-_LATE:]
        text = f"seed {seed:.0f}: last policy {found[-1]:.2f}, mean of the last {len(late)} {late.mean():.2f}"
        if datasets.d4rl_reference(cfg.env.id) is not None:
            text += f" (D4RL's scale: {datasets.normalized_score(cfg.env.id, late.mean()):.1f})"
        said.append(f"{text}; best of {len(found)} {found.max():.2f}, which is no estimate of anything")
    return said


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
            raise config.ConfigError(
                f"--video {video}: {cfg.env.id} cannot be drawn; atari/, mujoco/ and gym/ environments can"
            )
        logs.check_new_file(video, (".gif",))
        _film(cfg, folder, video)  # First, so that a missing package is found before the long part.
        say(f"wrote {video}")
    env = experiment.make_env(cfg, episodes if functional else min(episodes, _HOST_COPIES))
    found = []
    for index, learner in enumerate(learners(cfg, folder / "params", env.spec)):
        seed = cfg.train.seed + index
        if isinstance(cfg.agent, StockDQNConfig):
            returns, text = _asked(cfg, cfg.agent, env, learner, seed, episodes)
        else:
            returns = play(cfg, env, learner, seed, episodes).undiscounted
            error = f" +- {returns.std(ddof=1) / episodes**0.5:.2f}" if episodes > 1 else ""
            kind = "stochastic" if cfg.evaluation.stochastic else "greedy"
            text = f"{kind} return {returns.mean():.2f}{error}"
            if datasets.d4rl_reference(cfg.env.id) is not None:
                text += f" (D4RL's scale: {datasets.normalized_score(cfg.env.id, returns.mean()):.1f})"
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
    agent = experiment.make_algorithm(cfg, env.spec).agent
    learner = learners(cfg, folder / "params", env.spec)[0]
    frames: list[np.ndarray] = []
    policy = (agent, env, learner, evaluate.Policy(cfg.evaluation.epsilon, cfg.evaluation.stochastic))
    try:
        evaluate.host_returns(*policy, cfg.train.seed, 1, on_step=lambda env: frames.append(env.render()))
    finally:
        env.close()
    logs.write_animation(video, frames)
