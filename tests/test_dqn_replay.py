"""Atari's logged replays: what was written as Dopamine writes it comes out of our replay, stacked."""

import gzip
import io
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import logged as logged_replays
from agents import recordings
from agents.dqn import DQNConfig
from envs.datasets import DatasetError, dqn_replay
from valuelearn import loop, replay
from valuelearn.config import Misfit
from valuelearn.types import Agent, EnvSpec, LearnerState

CAPACITY = 60
SHAPE = (4, 4)


class Ring:
    """Dopamine's circular buffer: three blank rows before every episode, a log before it is full."""

    def __init__(self, folder):
        self.folder, self.added, self.logs = folder, 0, 0
        # What was never written is whatever lay in memory.
        self.observation = np.full((CAPACITY, *SHAPE), 99, np.uint8)
        self.action, self.reward = np.full(CAPACITY, 7, np.int32), np.full(CAPACITY, np.nan, np.float32)
        self.terminal = np.full(CAPACITY, 55, np.uint8)

    def _put(self, *row):
        at = self.added % CAPACITY
        self.observation[at], self.action[at], self.reward[at], self.terminal[at] = row
        self.added += 1

    def add(self, *row):
        if self.added == 0 or self.terminal[(self.added - 1) % CAPACITY] == 1:
            for _ in range(3):
                self._put(np.zeros(SHAPE, np.uint8), 0, 0, 0)
        self._put(*row)
        if self.added % CAPACITY == CAPACITY - 1:
            self.log()

    def log(self):
        for name in ("observation", "action", "reward", "terminal"):
            write(self.folder / f"$store$_{name}_ckpt.{self.logs}.gz", getattr(self, name))
        write(self.folder / f"add_count_ckpt.{self.logs}.gz", np.array(self.added))
        self.logs += 1


def zipped(data):
    return gzip.compress(data, 1)


def headed(descr, shape):
    """A header of numpy's without the array."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return zipped(b"\x93NUMPY\x01\x00\x76\x00" + header.encode())


def npy(array):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def write(path, array):
    path.write_bytes(zipped(npy(array)))


def picture(number):
    frame = np.zeros(SHAPE, np.uint8)
    frame[0, 0], frame[0, 1] = number % 256, 1 + number // 256
    return frame


def number_of(frame):
    return int(frame[0, 0]) + 256 * (int(frame[0, 1]) - 1)


@pytest.fixture
def logged(tmp_path):
    """A folder of two logs, and the steps (number, action, reward, terminal) of every one played."""
    random = np.random.default_rng(1)
    ring, steps = Ring(tmp_path), []
    while ring.logs < 2:
        length = random.integers(1, 12)
        for step in range(length):
            row = (len(steps), random.integers(0, 4), float(random.normal()), step == length - 1)
            steps.append(row)
            if ring.logs < 2:
                ring.add(picture(row[0]), *row[1:])
    assert ring.added == 2 * CAPACITY - 1  # Once before the ring was full, and once after.
    return tmp_path, steps


@pytest.mark.parametrize(("checkpoint", "part"), [(0, 7), (1, 100)])
def test_into_a_replay_that_stacks(quick_compilation, logged, checkpoint, part):
    folder, steps = logged
    assert dqn_replay.numbers(folder) == [0, 1]
    recording = dqn_replay.read(folder, checkpoint, clip_rewards=False)
    spec = EnvSpec((*SHAPE, 4), np.dtype(np.uint8), num_actions=4, num_envs=1, frame_stack=4)
    memory = replay.replay(spec, capacity=400, batch_size=512, gamma=0.9)
    state, add = memory.init(), jax.jit(memory.add)
    parts = list(dqn_replay.trajectories(recording, part))
    assert len({trajectory.obs.shape for trajectory in parts}) == 1
    for trajectory in parts:
        state = add(state, trajectory)
    transition = jax.tree.map(np.asarray, memory.sample(state, jax.random.key(0)).transition)
    seen = set()
    recorded = [number_of(frame) for frame in in_order(recording)[recording.valid]]
    for row in range(512):
        number = number_of(transition.obs[row, ..., -1])
        seen.add(number)
        _, action, reward, terminal = steps[number]
        assert transition.action[row] == action
        np.testing.assert_allclose(transition.reward[row], reward, rtol=1e-6)
        np.testing.assert_allclose(transition.discount[row], 0 if terminal else 0.9, rtol=1e-6)
        np.testing.assert_array_equal(transition.obs[row], stack(steps, number, recorded[0]))
        if not terminal:
            np.testing.assert_array_equal(transition.next_obs[row], stack(steps, number + 1, recorded[0]))
    assert seen == set(recorded)
    assert recorded == list(range(recorded[0], recorded[0] + len(recorded)))


def in_order(recording):
    size = len(recording.action)
    return recording.frames[(recording.first + np.arange(size)) % len(recording.frames)]


def stack(steps, number, oldest):
    """Four frames of an episode up to a step, blank before it began, and before what was recorded."""
    frames = np.zeros((*SHAPE, 4), np.uint8)
    for back in range(4):
        frames[..., 3 - back] = picture(number - back)
        if number - back <= oldest or steps[number - back - 1][3]:
            break
    return frames


def test_rewards_are_clipped_where_that_is_asked(logged):
    folder, _ = logged
    raw, clipped = (dqn_replay.read(folder, 1, clip_rewards=clip).reward for clip in (False, True))
    assert np.abs(raw).max() > 1
    np.testing.assert_array_equal(clipped, np.clip(raw, -1, 1))


def test_returns_are_whole_where_an_episode_ends(logged):
    folder, steps = logged
    recording = dqn_replay.read(folder, 1, clip_rewards=False)
    (trajectory,) = dqn_replay.trajectories(recording, len(recording.action))
    ends = np.flatnonzero(recording.discount == 0)
    for before, end in itertools.pairwise(ends):
        number = number_of(in_order(recording)[end])
        first = max(index for index in range(number) if steps[index][3]) + 1
        assert number_of(in_order(recording)[before]) == first - 1
        wanted = sum(step[2] for step in steps[first : number + 1])
        np.testing.assert_allclose(trajectory.step.episode_return[end, 0], wanted, rtol=1e-4, atol=1e-5)


def test_a_ring_that_was_saved_anywhere_begins_with_its_oldest_row(tmp_path):
    ring = Ring(tmp_path)
    for number in range(100):
        ring.add(picture(number), 1, 0.0, number % 10 == 9)
    logs = ring.logs
    ring.log()
    recording = dqn_replay.read(tmp_path, logs)
    numbers = [number_of(frame) for frame in in_order(recording)[recording.valid]]
    assert numbers == list(range(numbers[0], 100))
    (trajectory,) = dqn_replay.trajectories(recording, CAPACITY)
    shown = trajectory.obs[:, 0, ..., 0]
    np.testing.assert_array_equal(shown, in_order(recording))
    # What comes after a termination is no next observation of it.
    after, ends = trajectory.step.next_obs[:, 0, ..., 0], recording.discount == 0
    np.testing.assert_array_equal(after[ends], shown[ends])
    np.testing.assert_array_equal(after[:-1][~ends[:-1]], shown[1:][~ends[:-1]])


def test_frames_are_unpacked_once_and_mapped(logged):
    folder, _ = logged
    assert isinstance(dqn_replay.read(folder, 0).frames, np.memmap)
    (folder / "$store$_observation_ckpt.0.gz").write_bytes(b"not looked at again")
    dqn_replay.read(folder, 0)


SPOILT = {
    "cut frames": ("observation", lambda data: data[:-40], "observation is cut short"),
    "cut early": ("observation", lambda data: data[:5], "observation is cut short"),
    "cut rewards": ("reward", lambda data: data[:-40], "reward is cut short"),
    "checksum": ("action", lambda data: data[:-6] + b"x" + data[-5:], "action is damaged .*CRC"),
    "web page": ("terminal", lambda data: b"<html>", "terminal is damaged .*gzip"),
    "empty": ("observation", lambda data: b"", "observation is"),
    "pickle": ("add_count", lambda data: zipped(pickle.dumps(3)), "add_count is damaged"),
    "objects": ("action", lambda data: headed("|O", (60,)), "pickled Python objects, which are never opened"),
    "trillion": ("observation", lambda data: headed("|u1", (10**12, 84, 84)), "claims .*cannot hold"),
    "more bytes": ("observation", lambda data: zipped(gzip.decompress(data) + b"more"), "more bytes than"),
    "fewer rows": ("reward", lambda data: zipped(npy(np.zeros(59))), "reward 59"),
    "stacked": ("observation", lambda data: zipped(npy(np.zeros((60, 4, 4, 4), "u1"))), "single frames"),
    "no rows": ("add_count", lambda data: zipped(npy(np.array(0))), r"add_count .* begins with \[0\]"),
    "counts": ("add_count", lambda data: zipped(npy(np.arange(9))), r"add_count has the shape \[9\]"),
    "one action": ("action", lambda data: zipped(npy(np.array(3))), "action 1"),
    "flag of 2": ("terminal", lambda data: zipped(npy(np.full(60, 2, "u1"))), "terminal is 2"),
    "nan": ("reward", lambda data: zipped(npy(np.full(60, np.nan))), "reward is nan"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_file_is_refused_by_name(logged, fault):
    folder, _ = logged
    name, change, pattern = SPOILT[fault]
    file = folder / f"{'' if name == 'add_count' else '$store$_'}{name}_ckpt.0.gz"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DatasetError, match=pattern) as error:
        dqn_replay.read(folder, 0)
    assert str(folder) in str(error.value)
    # What was not whole is neither kept nor taken for the frames the next time.
    names = {path.name for path in folder.iterdir()}
    assert not [name for name in names if name.endswith(".draft")]
    if name == "observation" and fault != "stacked":
        assert "$store$_observation_ckpt.0.npy" not in names
    dqn_replay.read(folder, 1)


def test_a_missing_file_is_named(logged):
    folder, _ = logged
    (folder / "$store$_reward_ckpt.0.gz").unlink()
    assert dqn_replay.numbers(folder) == [1]
    with pytest.raises(DatasetError, match=r"reward_ckpt\.0\.gz: there is no such file"):
        dqn_replay.read(folder, 0)


SPEC = EnvSpec((*SHAPE, 4), np.dtype(np.uint8), num_actions=4, num_envs=3, frame_stack=4)


def in_replay(folder, capacity=400, spec=SPEC, **options):
    given = {"capacity": capacity, "batch_size": 512, **options}
    return logged_replays.memory(folder, DQNConfig(gamma=0.9, replay=given), spec, 10, clip_rewards=False)


def later(steps, number, n_step, stop):
    """The sum of n rewards, the discount and the step after; the recording ends before `stop`."""
    total, factor = 0.0, 1.0
    for index in range(number, min(number + n_step, stop)):
        total, factor = total + factor * steps[index][2], factor * 0.9
        if steps[index][3]:
            return total, 0.0, None
    return total, factor, index + 1


@pytest.mark.parametrize("options", [{"n_step": 3}, {"n_step": 2, "priority_exponent": 0.5}])
def test_an_agents_replay_holds_every_checkpoint(quick_compilation, logged, options):
    """The second checkpoint repeats steps of the first: it holds what its ring held."""
    folder, steps = logged
    memory, n_step = in_replay(folder, **options), options["n_step"]
    shown = [in_order(one)[one.valid] for one in (dqn_replay.read(folder, number) for number in (0, 1))]
    numbers = [[number_of(frame) for frame in frames] for frames in shown]
    state = memory.init()
    count, rewards = recordings.held(state)
    assert count == sum(map(len, numbers)) == len(rewards)
    batch = jax.tree.map(np.asarray, jax.jit(memory.sample)(state, jax.random.key(0)))
    np.testing.assert_allclose(batch.weight, 1)  # All priorities are as yet the same.
    obs, action, reward, discount, next_obs = batch.transition[:5]
    for row in range(512):
        number = number_of(obs[row, ..., -1])
        assert action[row] == steps[number][1]
        wanted = [later(steps, number, n_step, each[-1] + 1) for each in numbers if number in each]
        pair = (reward[row], discount[row])
        assert any(np.allclose(pair, one[:2], rtol=1e-5, atol=1e-6) for one in wanted)
        after = {one[2] for one in wanted if np.isclose(discount[row], one[1])}
        assert any((obs[row] == stack(steps, number, each[0])).all() for each in numbers)
        if after != {None}:
            stacks = [stack(steps, one, each[0]) for one in after for each in numbers]
            assert any((next_obs[row] == one).all() for one in stacks)


def test_as_much_is_read_as_the_replay_holds(quick_compilation, logged):
    folder, _ = logged
    memory = in_replay(folder, 30)
    state = memory.init()
    first = dqn_replay.read(folder, 0)
    ends = first.last[first.valid]
    # 25 rows, of which ends of episodes take one each.
    rows = np.cumsum(1 + ends)
    assert recordings.held(state)[0] == np.count_nonzero(rows <= 25)
    batch = jax.jit(memory.sample)(state, jax.random.key(0)).transition
    drawn = {number_of(obs) for obs in np.asarray(batch.obs)[..., -1]}
    assert drawn == set(range(np.count_nonzero(rows <= 25)))


def test_another_games_replay_is_refused(quick_compilation, logged):
    folder, _ = logged
    with pytest.raises(
        DatasetError, match=r"checkpoint 0: frames have the shape \[4, 4\].*\[5, 4\] is wanted"
    ):
        in_replay(folder, spec=SPEC._replace(obs_shape=(5, 4, 4)))
    with pytest.raises(DatasetError, match="stacks of frames are wanted, as of atari/"):
        in_replay(folder, spec=SPEC._replace(obs_shape=(3,), frame_stack=1))
    with pytest.raises(DatasetError, match="there is an action 3, and the environment has 3"):
        in_replay(folder, spec=SPEC._replace(num_actions=3))
    with pytest.raises(Misfit, match="nothing is played by which it could change"):
        in_replay(folder, importance_exponent_end=1.0)


def test_each_seed_has_priorities_of_its_own(quick_compilation, logged):
    """They go on from one chunk of updates to the next, and shares of draws follow them."""
    memory = in_replay(logged[0], batch_size=8, priority_exponent=1.0)
    agent = Agent(
        init=lambda key, obs: LearnerState({}, {}, {}, key, jnp.int32(0)),
        act=None,
        # A priority of 1 for odd actions, else of 0: those are drawn once at most.
        update=lambda state, sample, agree: (
            state._replace(updates=state.updates + 1),
            {"even": (sample.transition.action % 2 == 0).mean()},
            (sample.transition.action % 2).astype(jnp.float32),
        ),
        greedy=None,
    )
    schedule = loop.Schedule(90, 0, 1, 1, 30)
    chunks = loop.train_offline(agent, memory, SPEC._replace(num_envs=1), schedule, [0, 1])
    found = [(chunk.metrics["even"], np.asarray(chunk.state.memory.leaves)) for chunk in chunks]
    assert (found[0][0] > 0.05).all() and (found[-1][0] < found[0][0] / 2).all()
    assert (found[0][1][0] != found[0][1][1]).any()
    assert all((leaves <= before).all() for (_, before), (_, leaves) in itertools.pairwise(found))
