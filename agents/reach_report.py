"""What a run in rollouts came to hold of the states that they end in, and where its model leads."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import evaluation, experiment, ravl, reach
from agents.experiment import Experiment
from agents.experiment_config import ExperimentConfig
from agents.ravl import RolloutsConfig
from envs import branched, terminal_rules
from envs.gym_host import GymEnv
from valuelearn import dynamics, evaluate, logs, moments, plots
from valuelearn.types import Array, EnvSpec, FunctionalEnv, LearnerState

Say = Callable[[str], None]
_ROLLOUTS = 256  # Of a learnt model.
_COLUMNS = ("going", "value", "disagreement", "doubt", "error")


class Step(NamedTuple):
    """What a step of E rollouts led to; of those that had ended before it means nothing."""

    next_obs: Array  # f32[E, D]
    ended: Array  # bool[E]
    doubt: float = np.nan  # How far apart a learnt model's members are, standard deviations of observations.
    error: float = np.nan  # How far the rollouts are from the simulator's, the same.


def report(folder: Path, say: Say) -> None:
    """Draw `reach.png` in a run's folder, and leave there what it shows of its last policies (`reach.csv`).

    Raises:
        RunFolderError, ConfigError, CheckpointError: where the folder is not a finished run in rollouts.
        Misfit: where the model or the dataset that it learnt from is no longer there.
    """
    cfg = experiment.load_run(folder)
    if cfg.rollouts is None:
        raise logs.RunFolderError(f"{folder}: this run did not learn in rollouts, which alone have a reach")
    if not (folder / "params").exists():
        raise logs.RunFolderError(f"{folder}: this run is unfinished; valuelearn resume {folder}")
    metrics = logs.read_metrics(folder, reach.COLUMNS + evaluation.ALONG)
    built = experiment.make(cfg)
    learners = evaluation.learners(cfg, folder / "params", built.env.spec)
    seeds = range(cfg.train.seed, cfg.train.seed + cfg.train.seeds)
    along = {
        seed: _along(cfg, cfg.rollouts, built, learner, seed)
        for seed, learner in zip(seeds, learners, strict=True)
    }
    if not isinstance(built.env, FunctionalEnv):
        built.env.close()
    rows = [(seed, index + 1, *row) for seed, table in along.items() for index, row in enumerate(table)]
    logs.write_table(folder / "reach.csv", ("seed", "step", *_COLUMNS), rows)
    mean = np.mean(list(along.values()), axis=0)
    plots.reach(metrics, dict(zip(_COLUMNS, mean.T, strict=True)), folder / "reach.png")
    for seed in seeds:
        say(_told(seed, {name: column[metrics["seed"] == seed][-1] for name, column in metrics.items()}))


def _told(seed: int, last: Mapping[str, float]) -> str:
    """What the last row of a seed's metrics tells."""
    share = f"{100 * last['edge_share']:.1f} % of targets read states at the edge of reach"
    values = f"worth {last['edge_value']:.2f} there and {last['inner_value']:.2f} elsewhere"
    apart = f"by {last['edge_disagreement']:.2f} and {last['inner_disagreement']:.2f}"
    first = (
        f"first states are held to be worth {last['held_value']:.2f}, and {last['obtained']:.2f} was obtained"
    )
    return f"seed {seed}: {share}; {values}, the lowest critic below the mean {apart}; {first}"


def _along(
    cfg: ExperimentConfig, rollouts: RolloutsConfig, built: Experiment, learner: LearnerState, seed: int
) -> np.ndarray:
    """`_COLUMNS` after each step of rollouts of a policy, f64[steps, 5]."""
    agent, spec = built.algorithm.agent, built.env.spec
    assert agent.value is not None and agent.values is not None
    value, values = jax.jit(agent.value), jax.jit(agent.values)
    if rollouts.learnt:
        spec = spec._replace(num_envs=_ROLLOUTS)
    acting = evaluate.acting(agent, evaluate.Policy(stochastic=True), spec)

    def act(obs: Array, key: jax.Array) -> jax.Array:
        return acting(learner, obs, key)

    if rollouts.learnt:
        steps = _of_model(cfg.env.id, rollouts, spec, act, seed)
    else:
        steps = _of_env(built, rollouts.steps, act, seed)
    going, rows = np.ones(spec.num_envs, bool), []
    for step in steps:
        worth, each = value(learner, step.next_obs), values(learner, step.next_obs)
        found = np.stack([worth, each.mean(0) - each.min(0)])
        means = found[:, going].mean(1) if going.any() else (np.nan, np.nan)
        rows.append((going.mean(), *means, step.doubt, step.error))
        going = going & ~np.asarray(step.ended)
    return np.array(rows, np.float64)


def _keys(seed: int, steps: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), (steps, 2))


def _of_env(
    built: Experiment, steps: int, act: Callable[[Array, jax.Array], jax.Array], seed: int
) -> Iterator[Step]:
    """Rollouts of dynamics that are known, or of the simulator."""
    env = built.env
    if isinstance(env, FunctionalEnv):
        state, obs = env.init(jax.random.key(seed))
        step = jax.jit(env.step)
        for act_key, env_key in _keys(seed, steps):
            state, timestep = step(state, act(obs, act_key), env_key)
            obs = timestep.obs
            yield Step(timestep.next_obs, timestep.last)
    else:
        obs = env.reset(seed)
        for act_key, _ in _keys(seed, steps):
            timestep = env.step(np.asarray(act(obs, act_key)))
            obs = timestep.obs
            yield Step(timestep.next_obs, timestep.last)


def _of_model(
    env_id: str,
    rollouts: RolloutsConfig,
    spec: EnvSpec,
    act: Callable[[Array, jax.Array], jax.Array],
    seed: int,
) -> Iterator[Step]:
    """Rollouts of a learnt model, and beside them the simulator's by the same actions, where it can be set.

    The model's members are asked about the states that the rollouts came to, and each state is drawn of one.
    """
    fitted = ravl.fitted(rollouts, env_id)
    dataset = ravl.recorded(rollouts, fitted, env_id, spec)
    predicted = ravl.predictor(rollouts, fitted)
    terminated = terminal_rules.rule(env_id)
    scale = moments.deviation(fitted.model.inputs)[: spec.obs_shape[0]]
    simulator: GymEnv | None = None
    if env_id.startswith("mujoco/") and "qpos" in dataset.infos:
        simulator = branched.make(env_id, dataset, spec.num_envs, rollouts.steps)
        obs = jnp.asarray(simulator.reset(seed))
    else:
        obs = jnp.asarray(np.random.default_rng(seed).choice(dataset.obs, spec.num_envs))

    @jax.jit
    def step(obs: jax.Array, action: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        predict_key, draw_key = jax.random.split(key)
        said = predicted(fitted.model, obs, action, predict_key)
        return dynamics.drawn(said, draw_key)[0], jnp.square(said.next_obs.std(0) / scale).mean(-1)

    going = true_going = np.ones(spec.num_envs, bool)
    for act_key, draw_key in _keys(seed, rollouts.steps):
        action = act(obs, act_key)
        obs, apart = step(obs, action, draw_key)
        error = np.nan
        if simulator is not None:
            true = simulator.step(np.asarray(action))
            off = np.square((np.asarray(obs) - true.next_obs) / scale).mean(-1)
            error = _root_mean(off, going & true_going)
            true_going = true_going & ~true.last
        ended = np.asarray(terminated(obs))
        yield Step(obs, ended, _root_mean(np.asarray(apart), going), error)
        going = going & ~ended
    if simulator is not None:
        simulator.close()


def _root_mean(squares: np.ndarray, where: np.ndarray) -> float:
    return float(np.sqrt(squares[where].mean())) if where.any() else np.nan
