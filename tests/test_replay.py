"""The replay against a plain Python memory of whole transitions, on random episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelearn import replay
from valuelearn.types import EnvSpec, Timestep, Trajectory

GAMMA = 0.9


class Stream:
    """E random environments whose observations are unique, in either autoreset convention."""

    def __init__(self, num_envs: int, stack: int, seed: int, waits_to_reset: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.num_envs, self.stack, self.waits = num_envs, stack, waits_to_reset
        self.count = 0
        self.frames = [[self.fresh()] for _ in range(num_envs)]  # Of the running episodes.
        self.resetting = np.zeros(num_envs, bool)
        self.episodes: list[list[tuple]] = [[] for _ in range(num_envs)]
        self.transitions: list[list[tuple]] = [[] for _ in range(num_envs)]  # In order, per env.

    def fresh(self) -> np.ndarray:
        self.count += 1
        return np.array([self.count, -self.count], np.float32)

    def observe(self, env: int) -> np.ndarray:
        if self.stack == 1:
            return self.frames[env][-1]
        frames = [np.zeros(2, np.float32)] * self.stack + self.frames[env]
        return np.stack(frames[-self.stack :], -1)

    def step(self) -> Trajectory:
        obs = np.stack([self.observe(e) for e in range(self.num_envs)])
        action = self.rng.integers(0, 5, self.num_envs).astype(np.int32)
        valid = ~self.resetting
        reward = (self.rng.normal(size=self.num_envs) * valid).astype(np.float32)
        terminated = (self.rng.random(self.num_envs) < 0.15) & valid
        truncated = (self.rng.random(self.num_envs) < 0.1) & valid
        life_lost = (self.rng.random(self.num_envs) < 0.1) & valid
        last, ended = terminated | truncated, terminated | life_lost
        next_obs, after = [], []
        for e in range(self.num_envs):
            if not valid[e]:
                self.frames[e] = [self.fresh()]
                next_obs.append(self.observe(e))
                after.append(self.observe(e))
                continue
            self.frames[e].append(self.fresh())
            next_obs.append(self.observe(e))
            self.episodes[e].append((obs[e], action[e], reward[e], 0.0 if ended[e] else 1.0, next_obs[-1]))
            self.transitions[e].append((len(self.transitions[e]), *self.episodes[e][-1], bool(last[e])))
            if last[e] and not self.waits:
                self.frames[e] = [self.fresh()]
            after.append(self.observe(e))
        self.resetting = last if self.waits else np.zeros_like(last)
        step = Timestep(
            np.stack(next_obs),
            np.stack(after),
            reward,
            1 - ended.astype(np.float32),
            last,
            valid,
            np.zeros(self.num_envs, np.float32),
        )
        return Trajectory(obs, action, step)

    def expected(self, env: int, index: int, n_step: int) -> tuple | None:
        """The n-step transition from the env's index-th action; None where it is not whole yet."""
        total, power = 0.0, 1.0
        for made in self.transitions[env][index : index + n_step]:
            *_, reward, alive, next_obs, last = made
            total, power = total + power * reward, power * GAMMA
            if last or not alive:
                break
        else:
            if index + n_step > len(self.transitions[env]):
                return None
        obs, action = self.transitions[env][index][1:3]
        return obs, action, total, power * alive, next_obs


@pytest.mark.parametrize(("n_step", "eligible", "at_an_end"), [(1, 6, [1, 0]), (3, 4, [1, 1])])
def test_an_add_leaves_learnt_priorities_as_they_are(n_step, eligible, at_an_end):
    """Only rows that become eligible get the largest priority; the end of an episode makes two of them so."""

    def steps(count, last):
        number = jnp.ones((count, 1))
        obs, flag = jnp.zeros((count, 1, 2)), jnp.ones((count, 1), bool)
        step = Timestep(obs, obs, number, number, flag & last, flag, number)
        return Trajectory(obs, jnp.zeros((count, 1), jnp.int32), step)

    spec = EnvSpec((2,), np.dtype(np.float32), 5, num_envs=1)
    memory = replay.replay(spec, capacity=20, batch_size=4, gamma=GAMMA, n_step=n_step, priority_exponent=0.5)
    state = memory.add(memory.init(), steps(6, last=False))
    sample = memory.sample(state, jax.random.key(0))._replace(index=jnp.arange(eligible))
    state = memory.reprioritise(state, sample, jnp.full(eligible, 0.01))
    wanted = [0.1] * eligible
    for last, new in ((False, [1]), (True, at_an_end)):
        state = memory.add(state, steps(1, last))
        wanted += new
        np.testing.assert_allclose(state.priorities.leaves[0, : len(wanted)], wanted, rtol=1e-5)
        assert state.priorities.nodes[0] == pytest.approx(sum(wanted))


@pytest.mark.parametrize("waits_to_reset", [False, True])
@pytest.mark.parametrize(("stack", "n_step"), [(1, 1), (1, 3), (4, 1), (4, 3)])
@pytest.mark.parametrize("priority_exponent", [None, 0.5])
def test_samples_are_the_transitions_that_happened(waits_to_reset, stack, n_step, priority_exponent):
    num_envs, capacity = 3, 90
    stream = Stream(num_envs, stack, seed=n_step + stack, waits_to_reset=waits_to_reset)
    spec = EnvSpec((2, stack) if stack > 1 else (2,), np.dtype(np.float32), 5, num_envs, stack)
    memory = replay.replay(
        spec,
        capacity=capacity,
        batch_size=512,
        gamma=GAMMA,
        n_step=n_step,
        priority_exponent=priority_exponent,
    )
    add, sample, state = jax.jit(memory.add), jax.jit(memory.sample), memory.init()
    for part in range(30):  # Over twice the capacity: the ring wraps.
        steps = [stream.step() for _ in range(7)]
        state = add(state, jax.tree.map(lambda *x: jnp.stack(x), *steps))
        batch = sample(state, jax.random.key(part)).transition
        known = {}
        for env in range(num_envs):
            for index in range(len(stream.transitions[env])):
                if (found := stream.expected(env, index, n_step)) is not None:
                    known[float(np.asarray(found[0]).reshape(2, -1)[0, -1])] = found
        drawn = set()
        for obs, action, reward, discount, next_obs in zip(*map(np.asarray, batch[:5]), strict=True):
            drawn.add(newest := float(obs.reshape(2, -1)[0, -1]))
            want = known[newest]
            np.testing.assert_array_equal(obs, want[0])
            assert action == want[1]
            np.testing.assert_allclose(reward, want[2], atol=1e-6)
            np.testing.assert_allclose(discount, want[3], rtol=1e-6)
            np.testing.assert_array_equal(next_obs, want[4])
        # Everything that the ring still holds is drawn, but for the rows at its two ends.
        held = min(len(known), capacity - num_envs * (stack + n_step + 14))
        assert len(drawn) >= 0.7 * held


def test_rows_without_priority_are_never_drawn():
    """However sums are rounded: at the ends of blocks of which the first row, or the last, has none."""
    chance = np.random.default_rng(0)
    leaves = chance.uniform(0, 1, (980, 1024)).astype(np.float32) ** 4
    leaves[::2, 0] = leaves[1::3, -1] = leaves[5] = leaves[-1] = 0
    state = replay.Priorities(jnp.asarray(leaves), jnp.asarray(leaves).sum(-1), jnp.float32(1))
    ends = np.cumsum(np.asarray(state.nodes))
    near = 1 + np.linspace(-1e-6, 1e-6, 21, dtype=np.float32)
    uniform = np.minimum(np.outer(ends / ends[-1], near).ravel(), np.nextafter(np.float32(1), np.float32(0)))
    drawn = jax.jit(jax.vmap(replay._draw, (None, 0)))(state, jnp.asarray(np.append(uniform, 0), jnp.float32))
    assert (leaves.ravel()[np.asarray(drawn)] > 0).all()
