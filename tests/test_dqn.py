"""The DQN family's update against plain numpy, on a network that is a table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import dqn, parts, q_learning
from agents.dqn import DQNConfig
from valuelearn import backups, heads
from valuelearn.types import EnvSpec, LearnerState, Sample, Timestep, Trajectory, Transition

STATES, ACTIONS, BATCH = 4, 3, 16
SPEC = EnvSpec((STATES,), np.dtype(np.float32), ACTIONS, num_envs=2)
TABLE = {"torso": "mlp", "hidden": ()}  # One affine layer: on one-hot observations, a row per state.


def build(total_steps=1000, **options):
    """The algorithm, and a learner whose online and target tables are random."""
    defaults = {
        "network": TABLE,
        "optimizer": {"learning_rate": 1e-2},
        "replay": {"capacity": 200, "warmup_steps": 20},
        "head_options": {"v_min": -4.0, "v_max": 4.0, "num_bins": 5, "num_fractions": 8},
    }
    config = DQNConfig.model_validate_json(DQNConfig(**{**defaults, **options}).model_dump_json())
    algorithm = dqn.make(config, SPEC, total_steps, collect_steps=2)
    shapes = jax.eval_shape(algorithm.agent.init, jax.random.key(0), jnp.zeros((2, STATES)))

    def random(seed):
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes.params)

    opt_state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.opt_state)  # As Adam's begins.
    return algorithm, LearnerState(random(1), random(2), opt_state, jax.random.key(0), jnp.int32(0))


def outputs(params):
    """Outputs [S, A, N] of a table."""
    by_size = {leaf.ndim: np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)}
    return (by_size[2] + by_size[1]).reshape(STATES, ACTIONS, -1)


def batch(seed=0, weight=1.0):
    rng = np.random.default_rng(seed)
    state, next_state = rng.integers(0, STATES, (2, BATCH))
    eye = np.eye(STATES, dtype=np.float32)
    transition = Transition(
        obs=eye[state],
        action=rng.integers(0, ACTIONS, BATCH).astype(np.int32),
        reward=rng.normal(size=BATCH).astype(np.float32),
        discount=rng.choice(np.float32([0, 0.9, 0.9**3]), BATCH),  # Ended, one step, cut short or not.
        next_obs=eye[next_state],
    )
    weight = np.broadcast_to(np.float32(weight), BATCH)
    sample = Sample(transition, weight, np.arange(BATCH, dtype=np.int32))
    return jax.tree.map(jnp.asarray, sample), state, next_state


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def scalar_target(online, target, at, action, reward, next_at, discount, double, soft):
    """What one transition's value should become; `online` and `target` are [S, A]."""
    if soft is None:
        chooser = online if double else target
        return reward + discount * target[next_at, chooser[next_at].argmax()]
    weight, temperature, clip = soft["weight"], soft["temperature"], soft["clip"]
    log_policy = log_softmax(target / temperature)
    bonus = weight * np.clip(temperature * log_policy[at, action], clip, 0)
    policy = np.exp(log_policy[next_at])
    return reward + bonus + discount * (policy * (target[next_at] - temperature * log_policy[next_at])).sum()


@pytest.mark.parametrize(
    ("double", "soft"),
    [
        (False, None),
        (True, None),
        (False, {"weight": 0.9, "temperature": 0.5, "clip": -1.0}),
        (False, {"weight": 0.5, "temperature": 0.03, "clip": -0.2}),
        (False, {"weight": 0.0, "temperature": 0.2, "clip": -1.0}),
    ],
)
def test_scalar_targets(double, soft):
    algorithm, state = build(head="mse", double=double, munchausen=soft)
    sample, at, next_at = batch(weight=np.linspace(0.1, 1, BATCH))
    _, action, reward, discount, *_ = sample.transition
    online, target = (outputs(p)[..., 0] for p in (state.params, state.target_params))
    columns = zip(at, np.asarray(action), reward, next_at, discount, strict=True)
    want = np.array([scalar_target(online, target, *row, double, soft) for row in columns])
    losses = (online[at, action] - want) ** 2
    new, metrics, priority = jax.jit(algorithm.agent.update)(state, sample)
    np.testing.assert_allclose(priority, losses, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], (sample.weight * losses).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["value"], online[at, action].mean(), rtol=1e-4)
    outside = [(want < -np.inf).mean(), (want > np.inf).mean()]
    np.testing.assert_allclose([metrics["clipped_below"], metrics["clipped_above"]], outside)
    assert new.updates == state.updates + 1
    # The gradient's sign is that of the weighted error, summed for each entry: Adam's first step shows it.
    errors = np.zeros((STATES, ACTIONS))
    np.add.at(errors, (at, action), np.asarray(sample.weight) * (want - online[at, action]))
    moved = next(
        x - y for x, y in zip(*map(jax.tree.leaves, (new.params, state.params)), strict=True) if x.ndim == 2
    )
    np.testing.assert_array_equal(np.sign(moved), np.sign(errors))


def categorical_projection(returns, probabilities, atoms):
    """Bellemare et al. (2017), algorithm 1, atom by atom."""
    mass, width = np.zeros(len(atoms)), atoms[1] - atoms[0]
    for value, probability in zip(returns, probabilities, strict=True):
        place = (np.clip(value, atoms[0], atoms[-1]) - atoms[0]) / width
        below = int(np.floor(place))
        mass[below] += probability * (1 - (place - below))
        if below + 1 < len(atoms):
            mass[below + 1] += probability * (place - below)
    return mass


@pytest.mark.parametrize("double", [False, True])
def test_c51_projects_the_greedy_actions_law(double):
    algorithm, state = build(head="c51", double=double)
    sample, at, next_at = batch()
    _, action, reward, discount, *_ = sample.transition
    online, target = outputs(state.params), outputs(state.target_params)
    atoms = np.linspace(-4, 4, 5)
    chooser = np.exp(log_softmax(online if double else target)) @ atoms
    want, cut = np.zeros(BATCH), np.zeros(BATCH)
    for i in range(BATCH):
        law = np.exp(log_softmax(target[next_at[i], chooser[next_at[i]].argmax()]))
        returns = reward[i] + discount[i] * atoms
        projected = categorical_projection(returns, law, atoms)
        want[i] = -(projected * log_softmax(online[at[i], action[i]])).sum()
        cut[i] = law[returns > 4].sum()
    _, metrics, priority = jax.jit(algorithm.agent.update)(state, sample)
    np.testing.assert_allclose(priority, want, rtol=1e-4)
    np.testing.assert_allclose(metrics["clipped_above"], cut.mean(), rtol=1e-4)
    assert cut.any()


@pytest.mark.parametrize("head", heads.NAMES)
def test_only_the_taken_action_learns(head):
    algorithm, state = build(head=head, double=True, network={**TABLE, "num_cosines": 4})
    sample, *_ = batch()
    sample = sample._replace(transition=sample.transition._replace(action=jnp.full(BATCH, 1, jnp.int32)))
    update = jax.jit(algorithm.agent.update)
    new, *_ = update(state, sample)
    last = "_Stream_0"
    for old, now in zip(*(jax.tree.leaves(s.params["params"][last]) for s in (state, new)), strict=True):
        moved = np.asarray(old != now).reshape(-1, ACTIONS, old.shape[-1] // ACTIONS)
        assert moved[:, 1].any() and not moved[:, [0, 2]].any()
    # Nothing is learnt from items of no weight.
    still, *_ = update(state, sample._replace(weight=jnp.zeros(BATCH)))
    jax.tree.map(np.testing.assert_array_equal, still.params, state.params)


@pytest.mark.parametrize("double", [False, True])
def test_implicit_quantiles_choose_by_other_fractions_than_those_of_the_target(double):
    config = DQNConfig(double=double)
    head = config.head_options.make("iqn")
    network = parts.NetworkConfig(torso="mlp", hidden=(8,)).make(ACTIONS, head)

    def target(outputs, transition):
        apart = jnp.abs(outputs.next_online - outputs.next_target)[:, head.num_fractions :].mean()
        backup = backups.summed(transition.reward, transition.discount)
        return head.target(outputs.next_target[0], backup), heads.SupportFit(apart, apart, apart)

    rule = q_learning.Rule(lambda out, obs: out[:, 0].argmax(), target)
    agent = q_learning.make(config, SPEC, 0.9, 100, 2, head, network, rule).agent
    sample, *_ = batch()
    _, metrics, _ = jax.jit(agent.update)(agent.init(jax.random.key(0), sample.transition.obs), sample)
    assert abs(metrics["clipped_below"] - 1 / 3) < 0.05  # As of two uniform numbers.


def test_the_target_network_is_copied_or_averaged():
    sample, *_ = batch()
    algorithm, first = build(target_period_updates=3)
    update, state, kept = jax.jit(algorithm.agent.update), first, first.target_params
    for index in range(1, 8):
        state, *_ = update(state, sample)
        kept = state.params if index % 3 == 0 else kept
        jax.tree.map(np.testing.assert_array_equal, state.target_params, kept)
    algorithm, first = build(target_tau=0.25)
    state, *_ = jax.jit(algorithm.agent.update)(first, sample)
    mean = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, first.target_params, state.params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), state.target_params, mean)


@pytest.mark.parametrize("start", [1.0, 0.4])
def test_epsilon_decays_after_a_random_warm_up(start):
    exploration = {"epsilon_start": start, "epsilon_end": 0.1, "decay_steps": 100}
    algorithm, state = build(exploration=exploration, replay={"capacity": 200, "warmup_steps": 50})
    copies = 6000
    obs = jnp.tile(jnp.eye(STATES)[0], (copies, 1))
    greedy = int(algorithm.agent.greedy(state, obs[:1])[0])
    act = jax.jit(algorithm.agent.act)
    for index, (steps, epsilon) in enumerate(
        [(0, 1.0), (49, 1.0), (50, start), (100, (start + 0.1) / 2), (150, 0.1), (10**6, 0.1)]
    ):
        action = act(state, obs, jax.random.key(index), steps)
        others = (np.asarray(action) != greedy).mean() * ACTIONS / (ACTIONS - 1)
        assert abs(others - epsilon) < 0.035, steps  # Over 4 standard errors.


@pytest.mark.parametrize("end", [None, 0.0, 1.0])
def test_importance_weights_follow_their_schedule(end):
    options = {"capacity": 200, "priority_exponent": 1.0, "importance_exponent": 0.5}
    algorithm, _ = build(
        total_steps=64, replay={**options, "warmup_steps": 20, "importance_exponent_end": end}
    )
    memory = algorithm.memory
    state = jax.jit(memory.add)(memory.init(), chain(steps=32, terminates=False))
    every = jnp.arange(200)  # A transition starts in every other row.
    everything = Sample(None, None, every)
    state = memory.reprioritise(
        state, everything, jnp.where(state.start.ravel(), 1.0 + 3.0 * (every // 2 % 2), 0.0)
    )
    written = int(state.written.sum())
    assert written >= 64  # The ends of episodes take rows too: the schedule is over.
    sample = memory.sample(state, jax.random.key(0))
    exponent = 0.5 if end is None else end
    found = np.unique(np.asarray(sample.weight).round(4))
    np.testing.assert_allclose(found[[0, -1]], [0.25**exponent, 1], atol=1e-3)


def chain(steps, terminates):
    """Two states in turn, reward 1, an episode's end after every step, in two copies."""
    ones, eye = np.ones((steps, 2), np.float32), np.eye(STATES, dtype=np.float32)
    state = np.tile(np.arange(steps)[:, None] % 2, 2)
    after, flag = eye[1 - state], ones.astype(bool)
    step = Timestep(after, after, ones, ones * (not terminates), flag, flag, ones)
    action = np.random.default_rng(0).integers(0, ACTIONS, (steps, 2)).astype(np.int32)
    return jax.tree.map(jnp.asarray, Trajectory(eye[state], action, step))


@pytest.mark.parametrize("head", heads.NAMES)
def test_only_termination_ends_the_return(head):
    """Reward 1 for ever is worth 1 / (1 - gamma), however often a time limit cuts it."""
    algorithm, _ = build(
        head=head,
        gamma=0.8,
        network={**TABLE, "num_cosines": 4},
        head_options={"v_max": 8.0, "v_min": -8.0, "num_quantiles": 5, "num_fractions": 8},
        optimizer={"learning_rate": 0.03},
        target_period_updates=20,
        replay={"capacity": 400, "warmup_steps": 20},
    )
    agent, memory = algorithm.agent, algorithm.memory

    @jax.jit
    def learn(trajectory):
        stored = memory.add(memory.init(), trajectory)

        def update(learner, key):
            learner, metrics, _ = agent.update(learner, memory.sample(stored, key))
            return learner, metrics["value"]

        learner = agent.init(jax.random.key(0), jnp.zeros((2, STATES)))
        return jax.lax.scan(update, learner, jax.random.split(jax.random.key(1), 1000))[1]

    for terminates, want in ((False, 5.0), (True, 1.0)):
        np.testing.assert_allclose(learn(chain(40, terminates))[-50:].mean(), want, rtol=0.02)
