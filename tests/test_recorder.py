"""Datasets of our own, through the command line: what is in them, and what no kill and no mistake changes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest

from agents import experience, recorder, training
from envs import datasets
from tests import commands

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIGS = Path(__file__).parent.parent / "agents" / "configs" / "datasets"
QUALITIES = ("random", "medium", "medium-replay", "medium-expert", "expert")
SMALL = (
    "agent.network.hidden=[8]",
    "agent.replay={capacity: 4_000, warmup_steps: 64, batch_size: 8}",
    "train={env_frames: 900, log_frames: 100}",
    "checkpoint={every_frames: 250, policies_every_frames: 200}",
    "evaluation.episodes=0",
)
PENDULUM = (CONFIGS / "pendulum.yaml", *SMALL)
# Its episodes terminate after some 5 to 10 steps.
ROBOT = (CONFIGS / "mujoco.yaml", "env={id: mujoco/InvertedPendulum-v5, num_envs: 3}", *SMALL)
DISCRETE = (
    CONFIGS.parent / "classic" / "dqn_cartpole.yaml",
    "env={id: gym/CartPole-v1, num_envs: 2}",
    "agent.network.hidden=[8]",
    "train.collect_steps=4",
    *SMALL[1:],
    "checkpoint.experience=true",
)
ROWS = 250


def asked(out, *qualities, rows=ROWS):
    each = [part for quality in qualities for part in ("--quality", quality)]
    return (*each, "--rows", rows, "--out", out)


def call(*arguments, code=0):
    """Run `valuelearn dataset make` to an exit code."""
    commands.call("dataset", "make", *arguments, code=code)


def make(source, out):
    """All five qualities; gives them, and what the run itself passed to its replay."""
    steps, remember = [], recorder.training.loop.train_host

    def overheard(agent, env, memory, *rest):
        real = env.step

        def step(action):
            before = env.before
            timestep = real(action)
            steps.append((before, action, timestep))
            env.before = timestep.obs
            return timestep

        reset = env.reset

        def first(seed):
            env.before = reset(seed)
            steps.append(None)
            return env.before

        env.step, env.reset = step, first
        return remember(agent, env, memory, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.loop, "train_host", overheard)
        call(*source, *asked(out, *QUALITIES))
    return out, steps


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    return make(PENDULUM, tmp_path_factory.mktemp("pendulum") / "made")


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    return make(ROBOT, tmp_path_factory.mktemp("robot") / "made")


@pytest.fixture(scope="module")
def discrete(tmp_path_factory):
    return make(DISCRETE, tmp_path_factory.mktemp("discrete") / "made")


@pytest.fixture(params=["pendulum", "robot", "discrete"])
def made(request):
    return request.getfixturevalue(request.param)


def judged(out):
    return json.loads((out / "policies.json").read_text())["judged"]


def policies(out):
    return json.loads((out / "policies.json").read_text())["frames"]


def test_all_qualities_are_sound(made):
    """No array is torn, and each has the rows that were asked."""
    out, _ = made
    env_id = datasets.load(out / "random.hdf5").notes["env_id"]
    for quality in QUALITIES:
        spec = recorder.experiment.make_env(recorder.experiment.load_run(out / "run"), 1).spec
        found = datasets.load(out / f"{quality}.hdf5", spec)
        assert found.notes["env_id"] == env_id
        # Where checkpoints cut every episode of a pendulum, none of it need have ended.
        assert set(found.notes["remarks"]) <= {
            "no episode ends: neither a termination nor a time limit is recorded"
        }
        if quality in ("random", "medium", "expert"):
            assert found.rows == ROWS
        assert (found.truncated <= found.last).all() and not (found.truncated & (found.discount == 0)).any()
    medium, expert = (datasets.load(out / f"{quality}.hdf5") for quality in ("medium", "expert"))
    both = datasets.load(out / "medium-expert.hdf5")
    np.testing.assert_array_equal(both.obs[-ROWS:], expert.obs)
    np.testing.assert_array_equal(both.obs[:-ROWS], medium.obs[: both.rows - ROWS])
    # The first part ends with an episode.
    assert both.truncated[-ROWS - 1] or both.discount[-ROWS - 1] == 0


def test_robots_terminate_and_pendulums_do_not(robot, pendulum, discrete):
    for out, terminates in ((robot[0], True), (pendulum[0], False), (discrete[0], True)):
        found = datasets.load(out / "random.hdf5")
        assert (found.discount == 0).any() == terminates and found.truncated.any() != terminates


def test_the_manifest(made):
    out, _ = made
    for quality in QUALITIES:
        found = datasets.load(out / f"{quality}.hdf5")
        notes, returns = found.notes, datasets.episode_returns(found)
        assert notes["quality"] == quality and notes["seed"] == 0
        assert notes["rows_asked"] == (None if quality == "medium-replay" else ROWS)
        assert set(notes["reference_returns"]) == {"random", "expert"} and "gymnasium" in notes["versions"]
        assert notes["returns"] == ({} if not len(returns) else pytest.approx(notes["returns"]))
        if len(returns):
            assert notes["returns"]["mean"] == pytest.approx(returns.mean())
        frames = {"random": [], "expert": ["expert"], "medium-expert": ["medium", "expert"]}
        wanted = {str(judged(out)[name]) for name in frames.get(quality, ["medium"])}
        assert set(notes["sha256_of_policies"]) == wanted


def done(steps, frames):
    """The rows of a run's first steps, copy by copy; where it reset its environment, episodes were cut."""
    copies = steps[1][2].valid.size
    rows, count = [[] for _ in range(copies)], 0
    for index, one in enumerate(steps):
        if one is None or count >= frames:
            continue
        obs, action, step = one
        cut = index + 1 < len(steps) and steps[index + 1] is None
        for copy in np.flatnonzero(step.valid):
            truncated = step.last[copy] and step.discount[copy] == 1
            columns = (obs[copy], action[copy], step.reward[copy], step.discount[copy], truncated)
            rows[copy].append((*columns, step.last[copy] or cut, step.next_obs[copy]))
            count += 1
    assert count == frames
    columns = [np.stack(column) for column in zip(*(row for copy in rows for row in copy), strict=True)]
    columns[5][np.cumsum([len(copy) for copy in rows]) - 1] = True
    return columns


def test_medium_replay_is_what_the_run_did_until_the_medium_policy(made):
    """Against every step that was overheard, and so until any other policy."""
    out, steps = made
    whole, medium = datasets.load(out / "run" / experience.FILE), judged(out)["medium"]
    found = {frames: experience.until(whole, frames) for frames in policies(out)}
    found[medium] = datasets.load(out / "medium-replay.hdf5")
    for frames, dataset in found.items():
        for name, column in zip(datasets.Dataset._fields[:7], done(steps, frames), strict=True):
            assert getattr(dataset, name).dtype == column.dtype, name
            np.testing.assert_array_equal(getattr(dataset, name), column, err_msg=name)


def test_an_episode_that_a_checkpoint_cut_was_not_finished(pendulum):
    """Its checkpoints come after 300, 500 and 800 steps, its time limits after 200 each."""
    whole = datasets.load(pendulum[0] / "run" / experience.FILE)
    np.testing.assert_array_equal(np.flatnonzero(whole.last) + 1, [200, 300, 500, 700, 800, 900])
    np.testing.assert_array_equal(np.flatnonzero(whole.truncated) + 1, [200, 500, 700])


def test_the_simulator_goes_on_from_what_was_recorded(robot):
    env = gymnasium.make("InvertedPendulum-v5").unwrapped
    env.reset(seed=0)
    for quality in ("random", "medium", "expert", "medium-expert"):
        found = datasets.load(robot[0] / f"{quality}.hdf5")
        assert {name: x.dtype for name, x in found.infos.items()} == {"qpos": np.float64, "qvel": np.float64}
        for row in range(0, found.rows, 7):
            env.set_state(found.infos["qpos"][row], found.infos["qvel"][row])
            low, high = env.action_space.low, env.action_space.high
            obs, reward, terminated, *_ = env.step(low + (found.action[row] + 1) / 2 * (high - low))
            np.testing.assert_allclose(obs, found.next_obs[row], rtol=1e-5, atol=1e-6)
            assert (reward, terminated) == (found.reward[row], found.discount[row] == 0)
    env.close()
    with h5py.File(robot[0] / "random.hdf5") as root:
        assert set(root["infos"]) == {"qpos", "qvel"}


def test_without_a_simulator_no_state_is_recorded(pendulum):
    assert not datasets.load(pendulum[0] / "random.hdf5").infos


def files(out):
    """What a folder of datasets holds: the bytes of each file, and the names of what the run left."""
    held = [path for path in out.iterdir() if path.is_file() and path.name != ".lock"]  # Who wrote last.
    found = {path.name: path.read_bytes() for path in held}
    left = {f"run/{path.name}" for path in (out / "run").iterdir()}
    return found | dict.fromkeys(left | {path.name for path in (out / "run" / "policies").iterdir()})


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(pendulum, tmp_path):
    out, _ = pendulum
    call(out / "run", *asked(tmp_path / "again", *QUALITIES))
    for quality in QUALITIES:
        name = f"{quality}.hdf5"
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name
    call(out / "run", *asked(tmp_path / "other", "medium"), "--seed", 1)
    first, other = (datasets.load(folder / "medium.hdf5") for folder in (out, tmp_path / "other"))
    assert (first.obs != other.obs).mean() > 0.9


def test_what_is_there_is_left_alone(pendulum, capsys):
    out, _ = pendulum
    before = files(out)
    call(*PENDULUM, *asked(out, *QUALITIES))
    assert capsys.readouterr().out.count("is there already") == 5
    assert files(out) == before


KILLED = ("train", "judge", "record", "write")


def moment(out, phase):
    """Whether a process has come so far, by what it has left."""
    match phase:
        case "train":
            return (out / "run" / "checkpoints").exists()
        case "judge":
            return (out / "run" / "curve.png").exists()
        case "record":
            return (out / "policies.json").exists()
    return any(out.glob(".*.draft"))


def launch(out):
    command = [sys.executable, "-m", "valuelearn", "dataset", "make", *PENDULUM, *asked(out, *QUALITIES)]
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    parts = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
    return subprocess.Popen([*map(str, command)], env=os.environ | quick, **parts)


def test_killed_at_any_moment_the_same_command_makes_the_same(pendulum, tmp_path):
    """Killed while it trains, judges, records and writes, a random while later; then left alone."""
    out, chance = tmp_path / "made", random.Random(0)
    for phase in (*KILLED, None):
        process = launch(out)
        while phase and process.poll() is None and not moment(out, phase):
            time.sleep(0.001)
        if phase:
            time.sleep(chance.uniform(0, 0.02 if phase == "write" else 0.3))
            os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[0].decode()
        assert process.returncode == (-signal.SIGKILL if phase else 0), said
    assert files(out) == files(pendulum[0])  # Nothing half-written is left, either.


def test_a_folder_where_training_never_began(pendulum, tmp_path):
    """Killed while the config was written: only its draft is there."""
    (tmp_path / "made" / "run").mkdir(parents=True)
    (tmp_path / "made" / "run" / ".config.yaml").write_text("env: {id")
    call(*PENDULUM, *asked(tmp_path / "made", "medium"))
    found = (tmp_path / "made" / "medium.hdf5").read_bytes()
    assert found == (pendulum[0] / "medium.hdf5").read_bytes()


FUNCTIONAL = CONFIGS.parent / "classic" / "sac_pendulum.yaml"
CLIFF = CONFIGS.parent / "grid" / "stock_dqn_cliff.yaml"
BC = CONFIGS.parent / "offline" / "bc.yaml"
MISTAKES = {
    "quality": ((*PENDULUM, "--quality", "mediun"), "--quality mediun: did you mean 'medium'?"),
    "no quality": (
        (*PENDULUM, "--quality", "xyz"),
        "one of random, medium, medium-replay, medium-expert, exp",
    ),
    "functional": (
        (FUNCTIONAL, "checkpoint.policies_every_frames=100"),
        "nothing is recorded; use its like of gym/",
    ),
    "functional experience": (
        (FUNCTIONAL, "checkpoint.experience=true"),
        "a run inside the compiled loop leaves",
    ),
    "no policies": (
        (*PENDULUM, "checkpoint.policies_every_frames=null"),
        "policies are wanted to record from",
    ),
    "late policies": ((*PENDULUM, "checkpoint.policies_every_frames=901"), "the first within 900 frames"),
    "no experience": (
        (*PENDULUM, "checkpoint.experience=false", "--quality", "medium-replay"),
        "checkpoint.experience is false; medium-replay is made of it",
    ),
    "no replay saved": (
        (*PENDULUM, "checkpoint.replay=false"),
        "a run that goes on without its replay has lost",
    ),
    "small": (
        (*PENDULUM, "agent.replay.capacity=1_800"),
        "agent.replay.capacity is 1800; 1832 rows are wanted",
    ),
    "offline": ((BC,), "checkpoint.policies_every_frames is null"),
    "offline policies": ((BC, "checkpoint.policies_every_frames=5"), "has no frames of its own"),
    "stock": (
        (CLIFF, "env.id=gym/CartPole-v1", "checkpoint.policies_every_frames=5"),
        "no place for the stock",
    ),
    "clipped": (
        (CLIFF.parent.parent / "atari" / "dqn_mse.yaml", "checkpoint.policies_every_frames=100"),
        "env.clip_rewards is true; what is recorded is not the game's own with it; false is wanted",
    ),
    "no file": (("nowhere.yaml",), "nowhere.yaml: there is no such file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_before_anything_is_trained(mistake, tmp_path, capsys):
    arguments, sentence = MISTAKES[mistake]
    call(*arguments, "--out", tmp_path / "out", code=2)
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "out").exists()


def edited(folder, text, new):
    config = (folder / "config.yaml").read_text()
    assert text in config
    (folder / "config.yaml").write_text(config.replace(text, new))


SPOILT = {
    "unfinished": (lambda run: shutil.rmtree(run / "params"), "this run is unfinished; valuelearn resume"),
    "emptied": (lambda run: shutil.rmtree(run / "policies"), "there are no policies in it"),
    "no config": (lambda run: (run / "config.yaml").unlink(), "this is not a run folder"),
    "no experience": (lambda run: (run / experience.FILE).unlink(), "there is no such file"),
    "kept none": (
        lambda run: edited(run, "policies_every_frames: 200", "policies_every_frames: null"),
        "config.yaml, line",
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_run_that_will_not_do(fault, pendulum, tmp_path, capsys):
    spoil, sentence = SPOILT[fault]
    shutil.copytree(pendulum[0] / "run", tmp_path / "run")
    spoil(tmp_path / "run")
    call(tmp_path / "run", *asked(tmp_path / "out", "medium-replay"), code=2)
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


ELSEWHERE = {
    "config": ((*PENDULUM, "train.seed=1"), (), "it was trained from another config; name another --out"),
    "seed": (PENDULUM, ("--seed", 1), "it tells of another run or another --seed; name another --out"),
    "rows": (
        PENDULUM,
        ("--rows", 99),
        "it was made with rows_asked = 250, and 99 is asked; name another --out",
    ),
}


@pytest.mark.parametrize("change", ELSEWHERE)
def test_a_folder_of_other_datasets_is_never_taken_for_these(change, pendulum, capsys):
    source, options, sentence = ELSEWHERE[change]
    before = files(pendulum[0])
    call(*source, *asked(pendulum[0], "medium"), *options, code=2)
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert files(pendulum[0]) == before


def test_values_over_a_run_that_is_trained_are_refused(pendulum, tmp_path, capsys):
    call(pendulum[0] / "run", "train.seed=1", "--out", tmp_path / "out", code=2)
    assert "argument 'train.seed=1': " in capsys.readouterr().err


def test_a_file_in_place_of_the_folder(pendulum, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    call(pendulum[0] / "run", "--out", tmp_path / "out", code=2)
    assert "out: cannot be made (File exists)" in capsys.readouterr().err
    (tmp_path / "policies.json").write_text("{}")
    call(pendulum[0] / "run", "--out", tmp_path, code=2)
    assert "this is not what judging a run's policies leaves; remove it" in capsys.readouterr().err
