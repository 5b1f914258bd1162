"""Train and evaluate runs: what the command line calls."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import envs
from agents import experiment
from agents.experiment import Experiment, ExperimentConfig
from valuelearn import checkpoint, config, evaluate, logs, loop, plots
from valuelearn.types import EnvSpec, FunctionalEnv, LearnerState

_HOST_COPIES = 8  # Environments that share the episodes of an evaluation on the host.
_REFERENCE = Path(__file__).parent.parent / "benchmarks" / "reference" / "atari_dopamine.csv"

Say = Callable[[str], None]


def _free_bytes() -> int:
    """Memory that the default device can still give."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    stats = device.memory_stats()
    return stats["bytes_limit"] - stats["bytes_in_use"]


def check_memory(cfg: ExperimentConfig, built: Experiment) -> str:
    """A sentence on what the collected experience takes.

    Raises:
        ConfigError: where it takes more than nine tenths of the device's free memory.
    """
    needed, free = built.algorithm.memory_bytes * cfg.train.seeds, _free_bytes()
    device = jax.devices()[0].device_kind
    if needed > 0.9 * free:
        raise config.ConfigError(
            f"experience would take {needed / 2**30:.2f} GiB of the {free / 2**30:.2f} GiB free on {device}; "
            "lower agent.replay.capacity or train.seeds"
        )
    return f"experience: {needed / 2**30:.2f} GiB of the {free / 2**30:.2f} GiB free on {device}"


def _mean_over_seeds(values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # No seed ended an episode: NaN is meant.
        return float(np.nanmean(values))


def train(cfg: ExperimentConfig, folder: Path, command: list[str], say: Say) -> None:
    """Train one run, or several seeds of it at once, and leave everything in `folder`.

    Raises:
        ConfigError: where the experience does not fit the memory.
        RunFolderError: where the folder is in use or cannot be written.
    """
    built = experiment.make(cfg)
    say(check_memory(cfg, built))
    env, algorithm = built.env, built.algorithm
    run = logs.RunFolder(folder, config.dump(cfg), command)
    seeds = range(cfg.train.seed, cfg.train.seed + cfg.train.seeds)
    parts = (algorithm.agent, env, algorithm.memory, built.schedule)
    functional = isinstance(env, FunctionalEnv)
    chunks = loop.train_functional(*parts, list(seeds)) if functional else loop.train_host(*parts, seeds[0])
    progress = logs.Progress(cfg.train.env_frames)
    try:
        for chunk in chunks:
            columns = dict(chunk.metrics)
            columns["env_frames"] = columns.pop("env_steps") * env.spec.frames_per_step
            for index, seed in enumerate(seeds):
                run.metrics({"seed": seed} | {name: column[index].item() for name, column in columns.items()})
            summary = {name: _mean_over_seeds(column) for name, column in columns.items()}
            run.timing(progress.chunk(int(columns["env_frames"][0]), summary, chunk.compile_seconds))
    finally:
        progress.close()
        run.close()
    checkpoint.save_params(folder / "params", chunk.state.learner.params)
    if not functional:
        env.close()
    metrics = logs.read_metrics(folder)
    for million, mean in logs.per_million_frames(metrics).items():
        say(f"training return in million {million}: {mean:.2f}")
    plot([folder], folder / "curve.png")
    if cfg.evaluation.episodes:
        evaluate_run(folder, cfg.evaluation.episodes, None, say)


def _load(folder: Path) -> ExperimentConfig:
    if not (folder / "config.yaml").is_file():
        raise logs.RunFolderError(f"{folder}: is not a run folder (it has no config.yaml)")
    return config.load(ExperimentConfig, folder / "config.yaml")


def _learners(cfg: ExperimentConfig, folder: Path, spec: EnvSpec) -> list[LearnerState]:
    """The trained learner of each seed."""
    agent = experiment.make_algorithm(cfg, spec).agent
    obs = jnp.zeros((spec.num_envs, *spec.obs_shape), spec.obs_dtype)
    blank = jax.eval_shape(agent.init, jax.random.key(0), obs)
    seeds = cfg.train.seeds
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype), blank.params)
    params = checkpoint.restore_params(folder / "params", like)
    return [
        LearnerState(jax.tree.map(lambda x, i=i: x[i], params), None, None, jax.random.key(0), jnp.int32(0))
        for i in range(seeds)
    ]


def evaluate_run(folder: Path, episodes: int, video: Path | None, say: Say) -> list[np.ndarray]:
    """Play whole greedy episodes with every seed of a run; returns each seed's returns f32[episodes].

    `video` gets an animation of the first seed's first episode, for environments that draw.

    Raises:
        RunFolderError, ConfigError, CheckpointError: where the folder is not a finished run.
    """
    cfg = _load(folder)
    functional = envs.is_functional(cfg.env.id)
    if video is not None and functional:
        raise config.ConfigError(f"{cfg.env.id} cannot be drawn; --video is for atari/ and gym/ environments")
    env = cfg.env.make(episodes if functional else min(episodes, _HOST_COPIES))
    agent = experiment.make_algorithm(cfg, env.spec).agent
    found = []
    for index, learner in enumerate(_learners(cfg, folder, env.spec)):
        seed = cfg.train.seed + index
        if functional:
            key = jax.random.fold_in(jax.random.key(seed), 1)  # Not the episodes of training.
            returns = evaluate.functional_returns(agent, env, learner, cfg.evaluation.epsilon, key)
        else:
            returns = evaluate.host_returns(
                agent, env, learner, cfg.evaluation.epsilon, seed + 2**20, episodes
            )
        found.append(returns)
        error = returns.std(ddof=1) / len(returns) ** 0.5 if len(returns) > 1 else np.nan
        say(f"seed {seed}: greedy return {returns.mean():.2f} +- {error:.2f} over {episodes} episodes")
    if video is not None:
        _film(cfg, folder, video)
        say(f"wrote {video}")
    return found


def _film(cfg: ExperimentConfig, folder: Path, video: Path) -> None:
    """Write one greedy episode of the first seed as an animation."""
    env = cfg.env.make(1)
    agent = experiment.make_algorithm(cfg, env.spec).agent
    learner = _learners(cfg, folder, env.spec)[0]
    frames: list[np.ndarray] = []
    evaluate.host_returns(
        agent, env, learner, cfg.evaluation.epsilon, cfg.train.seed, 1, lambda env: frames.append(env.render())
    )
    env.close()
    logs.write_animation(video, frames)


def plot(folders: list[Path], file: Path) -> None:
    """Draw the runs' learning curves, beside the published one where they are of one Atari game.

    Raises:
        RunFolderError: where a folder is not a run.
    """
    configs = [_load(folder) for folder in folders]
    ids = {cfg.env.id for cfg in configs}
    reference = None
    if len(ids) == 1 and (env_id := ids.pop()).startswith("atari/"):
        game = env_id.removeprefix("atari/").replace("_", "")
        published = plots.read_reference(_REFERENCE, game, "dqn_adam_mse")
        if published is not None:
            reference = ("Dopamine, DQN (Adam, MSE), 5 seeds", *published)
    title = ", ".join(sorted({cfg.env.id for cfg in configs}))
    plots.curves(folders, file, title, reference)
