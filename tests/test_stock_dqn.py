"""The stock agent: its rule on outputs given by hand, what it refuses, and that it learns where it must."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

import envs
from agents import stock_dqn
from agents.q_learning import Outputs
from agents.stock_dqn import StockDQNConfig
from envs import tabular
from valuelearn import loop
from valuelearn.config import Misfit
from valuelearn.loop import Schedule
from valuelearn.types import EnvSpec, Sample, Stocked, Transition

SPEC = EnvSpec((3,), np.dtype(np.float32), 2, num_envs=4, stock_size=1)
TAIL = {"name": "two_slope", "above": 0.0, "below": 1.0}
NEAR = {"name": "two_slope", "above": -1.0, "below": 1.0}


def config(**options):
    defaults = {
        "head_options": {"num_quantiles": 2, "kappa": 0.0},
        "network": {"torso": "mlp", "hidden": (8,)},
        "gamma": 0.5,
        "utility": TAIL,
    }
    return StockDQNConfig.model_validate({**defaults, **options}, strict=False)


def rule(**options):
    return stock_dqn.rule(config(**options), SPEC)


def seen(stock):
    return Stocked(jnp.zeros(3), jnp.atleast_1d(jnp.float32(stock)))


def moved(stock, reward, discount, next_stock):
    return Transition(seen(stock), jnp.int32(0), jnp.float32(reward), jnp.float32(discount), seen(next_stock))


def outputs(*next_out):
    out = jnp.asarray(next_out, jnp.float32)
    return Outputs(out, out, jnp.full_like(out, jnp.nan))


RISKY, SURE = [-1.0, 3.0], [0.5, 0.5]


@pytest.mark.parametrize(("stock", "action"), [(-10.0, 0), (0.0, 1), (10.0, 0)])
def test_the_stock_decides(stock, action):
    """P3, P11: far below zero and far above the better mean is taken, near zero the sure thing."""
    greedy = rule().greedy
    assert greedy(jnp.asarray([RISKY, SURE]), seen(stock)) == action
    assert greedy(jnp.asarray([SURE, RISKY]), seen(stock)) == 1 - action


def test_the_next_action_is_chosen_at_the_next_stock():
    target, _ = rule().target(outputs(RISKY, SURE), moved(-10.0, 1.0, 0.5, 0.0))
    np.testing.assert_allclose(target, 1 + 0.5 * np.array(SURE))
    target, _ = rule().target(outputs(RISKY, SURE), moved(0.0, 1.0, 0.5, -10.0))
    np.testing.assert_allclose(target, 1 + 0.5 * np.array(RISKY))


def test_equally_good_actions_are_averaged():
    """P11: above all losses every action scores 0, and the target is no arbitrary one's law."""
    target, _ = rule().target(outputs(RISKY, SURE), moved(0.0, 1.0, 0.5, 10.0))
    np.testing.assert_allclose(target, 1 + 0.5 * (np.array(RISKY) + np.array(SURE)) / 2)


@pytest.mark.parametrize("stock", [-3.0, 0.0, 4.0])
def test_after_termination_nothing_comes(stock):
    """P4: the law is a point at the reward whatever the stock, and the utility rises by what that adds."""
    target, _ = rule().target(outputs(RISKY, SURE), moved(stock, -2.0, 0.0, 2 * (stock - 2)))
    np.testing.assert_allclose(target, [-2.0, -2.0])
    one = jnp.asarray([[7.0], [9.0]])
    target, _ = rule(head="mse").target(Outputs(one, one, one), moved(stock, -2.0, 0.0, 2 * (stock - 2)))
    np.testing.assert_allclose(target, min(stock - 2, 0) - min(stock, 0))


@pytest.mark.parametrize(
    ("utility", "gamma", "rise", "fading"),
    [
        (NEAR, 0.5, abs(2.0) - abs(2.0 - 3.0), 0.5),
        ({"name": "squared"}, 0.5, 2.0**2 - (2.0 - 3.0) ** 2, 0.25),
        ({"name": "threshold"}, 1.0, -1.0, 1.0),
    ],
)
def test_the_rise_of_a_utility(utility, gamma, rise, fading):
    """P12: what is learnt starts from f(stock + reward) - f(stock), and fades by gamma to the degree of f."""
    one = jnp.asarray([[0.25], [0.5]])
    step = moved(2.0, -3.0, gamma, 0.0)
    target, _ = rule(head="mse", utility=utility, gamma=gamma).target(Outputs(one, one, one), step)
    np.testing.assert_allclose(target, rise + fading * 0.5, rtol=1e-6)


def test_rewards_in_another_unit():
    """P17: with rewards, stocks and laws ten times as large the same is done, to ten times the targets."""
    small, large = outputs(RISKY, SURE), outputs(*(10 * np.array([RISKY, SURE])))
    for stock in np.linspace(-5, 5, 21):
        one, ten = (rule().target(out, moved(0, k, 0.5, k * stock)) for out, k in ((small, 1), (large, 10)))
        np.testing.assert_allclose(ten[0], 10 * one[0], rtol=1e-5)
        assert rule().greedy(small.next_target, seen(stock)) == rule().greedy(
            large.next_target, seen(10 * stock)
        )


def test_relabelled_transitions():
    """P9: half get a stock from anywhere within the bound, and the stock that follows from it; nothing else
    changes."""
    batch = 4000
    rng = np.random.default_rng(0)
    stock, reward = np.full((batch, 1), 3.0, np.float32), rng.normal(size=batch).astype(np.float32)
    obs = rng.normal(size=(batch, 3)).astype(np.float32)
    before = Transition(
        Stocked(obs, stock), jnp.zeros(batch, int), reward, jnp.ones(batch), Stocked(obs, stock - 1)
    )
    after = rule(stock={"bound": 8.0, "low": 0.0, "high": 5.0}).prepare(before, jax.random.key(0))
    changed = np.asarray(after.obs.stock != stock)[:, 0]
    assert abs(changed.mean() - 0.5) < 0.04
    drawn = np.asarray(after.obs.stock)[changed]
    assert drawn.min() < -7.9 and drawn.max() > 7.9 and abs(drawn.mean()) < 0.5
    followed = np.clip((drawn[:, 0] + reward[changed]) / 0.5, -8, 8)
    np.testing.assert_allclose(np.asarray(after.next_obs.stock)[changed, 0], followed, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(after.next_obs.stock)[~changed], stock[~changed] - 1)
    for name in ("action", "reward", "discount"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_array_equal(after.next_obs.obs, obs)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"replay": {"n_step": 3}}, "replay.n_step"),  # P10
        ({"utility": {"name": "exponential", "rate": 1.0}}, "utility.name"),  # P13
        ({"utility": {"name": "norm"}}, "head"),
        ({"utility": {"name": "exponential", "rate": 1.0}, "gamma": 1.0, "head": "mse"}, "head"),
        ({"utility": {"name": "squared"}, "stock": {"any_slopes": True}}, "stock.any_slopes"),
        ({"network": {"hidden": ()}}, "network.hidden"),
    ],
)
def test_what_cannot_be_learnt_is_refused(options, key):
    with pytest.raises(ValidationError, match=key):
        config(**options)


def test_several_steps_without_relabelling():
    assert config(replay={"n_step": 3}, stock={"relabel": 0.0}).replay.n_step == 3


def test_rewards_that_do_not_fit_the_utility():
    with pytest.raises(Misfit, match="it takes one, and the environment pays 2 numbers a step"):
        config().stocks(SPEC._replace(reward_size=2))
    vectors = config(head="mse", utility={"name": "norm"})
    with pytest.raises(Misfit, match="it takes a vector, and the environment pays one number a step"):
        vectors.stocks(SPEC)
    assert vectors.stocks(SPEC._replace(reward_size=2)).dimensions == 2


def two_steps(num_envs):
    """A lottery, -3 with chance 0.2 or else 3, or a sure -2.75; after the lottery 0, or 5 or -4 evenly."""
    probability = np.array([[[0.2, 0.8], [1, 0]], [[1, 0], [0.5, 0.5]]], np.float32)
    reward = np.array([[[-3, 3], [-2.75, 0]], [[0, 0], [5, -4]]], np.float32)
    over = np.array([[[False] * 2, [True] * 2], [[True] * 2] * 2])
    table = tabular.Table(np.float32([1, 0]), probability, reward, np.ones((2, 2, 2), np.int32), over, 10)
    return tabular.make(lambda: table, 2, 2, num_envs)


LEARNING = {
    "gamma": 1.0,
    "utility": TAIL,
    "stock": {"low": -6.0, "high": 6.0, "bound": 10.0},
    "network": {"torso": "mlp", "hidden": (64, 64), "init": "lecun_normal"},
    "optimizer": {"learning_rate": 1e-3, "epsilon": 1e-5},
    "replay": {"capacity": 8_000, "warmup_steps": 800, "batch_size": 128},
    "exploration": {"epsilon_end": 1.0, "decay_steps": 1},
    "update_period_steps": 16,
    "target_tau": 0.01,
    "decay_start": 0.4,
}


def trained(updates, **options):
    """The config, the algorithm, the environment's shape and the last state after so many updates."""
    cfg = StockDQNConfig.model_validate({**LEARNING, **options}, strict=False)
    env = two_steps(16)
    env = envs.stocked(env, cfg.stocks(env.spec))
    steps = 800 + 16 * updates
    algorithm = stock_dqn.make(cfg, env.spec, steps, collect_steps=1)
    schedule = Schedule(steps, 800, 1, algorithm.updates_per_iteration, steps)
    for chunk in loop.train_functional(algorithm.agent, env, algorithm.memory, schedule, [0]):
        state = jax.tree.map(lambda x: x[0], chunk.state)
    return cfg, algorithm, env.spec, state


def chosen(algorithm, state, *places):
    at = Stocked(jnp.eye(2)[jnp.array([place for place, _ in places])], jnp.float32([[c] for _, c in places]))
    return algorithm.agent.greedy(state.learner, at).tolist()


HEADS = {"qr": {"head_options": {"num_quantiles": 32, "kappa": 0.0}}, "mse": {}}  # One of either kind.


@pytest.mark.parametrize("head", HEADS)
def test_two_steps_are_learnt(head):
    """P3: the worst fifth is best served by gambling, but only after a bad draw."""
    cfg, algorithm, spec, state = trained(3_000, head=head, **HEADS[head])
    places = ((0, -2.5), (1, -5.5), (1, 0.5))
    assert chosen(algorithm, state, *places) == [0, 1, 0]
    value = stock_dqn.values(cfg, spec)(state.learner.params, Stocked(jnp.eye(2)[:1], jnp.full((1, 1), -2.5)))
    # 2.5 + E min(-2.5 + G, 0) / 0.2 = -2.5, so the expectation is -1; over 4 seeds the worst is 0.12 off.
    assert float(value[0]) == pytest.approx(-1.0, abs=0.25)


def test_the_network_looks_at_the_stock():
    """P3: with the stocks of a batch shuffled, the loss rises."""
    _, algorithm, _, state = trained(
        1_500, head="qr", stock={**LEARNING["stock"], "relabel": 0.0}, **HEADS["qr"]
    )
    sample = algorithm.memory.sample(state.memory, jax.random.key(1))
    order = np.random.default_rng(0).permutation(len(sample.index))
    obs = sample.transition.obs
    mixed = sample.transition._replace(obs=obs._replace(stock=obs.stock[order]))
    loss, shuffled = (
        float(algorithm.agent.update(state.learner, Sample(one, sample.weight, sample.index))[1]["loss"])
        for one in (sample.transition, mixed)
    )
    assert shuffled > 1.05 * loss
