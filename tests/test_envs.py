"""Every kind of environment gives the transitions that happened, whatever its autoreset convention."""

import subprocess
import sys
import typing

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
from envs.gym_host import GymEnv
from envs.watch import EnvironmentFailedError
from valuelearn import replay
from valuelearn.types import EnvSpec, Trajectory


class Counter(gymnasium.Env):
    """Counts in steps of 1 to 3; terminates on 7, truncates beyond. No observation recurs."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, first_action):
        self.action_space = gymnasium.spaces.Discrete(3, start=first_action)
        self.episode = self.count = 0

    def observe(self):
        return np.array([self.episode, self.count], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.count = self.episode + 1, 0
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += int(action) - int(self.action_space.start) + 1
        return self.observe(), float(self.count), self.count == 7, self.count > 7, {}


class ObjectFinals(SyncVectorEnv):
    """Final observations as an array of objects, which some vector environments give."""

    def step(self, actions):
        *rest, info = super().step(actions)
        if "final_obs" in info:
            finals = np.full(self.num_envs, None, object)
            for env in np.flatnonzero(info["_final_obs"]):
                finals[env] = np.array(info["final_obs"][env])
            info["final_obs"] = finals
        return *rest, info


def play(env, actions, steps, seed=0):
    """A trajectory in which copy e's k-th action that counts is actions[e, k]."""
    obs, taken, trajectory = env.reset(seed), np.zeros(env.spec.num_envs, int), []
    for _ in range(steps):
        action = actions[np.arange(env.spec.num_envs), taken].astype(np.int32)
        step = env.step(action)
        trajectory.append(Trajectory(obs, action, step))
        taken, obs = taken + step.valid, step.obs
    return jax.tree.map(lambda *x: np.stack(x), *trajectory)


def random_actions(spec, steps, seed=0):
    return np.random.default_rng(seed).integers(0, spec.num_actions, (spec.num_envs, steps))


def row_of(*columns):
    """Something that can be compared and hashed."""
    return tuple(np.asarray(x).tobytes() for x in columns)


def sampled(memory, state, batches=1):
    draw = jax.jit(memory.sample)
    for key in range(batches):
        yield from zip(*map(np.asarray, draw(state, jax.random.key(key)).transition[:5]), strict=True)


def reference(first_action, actions):
    """One copy's transitions and returns, by gymnasium's single-environment interface."""
    env, total = Counter(first_action), 0.0
    obs, _ = env.reset()
    for action in actions:
        next_obs, reward, terminated, truncated, _ = env.step(int(action) + first_action)
        total, last = total + reward, terminated or truncated
        reward, discount, returned = np.float32([reward, not terminated, total])
        yield obs, np.int32(action), reward, discount, next_obs, last, returned
        obs = next_obs
        if last:
            (obs, _), total = env.reset(), 0.0


@pytest.mark.parametrize("first_action", [0, 1])
@pytest.mark.parametrize(
    ("vector", "mode"),
    [(SyncVectorEnv, mode) for mode in AutoresetMode] + [(ObjectFinals, AutoresetMode.SAME_STEP)],
)
def test_every_autoreset_mode_gives_the_same_transitions(vector, mode, first_action):
    copies, count = 3, 60
    actions = np.random.default_rng(0).integers(0, 3, (copies, 2 * count))
    env = GymEnv(vector([lambda: Counter(first_action)] * copies, autoreset_mode=mode))
    assert env.spec == EnvSpec((2,), np.dtype(np.float32), 3, copies)
    trajectory = play(env, actions, 2 * count)
    memory = replay.replay(env.spec, capacity=1000, batch_size=4000, gamma=0.5)
    state = memory.add(memory.init(), jax.tree.map(jnp.asarray, trajectory))
    drawn = {row_of(*row) for row in sampled(memory, state)}
    for copy in range(copies):
        obs, action, step = jax.tree.map(lambda x, copy=copy: x[:, copy], trajectory)
        columns = (obs, action, step.reward, step.discount, step.next_obs, step.last, step.episode_return)
        found = [row_of(*row) for *row, valid in zip(*columns, step.valid, strict=True) if valid]
        want = list(reference(first_action, actions[copy, :count]))
        assert found[:count] == [row_of(*row) for row in want]
        assert {(row[3], row[5]) for row in want} == {(1, False), (0, True), (1, True)}
        assert {row_of(*row[:3], np.float32(0.5) * row[3], row[4]) for row in want} <= drawn
        assert step.valid.all() == (mode is not AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_reset_does_not_change_what_was_answered_before(mode):
    env = GymEnv(SyncVectorEnv([lambda: Counter(0)] * 2, autoreset_mode=mode))
    env.reset(0)
    answered = [env.step(np.zeros(2, np.int32)) for _ in range(8)]
    kept = jax.tree.map(np.copy, answered)
    assert any(step.last.any() for step in kept)
    env.reset(1)
    jax.tree.map(np.testing.assert_array_equal, answered, kept)


@pytest.mark.parametrize("which", ["observation_space", "action_space"])
def test_other_gymnasium_spaces_are_refused(which):
    env = Counter(0)
    setattr(env, which, gymnasium.spaces.MultiDiscrete([2, 2]))
    with pytest.raises(envs.UnknownEnvironmentError, match="is wanted"):
        GymEnv(SyncVectorEnv([lambda: env]))


def atari(game, num_envs, **options):
    return envs.make(f"atari/{game}", num_envs=num_envs, atari=envs.AtariOptions(**options))


# The limits are such that games of Breakout terminate and are truncated, and those of Pong truncated.
@pytest.mark.parametrize(("game", "max_episode_frames"), [("breakout", 720), ("pong", 400)])
def test_the_replay_rebuilds_atari_stacks(game, max_episode_frames):
    env = atari(game, 3, max_episode_frames=max_episode_frames)
    assert (env.spec.obs_shape, env.spec.obs_dtype) == ((84, 84, 4), np.dtype(np.uint8))
    assert (env.spec.frame_stack, env.spec.frames_per_step, env.spec.num_envs) == (4, 4, 3)
    trajectory = play(env, random_actions(env.spec, 400), 400)
    env.close()
    first = trajectory.obs[0]
    assert first.shape == (3, 84, 84, 4) and first.dtype == np.uint8
    assert not first[..., :3].any() and first[..., 3].any()
    memory = replay.replay(env.spec, capacity=1260, batch_size=400, gamma=1.0)
    state = jax.jit(memory.add, donate_argnums=0)(memory.init(), trajectory)
    obs, action, step = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory)
    rows = zip(obs, action, step.reward, step.discount, step.next_obs, step.valid, strict=True)
    happened = {row_of(*row) for *row, valid in rows if valid}
    ends = {row_of(x) for x in step.next_obs[step.last]}
    drawn = list(sampled(memory, state, batches=4))
    assert {row_of(*row) for row in drawn} <= happened
    # 1600 draws find each of 1190 transitions with probability 0.74.
    assert len(ends) > 4 and len(ends & {row_of(row[4]) for row in drawn}) > len(ends) / 3
    assert {row_of(x) for x in first} & {row_of(row[0]) for row in drawn}
    assert set(step.discount[step.last]) == {"breakout": {0, 1}, "pong": {1}}[game]


def test_the_atari_time_limit_truncates():
    env = atari("breakout", 2, max_episode_frames=100)
    trajectory = play(env, random_actions(env.spec, 60), 60)
    env.close()
    step, at = trajectory.step, np.arange(1, 61) % 26
    np.testing.assert_array_equal(step.last, np.tile((at == 25)[:, None], 2))
    np.testing.assert_array_equal(step.valid, np.tile((at != 0)[:, None], 2))
    assert (step.discount == 1).all()
    assert not step.reward[~step.valid].any() and not step.episode_return[~step.valid].any()
    assert not step.obs[at == 0][..., :3].any()  # The frames of a new game.


@pytest.mark.parametrize("game", ["seaquest", "breakout"])
def test_atari_returns_are_raw_and_rewards_clipped(game):
    env = atari(game, 2)
    trajectory = play(env, actions := random_actions(env.spec, 300), 300, seed=5)
    env.close()
    step = trajectory.step
    raw = AtariVectorEnv(
        game, 2, repeat_action_probability=0.25, noop_max=0, reward_clipping=False, use_fire_reset=False
    )
    raw.reset(seed=5)
    total, taken, largest = np.zeros(2), np.zeros(2, int), 0
    for t in range(300):
        obs, score, terminated, truncated, _ = raw.step(actions[np.arange(2), taken])
        taken, total = taken + step.valid[t], np.where(step.valid[t], total + score, 0)
        largest = max(largest, score.max())
        np.testing.assert_array_equal(np.moveaxis(obs, 1, -1), step.next_obs[t])
        np.testing.assert_array_equal(step.reward[t], np.clip(score, -1, 1))
        np.testing.assert_array_equal(step.episode_return[t], total)
        np.testing.assert_array_equal(step.last[t], terminated | truncated)
        np.testing.assert_array_equal(step.discount[t], ~terminated)
    raw.close()
    assert largest >= {"seaquest": 20, "breakout": 1}[game] and (game != "breakout" or step.last.any())


def test_a_lost_life_ends_the_return_but_not_the_game():
    played = []
    for life_loss_terminates in (False, True):
        env = atari("breakout", 3, life_loss_terminates=life_loss_terminates, max_episode_frames=720)
        played.append(play(env, random_actions(env.spec, 400), 400).step)
        env.close()
    whole, lives = played
    for field in ("obs", "reward", "last", "valid", "episode_return"):
        np.testing.assert_array_equal(getattr(whole, field), getattr(lives, field))
    over, cut = whole.discount == 0, whole.last & (whole.discount == 1)
    assert cut.any() and lives.discount[cut].all() and not lives.discount[over].any()
    assert (lives.discount[~lives.valid] == 1).all()
    lost = [
        (game == 0).sum()
        for copy in range(3)
        for game in np.split(lives.discount[:, copy], np.flatnonzero(whole.last[:, copy]) + 1)[:-1]
        if game[-1] == 0
    ]
    assert len(lost) > 1 and set(lost) == {5}  # Breakout has five lives.


def test_atari_is_fixed_by_its_seed():
    """The two runs of seed 0 are one environment reset again and a new one."""
    first, second = atari("breakout", 2), atari("breakout", 2)
    actions = random_actions(first.spec, 100)
    a, _, other = (play(first, actions, 100, seed) for seed in (0, 1, 1))
    b = play(second, actions, 100, 0)
    again = play(first, actions, 100, 0)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    jax.tree.map(np.testing.assert_array_equal, a, again)
    assert (a.obs != other.obs).any()
    first.close()
    second.close()


@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
def test_action_zero_sticks(sticky_actions):
    """Held still, then held right: without sticking all copies move at once, with it some later."""
    copies = 24
    env = atari("breakout", copies, sticky_actions=sticky_actions)
    env.reset(0)
    for _ in range(5):
        still = env.step(np.zeros(copies, np.int32))
    right = env.step(np.full(copies, 2, np.int32))
    env.close()
    assert len({x.tobytes() for x in still.obs}) == 1
    _, counts = np.unique(right.obs.reshape(copies, -1), axis=0, return_counts=True)
    # The first of the four frames repeats action 0 in a quarter of the copies.
    late = copies - counts.max()
    assert late == 0 if sticky_actions == 0 else 1 <= late <= 14


@pytest.mark.parametrize("low", [-2.0, [-1.0, 0.0]])
def test_actions_reach_the_bounds(low):
    class Echo(Counter):
        def __init__(self):
            super().__init__(0)
            self.action_space = gymnasium.spaces.Box(
                np.float32(low), np.float32([3.0, 0.5]), dtype=np.float32
            )

        def step(self, action):
            assert self.action_space.contains(action)
            return action, 0.0, False, False, {}

    env = GymEnv(SyncVectorEnv([Echo]))
    env.reset(0)
    least, greatest = np.broadcast_to(np.float32(low), 2), np.float32([3.0, 0.5])
    for action, wanted in ((-1, least), (1, greatest), (0, (least + greatest) / 2)):
        found = env.step(np.full((1, 2), action, np.float32)).next_obs
        np.testing.assert_array_equal(found[0], wanted)


@pytest.mark.parametrize(
    "space", [gymnasium.spaces.Box(-np.inf, 1.0, (2,)), gymnasium.spaces.Box(0, 255, (2,), np.uint8)]
)
def test_actions_without_bounds_and_whole_numbers_are_refused(space):
    env = Counter(0)
    env.action_space = space
    with pytest.raises(envs.UnknownEnvironmentError, match="finite bounds, is wanted"):
        GymEnv(SyncVectorEnv([lambda: env]))


class Parts(gymnasium.Env):
    """Observations in parts, as dm_control's; the second part counts steps."""

    metadata: typing.ClassVar = {"render_modes": ["rgb_array"]}
    render_mode = None

    observation_space = gymnasium.spaces.Dict(
        {"place": gymnasium.spaces.Box(-1, 1, (2,)), "speed": gymnasium.spaces.Box(-9, 9, ())}
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observed(), {}

    def step(self, action):
        self.steps += 1
        return self._observed(), 1.0, False, self.steps == 3, {}

    def _observed(self):
        return {"place": np.array([0.5, -0.5], np.float32), "speed": np.array(self.steps, np.float32)}


def test_observations_in_parts_are_laid_side_by_side():
    gymnasium.register("Parts-v0", entry_point=lambda render_mode: Parts())
    try:
        env = envs.make("gym/Parts-v0", num_envs=2)
        assert env.spec.obs_shape == (3,)
        np.testing.assert_array_equal(env.reset(0), 2 * [[0.5, -0.5, 0.0]])
        steps = [env.step(np.zeros((2, 1), np.float32)) for _ in range(3)]
        assert [step.next_obs[1, 2] for step in steps] == [1, 2, 3] and steps[2].last.all()
        env.close()
    finally:
        del gymnasium.registry["Parts-v0"]


class Fails(Counter):
    """Fails at its fifth step, in some way."""

    def __init__(self, fail):
        super().__init__(0)
        self.fail, self.steps = fail, 0

    def step(self, action):
        self.steps += 1
        if self.steps == 5:
            self.fail()
        return super().step(action)


@pytest.mark.parametrize(
    ("fail", "said"),
    [(lambda: 1 / 0, "ZeroDivisionError: division by zero"), (sys.exit, "SystemExit")],
    ids=["raises", "exits"],
)
def test_what_an_environment_raises_is_told_with_its_place(fail, said):
    env = GymEnv(SyncVectorEnv([lambda: Fails(fail)] * 2), "Mine-v0")
    env.reset(0)
    for _ in range(4):
        env.step(np.zeros(2, np.int32))
    with pytest.raises(EnvironmentFailedError, match=rf"Mine-v0: step raised {said} \(.*, line \d+\)"):
        env.step(np.zeros(2, np.int32))


def test_an_environment_that_never_answers_ends_the_process():
    code = (
        "import time, numpy as np\n"
        "from gymnasium.vector import SyncVectorEnv\n"
        "from envs.gym_host import GymEnv\n"
        "from tests.test_envs import Fails\n"
        "env = GymEnv(SyncVectorEnv([lambda: Fails(lambda: time.sleep(1000))]), 'Mine-v0', 0.4)\n"
        "env.reset(0)\n"
        "time.sleep(1.5)\n"  # Nobody waits for it meanwhile.
        "for _ in range(5):\n"
        "    env.step(np.zeros(1, np.int32))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        "valuelearn: Mine-v0: step has not answered for 0.4 seconds (env.patience_seconds)"
    )


MODULE = """
import gymnasium
from tests.test_envs import Counter

class Bare(Counter):
    def __init__(self):
        super().__init__(0)

gymnasium.register("Bare-v0", Bare)
"""


def test_an_environment_of_a_module_of_ones_own(tmp_path, monkeypatch):
    """It takes no render mode."""
    (tmp_path / "mine_for_test.py").write_text(MODULE)
    (tmp_path / "broken_for_test.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    env = envs.make("gym/mine_for_test:Bare-v0", num_envs=2)
    env.reset(0)
    with pytest.raises(envs.UnknownEnvironmentError, match="it has no render mode rgb_array"):
        env.render()
    for name, said in (
        ("mine_for_test:Bear-v0", "no gymnasium environment 'Bear-v0'; did you mean 'Bare-v0'"),
        ("no_such:Bare-v0", "'no_such' cannot be imported .ModuleNotFoundError"),
        ("broken_for_test:Bare-v0", "'broken_for_test' cannot be imported .ZeroDivisionError"),
    ):
        with pytest.raises(envs.UnknownEnvironmentError, match=said):
            envs.check(f"gym/{name}")


def test_atari_games_for_two_are_refused():
    with pytest.raises(envs.UnknownEnvironmentError, match="combat is a game for two"):
        envs.check("atari/combat")
