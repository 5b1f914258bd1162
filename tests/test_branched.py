"""Rollouts of the simulator itself, from states that were recorded."""

import csv

import jax
import numpy as np
import pytest

import envs
from agents import model_fitting, models, ravl, reach_report, training
from agents.experiment_config import ExperimentConfig
from envs import branched, datasets
from tests.test_models import CONFIG, SMALL
from valuelearn import config, logs
from valuelearn.types import EnvSpec

pytest.importorskip("mujoco")
pytestmark = pytest.mark.usefixtures("quick_compilation")
SAC = CONFIG.parent.parent / "configs" / "rollouts" / "sac.yaml"
HOPPER, POLE = "mujoco/Hopper-v5", "mujoco/InvertedPendulum-v5"


def recorded(env_id, steps):
    """What random actions did in a robot, with the states of its simulator; episodes one after another."""
    env, chance = envs.make(env_id, num_envs=1), np.random.default_rng(0)
    obs, rows = env.reset(0), []
    while len(rows) < steps:
        state = env.simulator_state()
        action = chance.uniform(-1, 1, (1, env.spec.action_size)).astype(np.float32)
        step = env.step(action)
        if step.valid[0]:
            rows.append((obs, action, step.reward, step.discount, step.last, step.next_obs, *state.values()))
        obs = step.obs
    env.close()
    obs, action, reward, discount, last, next_obs, qpos, qvel = map(np.concatenate, zip(*rows, strict=True))
    last[-1] = True
    infos, notes = {"qpos": qpos, "qvel": qvel}, {"env_id": env_id}
    never = np.zeros(len(obs), bool)
    return datasets.Dataset(obs, action, reward, discount, never, last, next_obs, infos, notes)


@pytest.fixture(scope="module")
def hopping():
    return recorded(HOPPER, 300)


def test_what_was_done_is_done_again(hopping):
    """From a recorded state the recorded actions lead where they led."""
    rows = {row.tobytes(): index for index, row in enumerate(hopping.obs)}
    assert len(rows) == 300
    env = branched.make(HOPPER, hopping, num_envs=64, steps=3)
    obs = env.reset(0)
    begun = row = np.array([rows[one.tobytes()] for one in obs])
    assert len(set(begun)) > 40
    going = np.ones(64, bool)
    for count in range(3):
        step = env.step(hopping.action[row])
        assert step.valid.all()
        np.testing.assert_allclose(step.next_obs[going], hopping.next_obs[row][going], atol=1e-5)
        np.testing.assert_allclose(step.reward[going], hopping.reward[row][going], atol=1e-5)
        np.testing.assert_array_equal(step.discount[going], hopping.discount[row][going])
        if count < 2:
            going &= ~step.last & ~hopping.last[row]
            assert going.sum() > 30
            row = np.where(going, row + 1, [rows.get(one.tobytes(), 0) for one in step.obs])
    assert step.last[going].all() and {one.tobytes() for one in step.obs[going]} <= set(rows)
    env.close()


def test_the_seed_fixes_the_rollouts(hopping):
    env = branched.make(HOPPER, hopping, num_envs=8, steps=2)

    def played(seed):
        obs = [env.reset(seed)]
        obs += [env.step(np.zeros((8, 3), np.float32)).obs for _ in range(6)]
        return np.stack(obs)

    first = played(1)
    np.testing.assert_array_equal(first, played(1))
    assert (first != played(2)).any()
    env.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data._replace(infos={}), "infos/qpos is wanted, the simulator's states"),
        (
            lambda data: data._replace(infos=data.infos | {"qvel": data.infos["qvel"][:, :5]}),
            r"infos/qvel has rows of \[5\], and Hopper-v5 has \[6\]",
        ),
    ],
)
def test_states_that_cannot_be_set_are_refused(hopping, change, told):
    with pytest.raises(datasets.DatasetError, match=told):
        branched.make(HOPPER, change(hopping), num_envs=1, steps=1)


def run_in(file, *more):
    return [
        f"env={{id: {POLE}, num_envs: 8}}",
        f"rollouts={{model: simulator, dataset: {file}, steps: 2, real_share: 0.25, episodes: 1}}",
        "train={env_frames: 160, log_frames: 32, collect_steps: 2}",
        "agent={updates_per_step: 0.125, network: {hidden: [8]}}",
        "agent.replay={capacity: 400, warmup_steps: 32, batch_size: 16}",
        "checkpoint.every_frames=64",
        "evaluation.episodes=1",
        *more,
    ]


def test_a_run_in_rollouts_of_the_simulator(train_in_two, tmp_path):
    """Its policy is played to the end of episodes; cut off, it goes on as the same run."""
    datasets.save(recorded(POLE, 200), tmp_path / "pole.hdf5")
    cfg = config.load(ExperimentConfig, SAC, run_in(tmp_path / "pole.hdf5"))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    training.train(cfg, whole, [], lambda said: None)
    rows = logs.read_metrics(whole)
    assert rows["updates"].max() == (160 - 32) // 8
    assert (rows["episode_return"] > 3).all()  # A pole stands for that long, and a rollout has 2 steps.
    table = (whole / "metrics.csv").read_text().splitlines()
    edge = [float(row["edge_share"]) for row in csv.DictReader(table)]
    # Every other step of rollouts is their last, but where the pole has fallen nothing is bootstrapped.
    assert all(0.15 < share < 0.4 for share in edge[1:])
    train_in_two(cfg, cut, rows=3)
    assert (cut / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["env.id=gym/Pendulum-v1"], "only of mujoco/ environments"),
        (["rollouts.dataset=null"], "name a dataset"),
        (["rollouts.penalty=1"], "the simulator has no doubt"),
        (["train.seeds=2"], "one seed is trained at a time"),
        (["env.num_envs=2048"], "at most 1024 copies"),
        (["checkpoint.experience=true"], "a run in rollouts leaves none"),
    ],
)
def test_what_the_simulator_cannot_be_is_refused(change, told):
    with pytest.raises(config.ConfigError, match=told):
        config.load(ExperimentConfig, SAC, run_in("some.hdf5", *change))


def test_a_dataset_without_states_is_refused_by_the_run(tmp_path):
    datasets.save(recorded(POLE, 50)._replace(infos={}), tmp_path / "pole.hdf5")
    cfg = config.load(ExperimentConfig, SAC, run_in(tmp_path / "pole.hdf5"))
    with pytest.raises(config.Misfit, match=r"rollouts\.dataset.*infos/qpos is wanted"):
        training.train(cfg, tmp_path / "run", [], print)
    assert not (tmp_path / "run").exists()


def test_a_model_is_held_against_the_simulator(tmp_path):
    """From the same states, by the same actions: nearly there after one step, further off after each."""
    datasets.save(recorded(POLE, 400), tmp_path / "pole.hdf5")
    options = [f"dataset={tmp_path / 'pole.hdf5'}", f"env={POLE}", *SMALL]
    model_fitting.fit(
        config.load(models.ModelConfig, CONFIG, options), tmp_path / "model", [], lambda said: None
    )
    rollouts = ravl.RolloutsConfig(model=str(tmp_path / "model"), steps=3)
    spec = EnvSpec((4,), np.dtype(np.float32), 0, 64, action_size=1)
    steps = list(
        reach_report._of_model(POLE, rollouts, spec, lambda obs, key: jax.numpy.zeros((64, 1)), seed=0)
    )
    errors = np.array([step.error for step in steps])
    assert len(steps) == 3 and 0 < errors[0] < 1.5 and errors[2] > errors[0]
    assert all(step.doubt > 0 for step in steps)
