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
from agents.parts import Algorithm
from valuelearn import checkpoint, config, evaluate, logs, loop, plots
from valuelearn.errors import no_such_path
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
    """A sentence on what the collected experience and the learners take.

    Raises:
        Misfit: where they take more than nine tenths of the device's free memory.
    """
    leaves = jax.tree.leaves(built.learner)
    experience = built.algorithm.memory_bytes * cfg.train.seeds
    learner = sum(x.size * x.dtype.itemsize for x in leaves) * cfg.train.seeds
    free, device = _free_bytes(), jax.devices()[0].device_kind
    text = (
        f"{experience / 2**30:.2f} GiB of experience and {learner / 2**30:.2f} GiB of networks, "
        f"of {free / 2**30:.2f} GiB free on {device}"
    )
    if experience + learner <= 0.9 * free:
        return f"memory: {text}"
    found: object
    if learner > experience:
        key, found = "agent.network.hidden", list(cfg.agent.network.hidden)
    elif cfg.agent.name == "dqn":
        key, found = "agent.replay.capacity", cfg.agent.replay.capacity
    else:
        key, found = "env.num_envs", cfg.env.num_envs
    raise config.Misfit(key, found, f"the run would need {text}; lower it", "train.seeds")


def _mean_over_seeds(values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # No seed ended an episode: NaN is meant.
        return float(np.nanmean(values))


def train(cfg: ExperimentConfig, folder: Path, command: list[str], say: Say) -> None:
    """Train one run, or several seeds of it at once, and leave everything in `folder`.

    Raises:
        Misfit: where the environment or the memory does not allow what the config asks.
        RunFolderError: where the folder is in use or cannot be written.
    """
    logs.check_new_folder(folder)
    built = experiment.make(cfg)
    memory = check_memory(cfg, built)
    env, algorithm = built.env, built.algorithm
    run = logs.RunFolder(folder, config.dump(cfg), command)
    say(memory)  # Only now: whoever is refused hears one sentence.
    seeds = range(cfg.train.seed, cfg.train.seed + cfg.train.seeds)
    if isinstance(env, FunctionalEnv):
        chunks = loop.train_functional(algorithm.agent, env, algorithm.memory, built.schedule, list(seeds))
    else:
        chunks = loop.train_host(algorithm.agent, env, algorithm.memory, built.schedule, seeds[0])
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
    if not isinstance(env, FunctionalEnv):
        env.close()
    metrics = logs.read_metrics(folder)
    for million, mean in logs.per_million_frames(metrics).items():
        say(f"training return in million {million}: {mean:.2f}")
    plot([folder], folder / "curve.png")
    if cfg.evaluation.episodes:
        evaluate_run(folder, cfg.evaluation.episodes, None, say)


def _load(folder: Path) -> ExperimentConfig:
    if not folder.exists():
        raise logs.RunFolderError(f"{folder}: {no_such_path(folder)}")
    if not (folder / "config.yaml").is_file():
        raise logs.RunFolderError(f"{folder}: this is not a run folder: it has no config.yaml")
    return config.load(ExperimentConfig, folder / "config.yaml")


def _algorithm(cfg: ExperimentConfig, spec: EnvSpec) -> Algorithm:
    """The algorithm as it was trained, whatever the number of copies that it now plays."""
    return experiment.make_algorithm(cfg, spec._replace(num_envs=cfg.env.num_envs))


def _learners(cfg: ExperimentConfig, folder: Path, spec: EnvSpec) -> list[LearnerState]:
    """The trained learner of each seed."""
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
    cfg = _load(folder)
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
    for index, learner in enumerate(_learners(cfg, folder, env.spec)):
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
    learner = _learners(cfg, folder, env.spec)[0]
    frames: list[np.ndarray] = []
    policy = (agent, env, learner, cfg.evaluation.epsilon)
    try:
        evaluate.host_returns(*policy, cfg.train.seed, 1, lambda env: frames.append(env.render()))
    finally:
        env.close()
    logs.write_animation(video, frames)


def plot(folders: list[Path], file: Path) -> None:
    """Draw the runs' learning curves, beside the published one where they are of one Atari game.

    Raises:
        RunFolderError: where a folder is not a run, or the picture cannot be written.
    """
    logs.check_new_file(file, (".png", ".pdf", ".svg"))
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
