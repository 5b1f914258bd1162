"""Rollouts of learnt models: what they are made of, and runs that learn in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import experiment, model_fitting, models, ravl, training
from agents.disagreement import DisagreementConfig
from agents.experiment_config import ExperimentConfig
from agents.sac import SACConfig
from benchmarks import ravl as ravl_study
from benchmarks.ravl_cases import CRITICS, HEADS, MEND, POINT
from envs import datasets, edge_of_reach
from tests.test_models import CONFIG, SMALL, swinging
from valuelearn import config, dynamics, logs
from valuelearn.types import EnvSpec, Trajectory

pytestmark = pytest.mark.usefixtures("quick_compilation")
RAVL = CONFIG.parent.parent / "configs" / "rollouts" / "ravl.yaml"
ENV, ROBOT = "gym/Pendulum-v1", "mujoco/InvertedPendulum-v5"
SPEC = EnvSpec((3,), np.dtype(np.float32), 0, 512, action_size=1)
AGENT = SACConfig(replay={"batch_size": 40})
CASES = {**POINT, **HEADS, **MEND, **CRITICS}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    file = swinging(folder / "pendulum.hdf5", env_id=ENV)
    cfg = config.load(models.ModelConfig, CONFIG, [f"dataset={file}", f"env={ENV}", *SMALL])
    model_fitting.fit(cfg, folder / "model", [], lambda said: None)
    return folder / "model"


def rollouts(model, **options):
    return ravl.make(ravl.RolloutsConfig(model=str(model), **options), ENV, SPEC, AGENT)


def test_rollouts_start_where_was_recorded_and_follow_the_model(model, play_functional):
    played = play_functional(rollouts(model, steps=3).env, 6)
    np.testing.assert_array_equal(played.step.last, np.tile([[False], [False], [True]], (2, 512)))
    assert (played.step.discount == 1).all()
    known = {row.tobytes() for row in datasets.load(models.load(model).config.dataset).obs}
    assert all(row.tobytes() in known for row in played.obs[[0, 3]].reshape(-1, 3))
    np.testing.assert_array_equal(played.obs[1:3], played.step.next_obs[:2])
    fitted = models.load(model)
    said = dynamics.predicted(fitted.network, fitted.model, played.obs[0], played.action[0])
    # Of two members, each of which is drawn half of the time.
    apart = (played.step.next_obs[0] - said.next_obs) / said.deviation[..., :-1]
    assert (np.abs(apart).min(0) < 6).all()
    mean, spread = said.next_obs.mean(0), said.deviation[..., :-1].mean()
    assert abs((played.step.next_obs[0] - mean).mean()) < 4 * spread / np.sqrt(512)


def test_a_model_of_the_plane_is_moved_towards_the_truth(tmp_path, play_functional):
    """By half, half as far off; by all of it, exact, and in no doubt that anything could be taken off for."""
    folder = ravl_study._model(tmp_path)
    spec, found = EnvSpec((2,), np.dtype(np.float32), 0, 64, action_size=2), []
    for truth in (0.0, 0.5, 1.0):
        options = ravl.RolloutsConfig(model=str(folder), steps=1, truth=truth, penalty=1.0)
        env = ravl.make(options, "plane/edge_of_reach", spec, AGENT).env
        played = play_functional(env, 1)
        moved = played.obs[0] + played.action[0]
        paid = edge_of_reach.reward(played.obs[0])
        off = np.concatenate([played.step.next_obs[0] - moved, (played.step.reward[0] - paid)[:, None]], 1)
        found.append(off)
    said = ravl.predictor(options, fitted := models.load(folder))
    obs, action = played.obs[0], played.action[0]
    exact = said(fitted.model, obs, action, jax.random.key(0))
    np.testing.assert_allclose(exact.next_obs, np.broadcast_to(obs + action, exact.next_obs.shape), atol=1e-6)
    assert not np.asarray(exact.deviation).any()
    assert np.abs(found[0]).min(0).max() > 1e-5 and (found[0][:, 2] < 0).mean() > 0.9
    np.testing.assert_allclose(found[1], found[0] / 2, atol=1e-5)
    np.testing.assert_allclose(found[2], 0, atol=1e-6)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_of_the_studies_is_a_config(case):
    path = RAVL.parent.parent / "plane" / "rollouts.yaml"
    cfg = config.load(ExperimentConfig, path, case.overrides)
    # Every rollout of the run is kept, each with a row for its end.
    kept = cfg.train.env_frames * (case.steps + 1) // case.steps
    assert kept <= cfg.agent.replay.capacity and cfg.rollouts.steps == case.steps


def test_doubt_is_taken_off_rewards(model, play_functional):
    plain, less = (play_functional(rollouts(model, penalty=penalty).env, 1) for penalty in (0.0, 2.0))
    fitted = models.load(model)
    said = dynamics.predicted(fitted.network, fitted.model, plain.obs[0], plain.action[0])
    doubt = np.linalg.norm(said.deviation, axis=-1).max(0)
    np.testing.assert_allclose(plain.step.reward[0] - less.step.reward[0], 2 * doubt, rtol=1e-3)
    np.testing.assert_array_equal(plain.step.next_obs, less.step.next_obs)


def test_episodes_of_a_model_end_by_the_rule_of_the_robot(tmp_path, play_functional):
    """Of a pole that falls over beyond an angle of 0.2."""
    chance = np.random.default_rng(0)
    obs = chance.uniform(-0.3, 0.3, (400, 4)).astype(np.float32)
    action, reward = chance.uniform(-1, 1, (400, 1)).astype(np.float32), np.ones(400, np.float32)
    last = np.arange(1, 401) % 20 == 0
    datasets.save(
        datasets.Dataset(obs, action, reward, reward, last, last, 0.9 * obs), tmp_path / "pole.hdf5"
    )
    arguments = [f"dataset={tmp_path / 'pole.hdf5'}", f"env={ROBOT}", *SMALL]
    model_fitting.fit(
        config.load(models.ModelConfig, CONFIG, arguments), tmp_path / "model", [], lambda said: None
    )
    options = ravl.RolloutsConfig(model=str(tmp_path / "model"), steps=4)
    played = play_functional(ravl.make(options, ROBOT, SPEC._replace(obs_shape=(4,)), AGENT).env, 4).step
    fallen = np.abs(played.next_obs[..., 1]) > 0.2
    assert 0.1 < fallen.mean() < 0.9
    np.testing.assert_array_equal(played.discount == 0, fallen)
    assert played.last[fallen].all()


def filled(built):
    """What the memory of an experiment holds after six steps of doing nothing."""
    env_state, obs = built.env.init(jax.random.key(0))
    steps = []
    for key in jax.random.split(jax.random.key(1), 6):
        action = jnp.zeros((8, 1))
        env_state, step = built.env.step(env_state, action, key)
        steps.append(Trajectory(obs, action, step))
        obs = step.obs
    return built.algorithm.memory.add(
        built.algorithm.memory.init(), jax.tree.map(lambda *x: jnp.stack(x), *steps)
    )


def test_batches_are_mixed(model):
    made = rollouts(model, real_share=0.25)
    recorded = datasets.load(models.load(model).config.dataset)
    assert made.agent.replay.batch_size == 30
    cfg = config.load(ExperimentConfig, RAVL, run_in(model, "rollouts.real_share=0.25"))
    built = experiment.make(cfg)
    memory = built.algorithm.memory
    state = jax.eval_shape(memory.init)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state[0]))
    assert (
        held == sum(x.nbytes for x in (recorded.obs, recorded.action, recorded.next_obs)) + 8 * recorded.rows
    )
    assert built.algorithm.memory_bytes > held
    sample = memory.sample(filled(built), jax.random.key(2))
    known = {row.tobytes() for row in recorded.obs}
    real = np.array([row.tobytes() in known for row in np.asarray(sample.transition.obs)])
    assert real[:4].all() and (np.asarray(sample.transition.action)[4:] == 0).all()
    assert len(sample.weight) == 16
    edge = ravl.at_edge(cfg.rollouts, sample.transition)
    np.testing.assert_array_equal(edge, [False] * 4 + list(np.asarray(sample.transition.age)[4:] == 1))
    # Not in rollouts of one step either, all of which end where nothing goes on.
    alone = ravl.at_edge(cfg.rollouts.model_copy(update={"steps": 1}), sample.transition)
    assert not np.asarray(alone)[:4].any()


def test_members_imagine_what_may_follow(model):
    draws = "agent={num_critics: 2, diversity: 0.0, disagreement: {draws: 4000}}"
    built = experiment.make(config.load(ExperimentConfig, RAVL, run_in(model, draws)))
    drawn = built.algorithm.memory.sample(filled(built), jax.random.key(2)).transition
    fitted = models.load(model)
    said = dynamics.predicted(fitted.network, fitted.model, drawn.obs, drawn.action)
    spread = said.deviation[..., :-1].swapaxes(0, 1)
    assert drawn.imagined.shape == (16, 2, 4000, 3)
    off = (drawn.imagined.mean(2) - said.next_obs.swapaxes(0, 1)) / spread
    assert float(jnp.abs(off).max()) < 5 / np.sqrt(4000)
    np.testing.assert_allclose(drawn.imagined.std(2), spread, rtol=0.1)


def test_a_single_member_disagrees_with_none(model, tmp_path):
    asked = [f"dataset={models.load(model).config.dataset}", f"env={ENV}", *SMALL, "elites=1"]
    cfg = config.load(models.ModelConfig, CONFIG, asked)
    model_fitting.fit(cfg, tmp_path / "model", [], lambda said: None)
    agent = AGENT.model_copy(update={"disagreement": DisagreementConfig()})
    with pytest.raises(config.Misfit, match="has one member, which disagrees with none; two or more are"):
        ravl.make(ravl.RolloutsConfig(model=str(tmp_path / "model")), ENV, SPEC, agent)


def run_in(model, *more):
    return [
        f"env={{id: {ENV}, num_envs: 8}}",
        f"rollouts={{model: {model}, steps: 2, real_share: 0.25, episodes: 1}}",
        "train={env_frames: 320, log_frames: 64, collect_steps: 2, seeds: 2}",
        "agent.network.hidden=[8]",
        "agent.num_critics=3",
        "agent.updates_per_step=0.125",
        "agent.replay={capacity: 400, warmup_steps: 64, batch_size: 16}",
        "checkpoint.every_frames=128",
        "evaluation.episodes=2",
        *more,
    ]


def test_a_run_in_rollouts_of_a_model(model, train_in_two, call, tmp_path):
    """Its policy is played in the true environment; cut off, it goes on as the same run."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    cfg = config.load(ExperimentConfig, RAVL, run_in(model))
    training.train(cfg, whole, [], lambda said: None)
    rows = logs.read_metrics(whole)
    assert rows["episode_return"].max() < -500  # Of a pendulum that nobody swings up, in 200 steps.
    assert rows["updates"].max() == (320 - 64) // 8
    table = (whole / "metrics.csv").read_text().splitlines()
    assert "edge_value" in table[0] and len(table) == 11

    train_in_two(cfg, cut, rows=4)
    assert (cut / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert "seed 1: greedy return -" in call("evaluate", whole, "--episodes", 2)
    said = call("reach", whole)
    assert said.count("seed 1: ") == 1 and "% of targets read states at the edge of reach" in said
    assert (whole / "reach.png").stat().st_size > 10_000
    table = np.genfromtxt(whole / "reach.csv", names=True, delimiter=",")
    np.testing.assert_array_equal(table["step"], [1, 2, 1, 2])
    assert (table["going"] == 1).all() and (table["doubt"] > 0).all() and np.isnan(table["error"]).all()
    assert np.isfinite(table["value"]).all() and (table["disagreement"] > 0).all()


def test_only_finished_runs_in_rollouts_have_a_reach(call, model, tmp_path):
    for name, cfg in {
        "whole": config.load(ExperimentConfig, RAVL, run_in(model)),
        "plain": ExperimentConfig(),
    }.items():
        logs.make_folder(tmp_path / name, config.dump(cfg))
    assert f"this run is unfinished; valuelearn resume {tmp_path / 'whole'}" in call(
        "reach", tmp_path / "whole", code=2
    )
    said = call("reach", tmp_path / "plain", code=2)
    assert said.count("\n") == 1 and "did not learn in rollouts" in said


def test_a_model_of_another_robot_is_refused(model, tmp_path):
    cfg = config.load(ExperimentConfig, RAVL, [*run_in(model), "env.id=mujoco/Hopper-v5"])
    with pytest.raises(config.Misfit, match=f"it is of {ENV}"):
        training.train(cfg, tmp_path / "run", [], print)
    assert not (tmp_path / "run").exists()
