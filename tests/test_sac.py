"""SAC with every head: its targets by hand, and values known in closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import critics, sac
from agents.sac import SACConfig
from valuelearn import ensembles, heads, loop, networks, replay
from valuelearn.config import Misfit
from valuelearn.types import EnvSpec, FunctionalEnv, Sample, Timestep, Transition

pytestmark = pytest.mark.usefixtures("quick_compilation")
HEADS = [name for name in heads.NAMES if name != "iqn"]
OPTIONS = {"v_min": -4, "v_max": 12, "num_bins": 33, "num_quantiles": 16, "kappa": 0.1}
GAMMA = 0.75
UPDATES = 2_000  # That critics are moved by; 100,000 pass as well.


def target(head, out, log_prob=-0.5, temperature=0.2, reward=1.0, discount=GAMMA, rule="lowest"):
    together = partial(ensembles.together, head, rule=rule)
    cost = temperature * log_prob
    return critics.target(head, together, out, *map(jnp.float32, (cost, reward, discount)))[0]


def encoded(head, value):
    """A target for a certain return."""
    return target(head, heads_out(head, value), temperature=0.0, reward=0.0, discount=1.0)


def heads_out(head, value):
    """An output [1, N] that stands for a return: all mass or every quantile on the nearest place."""
    if head.size in (1, OPTIONS["num_quantiles"]):
        return jnp.full((1, head.size), value)
    centres = np.asarray(jax.vmap(head.value)(1e3 * jnp.eye(head.size)))
    return 1e3 * jax.nn.one_hot(np.abs(centres - value).argmin(), head.size)[None]


@pytest.mark.parametrize("name", HEADS)
def test_the_entropy_is_part_of_the_return(name):
    head = heads.make(name, **OPTIONS)
    out = heads_out(head, 2.0)
    value = head.value(out[0])
    # 1 + gamma (value - temperature log_prob); a return of its own is encoded alike.
    wanted = 1.0 + GAMMA * (value + 0.2 * 0.5)
    moved = target(head, out, log_prob=0.0, reward=wanted - GAMMA * value)
    np.testing.assert_allclose(target(head, out), moved, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_nothing_follows_termination(name):
    head = heads.make(name, **OPTIONS)
    found = [target(head, heads_out(head, value), discount=0.0) for value in (-3.0, 5.0)]
    np.testing.assert_allclose(*found, atol=1e-5)


@pytest.mark.parametrize("name", ["mse", "huber"])
def test_scalar_targets_take_the_least_value(name):
    head = heads.make(name)
    found = target(head, jnp.array([[3.0], [2.0], [4.0]]))
    assert found == pytest.approx(1.0 + GAMMA * (2.0 + 0.1))
    mean = target(head, jnp.array([[3.0], [2.0], [4.0]]), rule="mean")
    assert mean == pytest.approx(1.0 + GAMMA * (3.0 + 0.1))


def constant(action_size=1):
    """Reward 1 for ever, cut off every ten steps."""
    return one_state(lambda action: jnp.ones(len(action)), limit=10, action_size=action_size)


def one_state(reward, limit, terminates=False, num_envs=8, action_size=1):
    spec = EnvSpec((1,), np.dtype(np.float32), 0, num_envs, action_size=action_size)
    obs = jnp.ones((num_envs, 1))

    def init(key):
        return (jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs)), obs

    def step(state, action, key):
        steps, total = state[0] + 1, state[1] + reward(action)
        last = steps >= limit
        after = jnp.where(last, 0, steps), jnp.where(last, 0.0, total)
        discount = 1.0 - last * terminates
        valid = jnp.ones(num_envs, bool)
        return after, Timestep(obs, obs, reward(action), discount, last, valid, total)

    return FunctionalEnv(spec, init, step)


def trained(env, steps, seed=0, **options):
    config = SACConfig(
        **{
            "head_options": OPTIONS,
            "network": {"hidden": (32,)},
            "optimizer": {"learning_rate": 3e-3, "epsilon": 1e-8},
            "replay": {"capacity": 4_000, "warmup_steps": 400, "batch_size": 64},
            "gamma": GAMMA,
            "temperature": 0.1,
            "target_tau": 0.05,
        }
        | options
    )
    algorithm = sac.make(config, env.spec, steps, 1)
    schedule = loop.Schedule(steps, 400, 1, algorithm.updates_per_iteration, steps // 4)
    *_, last = loop.train_functional(algorithm.agent, env, algorithm.memory, schedule, [seed])
    learner = jax.tree.map(lambda x: x[0], last.state.learner)
    return algorithm.agent, learner, {name: value[0] for name, value in last.metrics.items()}


@pytest.mark.parametrize("name", HEADS)
def test_a_reward_for_ever_is_worth_its_closed_form(name):
    """Q = 1 + gamma (Q + temperature entropy): time limits bootstrap, and so does the entropy."""
    _, _, found = trained(constant(), 3_000, head=name)
    wanted = (1 + GAMMA * found["temperature"] * found["entropy"]) / (1 - GAMMA)
    assert found["value"] == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("name", HEADS)
def test_the_best_action_is_found(name):
    env = one_state(lambda action: -4.0 * jnp.square(action[:, 0] - 0.3), limit=1, terminates=True)
    agent, learner, _ = trained(env, 3_000, head=name)
    action = agent.greedy(learner, jnp.ones((1, 1)))
    assert float(action[0, 0]) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"num_critics": 10, "target_critics": 2, "actor_rule": "mean", "updates_per_step": 2},
        {"num_critics": 20},
        {"num_critics": 5, "diversity": 1.0},
        {"num_critics": 3, "head": "qr", "dropped_quantiles": 2, "actor_rule": "mean"},
        {"target_rule": "mean", "network": {"hidden": (32,), "layer_norm": True}},
        {"network": {"hidden": (32,), "critic_hidden": (32, 32), "blocks": "bro"}},
        {"network": {"hidden": (32, 32), "blocks": "simba"}},
        {"optimizer": {"name": "adamw", "learning_rate": 3e-3, "epsilon": 1e-8, "weight_decay": 1e-3}},
        {"reward_scale": 0.5, "actor_optimizer": {"learning_rate": 1e-3, "epsilon": 1e-8}},
    ],
    ids=["redq", "sac_n", "edac", "tqc", "layer_norm", "bro", "simba", "weight_decay", "reward_scale"],
)
def test_settings_of_the_family(options):
    _, _, found = trained(constant(2), 3_000, **options)
    reward = options.get("reward_scale", 1.0)
    wanted = (reward + GAMMA * found["temperature"] * found["entropy"]) / (1 - GAMMA)
    assert found["value"] == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize(("least", "beyond"), [(-20.0, 0.008), (1.9, 0.692)])
def test_the_policy_is_no_narrower_than_its_least(least, beyond):
    """Of a Gaussian of deviation 1, or exp(1.9), so much lies where the tanh is above 0.99."""
    spec = constant(1).spec._replace(num_envs=20_000)
    config = sac.SACConfig(least_log_std=least, network={"hidden": (8,)}, replay={"warmup_steps": 1})
    agent, obs = sac.make(config, spec, 10, 1).agent, jnp.zeros((20_000, *spec.obs_shape))
    learner = agent.init(jax.random.key(0), obs)
    actor = jax.tree.map(jnp.zeros_like, learner.params["actor"])  # Says a mean and a logarithm of 0.
    learner = learner._replace(params=learner.params | {"actor": actor})
    action = agent.act(learner, obs, jax.random.key(1), 10)
    assert float((jnp.abs(action) > 0.99).mean()) == pytest.approx(beyond, abs=0.01)


def test_critics_do_not_share_a_step():
    """How far one critic is moved does not depend on how many there are."""
    spec, obs = constant().spec, jnp.ones((8, 1))
    sample = Sample(
        Transition(obs, jnp.zeros((8, 1)), jnp.ones(8), jnp.ones(8), obs), jnp.ones(8), jnp.arange(8)
    )
    moved = []
    for count in (1, 4):
        agent = sac.make(SACConfig(num_critics=count, network={"hidden": (8,)}), spec, 20_000, 1).agent
        state = jax.jit(agent.init)(jax.random.key(0), obs)
        same = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), state.params["critics"])
        state = state._replace(params=state.params | {"critics": same}, target_params={"critics": same})
        after, _, _ = jax.jit(agent.update)(state, sample)
        moved.append(jax.tree.map(lambda x: np.asarray(x[0]), after.params["critics"]))
    for one, other in zip(*map(jax.tree.leaves, moved), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_images_are_refused():
    with pytest.raises(Misfit, match=r"read vectors, but an observation has the shape \(84, 84, 4\)"):
        SACConfig().network.check((84, 84, 4))


@pytest.mark.parametrize("name", ["mse", "hl_gauss"])
def test_diverse_critics_are_less_alike(name):
    env = one_state(lambda action: -jnp.square(action).sum(-1), limit=1, terminates=True, action_size=3)
    gradients = []
    for diversity in (0.0, 3.0):
        options = {"head": name, "num_critics": 4, "diversity": diversity}
        _, learner, found = trained(env, 1_200, **options)
        critic = networks.vector(heads.make(name, **OPTIONS).size, hidden=(32,))
        value = heads.make(name, **OPTIONS).value
        slope = jax.vmap(
            jax.grad(lambda one, action, c=critic, v=value: v(c.apply(one, jnp.ones((1, 1)), action))[0], 1),
            (0, None),
        )
        action = 0.5 * jax.random.normal(jax.random.key(2), (64, 1, 3))
        found = jax.vmap(lambda a, s=slope, p=learner.params["critics"]: s(p, a))(action)
        gradients.append(ensembles.alignment(found[:, :, 0].swapaxes(0, 1)).mean())
    assert gradients[1] < gradients[0] - 0.5


@pytest.mark.parametrize("diversity", [1.0, 100.0])
def test_critics_that_begin_without_slopes_stay_finite(diversity):
    """Last weights of zero make action gradients of zero, whose directions are not defined."""
    network = {"hidden": (16, 16), "last_scale": 0.0}
    config = SACConfig(network=network, num_critics=4, diversity=diversity, replay={"batch_size": 16})
    spec = EnvSpec((3,), np.dtype(np.float32), 0, 1, action_size=2)
    algorithm = sac.make(config, spec, 1, 1)
    chance = np.random.default_rng(0)
    obs, action = (chance.normal(size=(200, size)).astype(np.float32) for size in (3, 2))
    reward, discount = obs[:, 0] - np.square(action).sum(-1), np.full(200, GAMMA, np.float32)
    memory = replay.recorded(Transition(*map(jnp.asarray, (obs, action, reward, discount, obs[::-1]))), 16)
    schedule = loop.Schedule(UPDATES, 0, 1, 1, UPDATES)
    *_, last = loop.train_offline(algorithm.agent, memory, spec, schedule, [0])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(last.state.learner.params))
    assert np.isfinite(last.metrics["loss"]).all() and np.isfinite(last.metrics["grad_norm"]).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"head": "iqn"}, "its fractions do not enter these critics; use qr"),
        ({"dropped_quantiles": 2}, "mse has no quantiles to drop; use qr"),
        ({"dropped_quantiles": 200, "head": "qr"}, "fewer than head_options.num_quantiles = 200 is wanted"),
        ({"num_critics": 1, "diversity": 1.0}, "one critic is like itself"),
        ({"target_critics": 3}, "at most num_critics = 2 is wanted"),
    ],
)
def test_what_does_not_go_together_is_refused(options, sentence):
    with pytest.raises((Misfit, ValueError), match=sentence):
        SACConfig(**options)
