"""Recorded transitions: what follows from their order, and every format against what was written."""

import builtins
import json

import gymnasium
import h5py
import hypothesis
import hypothesis.strategies as st
import minari
import numpy as np
import pytest

from envs import datasets
from envs.datasets import Dataset, DatasetError
from tests.commands import call
from tests.recordings import made, ogbench_arrays


def assert_same(found, wanted):
    for field in Dataset._fields[:-2]:
        one, other = getattr(found, field), getattr(wanted, field)
        assert (one.dtype, one.shape) == (other.dtype, other.shape), field
        assert one.tobytes() == other.tobytes(), field
    assert found.infos.keys() == wanted.infos.keys()
    for name, array in wanted.infos.items():
        assert found.infos[name].dtype == array.dtype
        assert found.infos[name].tobytes() == array.tobytes(), name


def without(file, *names):
    """Remove arrays from an HDF5 file."""
    with h5py.File(file, "a") as root:
        for name in names:
            del root[name]
    return file


def test_episodes_returns_and_sums_to_go():
    dataset = made([(3, True), (2, False), (2, False)], finished=False)
    assert datasets.episodes(dataset) == [slice(0, 3), slice(3, 5), slice(5, 7)]
    np.testing.assert_array_equal(datasets.finished(dataset), [True, True, False])
    reward = dataset.reward
    np.testing.assert_allclose(
        datasets.episode_returns(dataset), [reward[:3].sum(), reward[3:5].sum()], rtol=1e-6
    )
    to_go = datasets.returns_to_go(dataset, 0.5)
    wanted = [reward[0] + reward[1] / 2 + reward[2] / 4, reward[1] + reward[2] / 2, reward[2]]
    np.testing.assert_allclose(to_go[:3], wanted, rtol=1e-6)
    np.testing.assert_allclose(to_go[3:5], [reward[3] + reward[4] / 2, reward[4]], rtol=1e-6)
    assert np.isnan(to_go[5:]).all()


def test_the_next_action_is_of_the_same_episode():
    dataset = made([(3, True), (2, False), (2, False)], finished=False)
    action, usable = datasets.next_action(dataset)
    np.testing.assert_array_equal(usable, [True, True, True, True, False, True, False])
    np.testing.assert_array_equal(action[[0, 1, 3, 5]], dataset.action[[1, 2, 4, 6]])
    assert not action[[2, 4, 6]].any()


@pytest.mark.parametrize("finished", [True, False])
def test_through_every_format_and_back(tmp_path, finished):
    """100,000 rows as of a pendulum, each bit of each array as it was."""
    dataset = made([(200, False)] * 500 + [(50, False)], finished=finished)
    datasets.save(dataset, tmp_path / "a.hdf5", "d4rl")
    datasets.save(datasets.load(tmp_path / "a.hdf5"), tmp_path / "b-v0", "minari")
    datasets.save(datasets.load(tmp_path / "b-v0"), tmp_path / "c.hdf5")
    datasets.save(datasets.load(tmp_path / "c.hdf5"), tmp_path / "d.hdf5", "d4rl")
    assert_same(datasets.load(tmp_path / "c.hdf5"), dataset)
    with h5py.File(tmp_path / "a.hdf5") as first, h5py.File(tmp_path / "d.hdf5") as final:
        names = ["observations", "actions", "rewards", "terminals", "timeouts", "next_observations"]
        for name in [*names, "infos/qpos", "infos/logp"]:
            assert first[name].dtype == final[name].dtype
            assert first[name][()].tobytes() == final[name][()].tobytes(), name
        assert bool(first["timeouts"][-1]) == finished


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    ends=st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=6),
    cut=st.sets(st.integers(0, 5)),
    torn=st.booleans(),
    form=st.sampled_from(["valuelearn", "minari"]),
    seed=st.integers(0, 1000),
)
def test_what_is_saved_is_loaded(tmp_path_factory, ends, cut, torn, form, seed):
    """Episodes cut short anywhere, other next observations than the following ones, zeros of both signs."""
    dataset = made(ends, seed=seed)
    at = np.flatnonzero(dataset.last)[[index for index in cut if index < len(ends)]]
    dataset.discount[at], dataset.truncated[at] = 1, False
    dataset.obs[:: 1 + seed % 3] = 0
    dataset.next_obs[:: 1 + seed % 2] = -0.0
    if torn:
        dataset.next_obs[0] += 1
    path = tmp_path_factory.mktemp("saved") / "one-v0"
    datasets.save(dataset, path, form)
    loaded = datasets.load(path)
    assert_same(loaded, dataset)
    assert loaded.notes["env_id"] == "mujoco/Hopper-v5"


def test_counted_actions_and_pictures(tmp_path):
    random = np.random.default_rng(0)
    dataset = made([(5, True), (4, False)])._replace(
        obs=random.integers(0, 256, (9, 4, 4, 3), np.uint8),
        next_obs=random.integers(0, 256, (9, 4, 4, 3), np.uint8),
        action=random.integers(0, 4, 9, np.int32),
    )
    for form in ("valuelearn", "d4rl", "minari"):
        datasets.save(dataset, tmp_path / f"{form}-v0", form)
        loaded = datasets.load(tmp_path / f"{form}-v0")
        assert_same(loaded, dataset)
        assert any("not the observation of the row that follows" in told for told in loaded.notes["remarks"])


def test_minari_itself_opens_what_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = made([(5, True), (4, False), (3, False)], finished=False)
    datasets.save(dataset, tmp_path / "mine" / "hopper-v0", "minari")
    theirs = minari.load_dataset("mine/hopper-v0")
    assert (theirs.total_episodes, theirs.total_steps) == (3, 12)
    for episode, rows in zip(theirs.iterate_episodes(), datasets.episodes(dataset), strict=True):
        np.testing.assert_array_equal(episode.observations[:-1], dataset.obs[rows])
        np.testing.assert_array_equal(episode.observations[1:], dataset.next_obs[rows])
        np.testing.assert_array_equal(episode.actions, dataset.action[rows])
        np.testing.assert_array_equal(episode.rewards, dataset.reward[rows])
        np.testing.assert_array_equal(episode.terminations, dataset.discount[rows] == 0)
        np.testing.assert_array_equal(episode.truncations, dataset.truncated[rows])
        np.testing.assert_array_equal(episode.infos["qpos"][:-1], dataset.infos["qpos"][rows])
        assert theirs.observation_space.contains(episode.observations[0])
        assert theirs.action_space.contains(episode.actions[0])
    assert_same(datasets.load("mine/hopper-v0"), dataset)


@pytest.mark.filterwarnings("ignore:`")  # That nobody signed it.
def test_what_minari_itself_writes_is_read(tmp_path, monkeypatch):
    """Pendulum's torques reach 2, so actions are scaled; its episodes end at their time limit."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gymnasium.make("Pendulum-v1", max_episode_steps=20)
    env.action_space.seed(0)
    buffers = []
    for seed in range(2):
        first, _ = env.reset(seed=seed)
        actions = [env.action_space.sample() for _ in range(20)]
        obs, rewards, terminations, truncations, _ = zip(*map(env.step, actions), strict=True)
        flags = {"terminations": list(terminations), "truncations": list(truncations)}
        columns = {"observations": [first, *obs], "actions": actions, "rewards": list(rewards), **flags}
        buffers.append(minari.data_collector.EpisodeBuffer(**columns))
    theirs = minari.create_dataset_from_buffers(
        "pendulum-v0", buffers, env, data_format="hdf5", requirements=[]
    )
    dataset = datasets.load("pendulum-v0")
    episode = theirs[1]
    np.testing.assert_array_equal(dataset.obs[20:], episode.observations[:-1])
    np.testing.assert_array_equal(dataset.next_obs[20:], episode.observations[1:])
    np.testing.assert_array_equal(dataset.action[20:], episode.actions / 2)
    np.testing.assert_array_equal(dataset.discount, 1)
    np.testing.assert_array_equal(np.flatnonzero(dataset.truncated), [19, 39])
    assert dataset.notes["env_id"] == "Pendulum-v1"
    env.close()


@pytest.fixture
def first_version(tmp_path):
    """As D4RL's files of version 0: neither time limits nor next observations; and what is in it."""
    dataset = made([(100, False), (40, True), (100, False), (60, False)], finished=False)
    datasets.save(dataset, tmp_path / "v0.hdf5", "d4rl")
    return without(tmp_path / "v0.hdf5", "timeouts", "next_observations"), dataset


def test_next_observations_are_rebuilt_inside_episodes_only(first_version):
    file, whole = first_version
    loaded = datasets.load(file, max_episode_steps=100)
    kept = np.delete(np.arange(300), [99, 239, 299])
    np.testing.assert_array_equal(loaded.obs, whole.obs[kept])
    np.testing.assert_array_equal(loaded.infos["qpos"], whole.infos["qpos"][kept])
    inside = loaded.discount == 1
    np.testing.assert_array_equal(loaded.next_obs[inside], whole.next_obs[kept][inside])
    # The terminated row has none: its own observation is masked, and no model may learn from it.
    np.testing.assert_array_equal(np.flatnonzero(~inside), [138])
    np.testing.assert_array_equal(loaded.next_obs[138], loaded.obs[138])
    np.testing.assert_array_equal(np.flatnonzero(~datasets.next_obs_known(loaded)), [138])
    np.testing.assert_array_equal(np.flatnonzero(loaded.truncated), [98, 237])
    np.testing.assert_array_equal(np.flatnonzero(loaded.last), [98, 138, 237, 296])
    np.testing.assert_array_equal(datasets.finished(loaded), [True, True, True, False])


def test_time_limits_are_inferred_only_where_asked(first_version):
    file, _ = first_version
    loaded = datasets.load(file)
    assert not loaded.truncated.any()
    np.testing.assert_array_equal(np.flatnonzero(loaded.last), [139, 298])
    assert any("timeouts are missing" in told for told in loaded.notes["remarks"])


def test_as_many_transitions_as_d4rl_makes_of_it(tmp_path):
    """1,000,000 rows of 1000 steps give 999,000; here 10,000 of 100."""
    datasets.save(made([(100, False)] * 100), tmp_path / "a.hdf5", "d4rl")
    loaded = datasets.load(without(tmp_path / "a.hdf5", "next_observations"))
    assert loaded.rows == 9_900
    assert len(datasets.episodes(loaded)) == 100
    np.testing.assert_array_equal(loaded.discount, 1)


def test_what_is_not_known_is_never_written_as_known(first_version, tmp_path):
    loaded = datasets.load(first_version[0], max_episode_steps=100)
    with pytest.raises(DatasetError, match="not known, which D4RL's layout cannot say"):
        datasets.save(loaded, tmp_path / "b.hdf5", "d4rl")
    datasets.save(loaded, tmp_path / "b.hdf5")
    again = datasets.load(tmp_path / "b.hdf5")
    np.testing.assert_array_equal(datasets.next_obs_known(again), datasets.next_obs_known(loaded))


def test_what_no_termination_hides_is_known(tmp_path):
    datasets.save(made([(4, False)]), tmp_path / "a.hdf5", "d4rl")
    loaded = datasets.load(without(tmp_path / "a.hdf5", "next_observations"))
    datasets.save(loaded, tmp_path / "b.hdf5", "d4rl")
    assert_same(datasets.load(tmp_path / "b.hdf5"), loaded)


def test_minari_is_not_given_what_is_not_known(first_version, tmp_path):
    with pytest.raises(DatasetError, match="not known, which Minari's layout cannot say"):
        datasets.save(datasets.load(first_version[0], max_episode_steps=100), tmp_path / "b-v0", "minari")
    assert not (tmp_path / "b-v0").exists()


def test_a_time_limit_never_terminates(tmp_path):
    """Not even in a row that is said to be terminal, too: so D4RL's collection did it."""
    datasets.save(made([(4, True), (4, False)]), tmp_path / "a.hdf5", "d4rl")
    with h5py.File(tmp_path / "a.hdf5", "a") as root:
        root["timeouts"][3] = True
    loaded = datasets.load(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(loaded.discount, 1)
    np.testing.assert_array_equal(np.flatnonzero(loaded.truncated), [3, 7])
    assert any("1 rows are terminal and at a time limit" in told for told in loaded.notes["remarks"])


@pytest.mark.parametrize("form", ["valuelearn", "d4rl", "minari"])
def test_a_last_step_that_terminates_at_the_time_limit_terminates(form, tmp_path):
    """As gymnasium's time limit tells it: both flags."""
    dataset = made([(4, True), (4, False)])
    dataset.truncated[3] = True
    datasets.save(dataset, tmp_path / "one-v0", form)
    loaded = datasets.load(tmp_path / "one-v0")
    np.testing.assert_array_equal(loaded.discount, dataset.discount)
    np.testing.assert_array_equal(np.flatnonzero(loaded.truncated), [7])
    if form == "minari":
        with h5py.File(tmp_path / "one-v0" / "data" / "main_data.hdf5", "a") as root:
            root["episode_0/truncations"][3] = True
        loaded = datasets.load(tmp_path / "one-v0")
        np.testing.assert_array_equal(loaded.discount, dataset.discount)
        assert any("at once; read as terminations" in told for told in loaded.notes["remarks"])


def test_other_types_and_ranks_are_mended_and_told(tmp_path):
    dataset = made([(4, True), (4, False)])
    datasets.save(dataset, tmp_path / "a.hdf5", "d4rl")
    without(tmp_path / "a.hdf5", "rewards", "terminals", "observations")
    with h5py.File(tmp_path / "a.hdf5", "a") as root:
        root["rewards"] = np.arange(8).reshape(8, 1)
        root["terminals"] = (dataset.discount[:, None] == 0).astype(np.float64)
        root["observations"] = dataset.obs.astype(np.float64)
        root["metadata/algorithm"] = "SAC"
        root["metadata/policy/weights"] = np.zeros((3, 3))
    loaded = datasets.load(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(loaded.reward, np.arange(8, dtype=np.float32))
    assert_same(loaded._replace(reward=dataset.reward), dataset)
    assert loaded.notes["metadata"] == {"algorithm": "SAC"}
    told = " ".join(loaded.notes["remarks"])
    for part in ("rewards has the shape [N, 1]", "rewards has the type int64", "terminals has the shape"):
        assert part in told


def test_oddities_are_told():
    dataset = made([(5, True), (5, True)])
    dataset.next_obs[0] += 1
    (told,) = datasets.check(dataset, "here")
    assert "12.500%" in told
    dataset = made([(5, False)], finished=False)
    dataset.action[:] = 0.5
    assert len(datasets.check(dataset, "here")) == 2


def test_ogbench(tmp_path):
    raw = ogbench_arrays()
    np.savez_compressed(tmp_path / "a.npz", **raw)
    loaded = datasets.load(tmp_path / "a.npz")
    rows = np.array([0, 1, 2, 4, 5])
    np.testing.assert_array_equal(loaded.obs, raw["observations"][rows])
    np.testing.assert_array_equal(loaded.next_obs, raw["observations"][rows + 1])
    np.testing.assert_array_equal(loaded.action, raw["actions"][rows])
    np.testing.assert_array_equal(loaded.infos["qpos"], raw["qpos"][rows])
    np.testing.assert_array_equal(loaded.discount, 1)
    np.testing.assert_array_equal(np.flatnonzero(loaded.truncated), [2, 4])
    assert loaded.notes["remarks"] == ["rewards are missing; read as 0"]


def test_ogbench_terminates_by_masks_alone(tmp_path):
    raw = ogbench_arrays() | {"rewards": np.arange(7, dtype=np.float32), "masks": np.ones(7, np.float32)}
    raw["masks"][2] = 0
    np.savez(tmp_path / "a.npz", **raw)
    loaded = datasets.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(loaded.reward, [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(loaded.discount, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(np.flatnonzero(loaded.truncated), [4])


def test_scores():
    np.testing.assert_allclose(datasets.normalized_score("hopper-medium-v2", [-20.272305, 3234.3]), [0, 100])
    np.testing.assert_allclose(
        datasets.normalized_score("mujoco/HalfCheetah-v5", 4770.3354), 40.680158, atol=1e-5
    )
    assert datasets.d4rl_reference("gym/dm_control/hopper-hop-v0") is None  # Another robot's.
    np.testing.assert_allclose(datasets.normalized_score("walker2d_expert-v2.hdf5", 4592.3), 100)
    np.testing.assert_allclose(datasets.normalized_score("maze2d-umaze-dense-v1", 68.537689), 0)
    np.testing.assert_allclose(datasets.normalized_score("antmaze-large-play-v2", 0.25), 25)
    # A spread has no zero to be shifted by: 100 * 355.75 / (12135 + 280.18).
    np.testing.assert_allclose(datasets.normalized_deviation("halfcheetah", 355.75), 2.86544, atol=1e-4)
    with pytest.raises(DatasetError, match="no references"):
        datasets.normalized_score("CartPole-v1", 500)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"reward": np.zeros(4)}, "rewards has the type float64; float32 is wanted"),
        ({"truncated": np.zeros(4)}, "truncated has the type float64; bool is wanted"),
        ({"last": np.zeros(4, bool)}, "row 3 ends an episode, and `last` is not set"),
        ({"last": np.zeros(4, bool), "discount": np.ones(4, np.float32)}, "not set in the last row"),
        ({"obs": np.zeros((5, 3), np.float32)}, "actions has 4 rows and observations 5"),
        ({"infos": {"qpos": np.zeros(3)}}, "infos/qpos has 3 rows and observations 4"),
    ],
)
def test_what_is_made_in_memory_is_checked_too(changes, pattern):
    with pytest.raises(DatasetError, match=f"^here: .*({pattern})"):
        datasets.check(made([(4, True)])._replace(**changes), "here")


def test_d4rls_layout_cannot_hold_an_unfinished_episode_before_another(tmp_path):
    dataset = made([(4, True), (4, True)])
    dataset.discount[3] = 1
    with pytest.raises(DatasetError, match="row 3 ends an episode that was not finished, which D4RL's"):
        datasets.save(dataset, tmp_path / "a.hdf5", "d4rl")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("Can't decrement id ref count")]
)
def test_nothing_half_written_is_left(tmp_path, monkeypatch, error):
    dataset = made([(4, True)])
    real = h5py.Group.create_dataset

    def fails(group, name, *args, **kwargs):
        if name == "rewards":
            raise error
        return real(group, name, *args, **kwargs)

    monkeypatch.setattr(h5py.Group, "create_dataset", fails)
    for form in ("d4rl", "minari"):
        with pytest.raises(DatasetError, match="cannot be written"):
            datasets.save(dataset, tmp_path / "one-v0", form)
    assert not [*tmp_path.iterdir()]


def test_what_exists_is_never_overwritten(tmp_path):
    (tmp_path / "a.hdf5").write_text("mine")
    with pytest.raises(DatasetError, match="exists already"):
        datasets.save(made([(4, True)]), tmp_path / "a.hdf5")
    assert (tmp_path / "a.hdf5").read_text() == "mine"


def test_faulty_data_is_not_saved(tmp_path):
    dataset = made([(4, True)])
    dataset.reward[2] = np.nan
    with pytest.raises(DatasetError, match="rewards is nan in row 2"):
        datasets.save(dataset, tmp_path / "a.hdf5")
    assert not [*tmp_path.iterdir()]


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    datasets.save(made([(4, True)]), tmp_path / "a.hdf5")
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DatasetError, match=r"pip install 'valuelearn\[offline\]'"):
        datasets.load(tmp_path / "a.hdf5")


def test_the_card(tmp_path, capsys):
    dataset = made([(5, True), (4, False), (3, False)], finished=False)
    notes = {"env_id": "mujoco/Hopper-v5", "reference_returns": {"random": 0.0, "expert": 2.0}}
    datasets.save(dataset._replace(notes=notes), tmp_path / "a.hdf5")
    call("dataset", "info", tmp_path / "a.hdf5")
    out = capsys.readouterr().out
    returns = datasets.episode_returns(dataset)
    for part in (
        "rows           12\n",
        "episodes       3, 1 of them unfinished",
        "terminations   1, 33.3% of episodes",
        f"mean {returns.mean():.6g}, deviation {returns.std():.6g}",
        f"{50 * returns.mean():.2f} +- {50 * returns.std():.2f} by its own references",
        "by D4RL's references",
        json.dumps(notes),
    ):
        assert part in out


def test_files_of_ogbench_have_no_score_of_d4rls(tmp_path, capsys):
    """Their names begin as D4RL's do: antmaze-large-navigate-v0."""
    np.savez(tmp_path / "antmaze-large-v0.npz", **ogbench_arrays())
    call("dataset", "info", tmp_path / "antmaze-large-v0.npz")
    assert "score" not in capsys.readouterr().out
    datasets.save(made([(5, True)]), tmp_path / "antmaze-large-v0.hdf5", "d4rl")
    call("dataset", "info", tmp_path / "antmaze-large-v0.hdf5")
    assert "by D4RL's references" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("noted", "asked"),
    [
        ("Hopper-v5", "mujoco/Hopper-v5"),
        ("gym/Hopper-v5", "mujoco/Hopper-v5"),
        ("gym/Pendulum-v1", "classic/pendulum"),
        ("MountainCar-v0", "classic/mountain_car"),
        ("ALE/SpaceInvaders-v5", "atari/space_invaders"),
        ("Mine-v1", "gym/my_package:Mine-v0"),
        (None, "mujoco/Hopper-v5"),
    ],
)
def test_one_environment_has_several_names(noted, asked):
    notes = {} if noted is None else {"env_id": noted}
    datasets.check(made([(4, True)])._replace(notes=notes), "here", env_id=asked)


@pytest.mark.parametrize("asked", ["mujoco/Walker2d-v5", "gym/HopperStand-v5", "classic/pendulum"])
def test_a_dataset_of_another_robot_is_refused(asked):
    with pytest.raises(DatasetError, match=f"^here: it was recorded in mujoco/Hopper-v5, and {asked} is"):
        datasets.check(made([(4, True)]), "here", env_id=asked)


def test_another_robot_of_the_same_shapes_from_the_command_line(tmp_path, capsys):
    action = np.random.default_rng(0).uniform(-1, 1, (9, 6)).astype(np.float32)
    robot = made([(5, True), (4, False)], obs_size=17)._replace(action=action)
    datasets.save(robot._replace(notes={"env_id": "HalfCheetah-v5"}), tmp_path / "a.hdf5")
    call("dataset", "check", tmp_path / "a.hdf5", "--env", "mujoco/HalfCheetah-v5")
    call("dataset", "check", tmp_path / "a.hdf5", "--env", "mujoco/Walker2d-v5", code=2)
    assert "it was recorded in HalfCheetah-v5, and mujoco/Walker2d-v5 is asked for" in capsys.readouterr().err


def test_check_and_convert_from_the_command_line(tmp_path, capsys):
    dataset = made([(5, True), (4, False)], obs_size=11)._replace(
        action=np.random.default_rng(0).uniform(-1, 1, (9, 3)).astype(np.float32)
    )
    datasets.save(dataset, tmp_path / "a.hdf5", "d4rl")
    call("dataset", "check", tmp_path / "a.hdf5")
    assert capsys.readouterr().out.endswith("no faults, 0 warnings\n")
    call("dataset", "convert", tmp_path / "a.hdf5", tmp_path / "b-v0", "--format", "minari")
    assert_same(datasets.load(tmp_path / "b-v0"), dataset)
    call("dataset", "convert", tmp_path / "a.hdf5", tmp_path / "c", "--format", "parquet", code=2)
    assert "one of valuelearn, d4rl, minari" in capsys.readouterr().err
