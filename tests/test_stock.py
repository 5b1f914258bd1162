"""Stocks beside observations, in jitted and host environments, through the replay."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import gridworld
from envs.gym_host import GymEnv
from valuelearn import replay
from valuelearn.stocks import Stocks
from valuelearn.types import EnvSpec, Stocked, Timestep, Trajectory

GAMMA = 0.75
STOCKS = Stocks(GAMMA, 1, -3.0, 5.0, bound=1e6)


def rollout(env, steps, seed=0):
    """Timesteps [T, E] under random actions, with the first observation."""
    spec, rng = env.spec, np.random.default_rng(seed)
    actions = rng.integers(0, spec.num_actions, (steps, spec.num_envs))
    if hasattr(env, "reset"):
        first, found = env.reset(seed), []
        for action in actions:
            found.append(env.step(action))
    else:
        (state, first), found = env.init(jax.random.key(seed)), []
        step = jax.jit(env.step)
        for index, action in enumerate(actions):
            state, timestep = step(state, action, jax.random.key(index + 1))
            found.append(timestep)
    return jax.tree.map(np.asarray, first), jax.tree.map(lambda *x: np.stack(x), *found)


class Countdown(gymnasium.Env):
    """Episodes of 3 steps that pay 1, 2, 3 and, if `terminates`, end for good."""

    observation_space = gymnasium.spaces.Box(0.0, 3.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, terminates=True):
        self.terminates = terminates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == 3
        ends = (over and self.terminates, over and not self.terminates)
        return np.float32([self.steps]), float(self.steps), *ends, {}


def host(mode, terminates=True):
    makers = [lambda: Countdown(terminates)] * 3
    return GymEnv(gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode))


ENVIRONMENTS = {
    "jitted": lambda: gridworld.named("coin").make(3, limit=9),
    "vectors": lambda: gridworld.named("homeostasis").make(3, limit=9),
    **{mode.value: (lambda mode=mode: host(mode)) for mode in gymnasium.vector.AutoresetMode},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_stock_and_return_add_up_at_every_step(name):
    """P1, P18: c_0 + sum of gamma^k R_{k+1} = gamma^t C_t, from a stock drawn at each episode's start."""
    env = ENVIRONMENTS[name]()
    dimensions = max(env.spec.reward_size, 1)
    env = envs.stocked(env, Stocks(GAMMA, dimensions, -3.0, 5.0, bound=1e6))
    first, steps = rollout(env, 40)
    carried, factor = first.stock.astype(np.float64), np.ones((3, 1))
    wanted, firsts, episodes = carried.copy(), [carried], 0
    for t in range(40):
        step = jax.tree.map(lambda x, t=t: x[t], steps)
        reward = step.reward.reshape(3, dimensions).astype(np.float64)
        wanted = np.where(step.valid[:, None], wanted + factor * reward, wanted)
        factor = np.where(step.valid[:, None], factor * GAMMA, factor)
        np.testing.assert_allclose(factor * step.next_obs.stock, wanted, rtol=1e-5, atol=1e-5)
        last = step.last[:, None]
        np.testing.assert_array_equal(
            np.where(last, 0, step.obs.stock), np.where(last, 0, step.next_obs.stock)
        )
        wanted, factor = np.where(last, step.obs.stock, wanted), np.where(last, 1.0, factor)
        firsts.append(step.obs.stock[step.last])
        episodes += step.last.sum()
    drawn = np.concatenate(firsts)
    assert episodes > 6 and len(np.unique(drawn)) == drawn.size  # Anew for every episode.
    assert drawn.min() >= -3 and drawn.max() <= 5


@pytest.mark.parametrize("terminates", [True, False])
@pytest.mark.parametrize("mode", gymnasium.vector.AutoresetMode)
def test_resets_are_no_transitions(mode, terminates):
    """P4, P18: what a replay holds are the episodes' steps, each with the stock that it was made with; where
    an episode was only cut off, its last step goes on to a stock like any other."""
    env = envs.stocked(host(mode, terminates), STOCKS)
    memory = replay.replay(env.spec, capacity=300, batch_size=256, gamma=GAMMA)
    obs, steps = env.reset(0), []
    lengths = 0
    for _ in range(40):
        step = env.step(np.zeros(3, int))
        steps.append(Trajectory(obs, np.zeros(3, np.int32), step))
        lengths += step.valid.sum()
        obs = step.obs
    state = memory.add(memory.init(), jax.tree.map(lambda *x: jnp.stack(x), *steps))
    assert int(state.start.sum()) == lengths
    found = memory.sample(state, jax.random.key(0)).transition
    np.testing.assert_array_equal(found.reward, found.obs.obs[:, 0] + 1)
    wanted = (found.obs.stock[:, 0] + found.reward) / GAMMA
    np.testing.assert_allclose(found.next_obs.stock[:, 0], wanted, rtol=1e-6)
    ended = (found.reward == 3) & terminates
    np.testing.assert_array_equal(found.discount, np.where(ended, 0.0, np.float32(GAMMA)))


def test_several_steps_of_vectors_are_one_transition():
    """With n steps the reward is their discounted sum, and the next stock that after all of them."""
    spec = EnvSpec((1,), np.dtype(np.float32), 2, num_envs=1, reward_size=2, stock_size=2)
    memory = replay.replay(spec, capacity=40, batch_size=64, gamma=GAMMA, n_step=2)
    stocks = Stocks(GAMMA, 2, 0.0, 0.0, bound=1e6)
    state, carried = memory.init(), np.zeros((1, 2), np.float32)
    for index in range(12):
        reward = np.float32([[index, -1.0]])
        after = stocks.after(carried, reward)
        now, then = np.float32([[index]]), np.float32([[index + 1]])
        flag = np.zeros(1, bool)
        step = Timestep(
            Stocked(then, after),
            Stocked(then, after),
            reward,
            np.ones(1, np.float32),
            flag,
            ~flag,
            reward[:, 0],
        )
        one = Trajectory(Stocked(now, carried), np.zeros(1, np.int32), step)
        state = memory.add(state, jax.tree.map(lambda x: jnp.asarray(x)[None], one))
        carried = after
    found = memory.sample(state, jax.random.key(0)).transition
    start = found.obs.obs
    wanted = jnp.concatenate([start + GAMMA * (start + 1), jnp.full_like(start, -1 - GAMMA)], -1)
    np.testing.assert_allclose(found.reward, wanted, rtol=1e-6)
    np.testing.assert_allclose(found.next_obs.stock, (found.obs.stock + wanted) / GAMMA**2, rtol=1e-5)


def test_stocks_do_not_blow_up():
    """P2: after 1,000 steps at gamma 0.99 a stock would be 2e4 times the first; clipped, it stays put."""
    stocks = Stocks(0.99, 1, 1.0, 1.0, bound=50.0)
    carried = jnp.ones((1, 1))
    for _ in range(1000):
        carried = stocks.after(carried, jnp.zeros(1))
    assert float(carried[0, 0]) == 50.0


def test_slopes_are_kept():
    """The utility asked for is the same throughout an episode, and another one in the next."""
    stocks = Stocks(GAMMA, 1, -3.0, 5.0, bound=10.0, angles=(0.0, 2 * np.pi))
    _, steps = rollout(envs.stocked(gridworld.named("coin").make(64, limit=5), stocks), 10)
    slopes = steps.obs.stock[..., 1:]
    np.testing.assert_allclose(np.linalg.norm(slopes, axis=-1), 1.0, rtol=1e-5)
    changed = (slopes[1:] != slopes[:-1]).any(-1)
    np.testing.assert_array_equal(changed, steps.last[1:])


def test_a_host_environment_repeats_itself():
    """Every stock comes from the seed, and of each copy from its own, whatever other copies there are."""
    first, second, other = (
        rollout(envs.stocked(host(gymnasium.vector.AutoresetMode.SAME_STEP), STOCKS), 9, seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[1].obs.stock, second[1].obs.stock)
    assert (first[1].obs.stock != other[1].obs.stock).any()
    np.testing.assert_array_equal(first[1].obs.stock[:, 1:], other[1].obs.stock[:, :-1])


@pytest.mark.parametrize(
    ("bound", "obtained"), [(8.0, -3.9248), (16.0, -3.8811), (32.0, -3.8145), (np.inf, -3.8145)]
)
def test_what_the_clip_of_stocks_costs_a_norm(bound, obtained):
    """The best policy of 8 steps by stocks that are clipped, from both levels 3 too low: gamma is 0.5."""
    grid, gamma = gridworld.named("homeostasis"), 0.5
    table = grid.table()

    def after(stock, reward, bound):
        moved = ((held + one) / gamma for held, one in zip(stock, reward, strict=True))
        return tuple(round(min(max(one, -bound), bound), 9) for one in moved)

    @functools.cache
    def values(state, stock, steps):
        """What each action adds to -||stock + return||."""
        return tuple(
            sum(p * rise(state, stock, steps, following, reward) for p, following, reward in outcomes)
            for outcomes in table[state].values()
        )

    def rise(state, stock, steps, following, reward):
        paid = np.hypot(*stock) - np.hypot(*(held + one for held, one in zip(stock, reward, strict=True)))
        if steps == 1:
            return paid
        return paid + gamma * max(values(following, after(stock, reward, bound), steps - 1))

    @functools.cache
    def played(state, stock, true, steps):
        if not steps:
            return -np.hypot(*true) * gamma**8
        found = np.array(values(state, stock, steps))
        action = int(np.flatnonzero(found >= found.max() - 1e-8)[0])
        return sum(
            p * played(s, after(stock, r, bound), after(true, r, np.inf), steps - 1)
            for p, s, r in table[state][action]
        )

    assert played(grid.start, (-3.0, -3.0), (-3.0, -3.0), 8) == pytest.approx(obtained, abs=1e-4)
