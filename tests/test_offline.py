"""Agents that learn from datasets: their losses by hand, their runs, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import pytest

from agents import conservative, evaluation, experiment, offline, parts, recordings, sac, td3
from agents.disagreement import disagreement
from agents.experiment_config import ExperimentConfig
from envs import datasets
from envs.datasets import Dataset
from valuelearn import loop, replay
from valuelearn.config import Misfit
from valuelearn.loop import Chunk
from valuelearn.types import EnvSpec, Sample, Transition

pytestmark = pytest.mark.usefixtures("quick_compilation")
GAMMA = 0.9
SPEC = EnvSpec((2,), np.dtype(np.float32), 0, 1, action_size=1)
NETWORK = {"hidden": (32,)}


def transitions(count=512, seed=0):
    """One-step episodes in two states: the reward falls off from an action of 0.5, or of -0.5."""
    random = np.random.default_rng(seed)
    state = random.integers(0, 2, count)
    obs = np.eye(2, dtype=np.float32)[state]
    action = random.uniform(-1, 1, (count, 1)).astype(np.float32)
    best = np.where(state == 0, 0.5, -0.5)
    reward = (-np.square(action[:, 0] - best)).astype(np.float32)
    columns = (obs, action, reward, np.zeros(count, np.float32), obs, action, reward)
    return Transition(*map(jnp.asarray, columns)), best


def trained(make, config, updates=1_500):
    algorithm = make(config, SPEC, updates, 1)
    memory = replay.recorded(transitions()[0], 128)
    schedule = loop.Schedule(updates, 0, 1, 1, updates)
    *_, last = loop.train_offline(algorithm.agent, memory, SPEC, schedule, [0])
    return algorithm.agent, jax.tree.map(lambda x: x[0], last.state.learner), last.metrics


COMMON = {"network": NETWORK, "optimizer": {"learning_rate": 3e-3, "epsilon": 1e-8}, "gamma": GAMMA}
BEHAVIOR = {"actor_weight": 0.01, "value_scale": 1.0, "critic_weight": 0.1, "distance": "sum"}


@pytest.mark.parametrize(
    ("make", "config", "margin"),
    [
        (sac.make, sac.SACConfig(**COMMON, temperature=0.01, num_critics=4, diversity=0.1), 0.1),
        (td3.make, td3.TD3Config(**COMMON, behavior=BEHAVIOR), 0.1),
        (offline.make_iql, offline.IQLConfig(**COMMON, sharpness=200.0), 0.1),
        (sac.make, sac.SACConfig(**COMMON, temperature=0.01, conservative={"weight": 0.01}), 0.15),
        (
            sac.make,
            sac.SACConfig(**COMMON, temperature=0.01, conservative={"weight": 0.1, "calibrated": True}),
            0.15,
        ),
    ],
    ids=["edac", "rebrac", "iql", "cql", "cal_ql"],
)
def test_the_best_recorded_action_is_found(make, config, margin):
    agent, learner, _ = trained(make, config)
    action = np.asarray(agent.greedy(learner, jnp.eye(2)))[:, 0]
    np.testing.assert_allclose(action, [0.5, -0.5], atol=margin)


def test_behaviour_cloning_takes_the_mean_action():
    agent, learner, found = trained(offline.make_bc, offline.BCConfig(**COMMON))
    data = transitions()[0]
    means = [np.asarray(data.action)[np.asarray(data.obs)[:, state] == 1].mean() for state in (0, 1)]
    np.testing.assert_allclose(np.asarray(agent.greedy(learner, jnp.eye(2)))[:, 0], means, atol=0.05)
    assert found["loss"].item() == pytest.approx(np.var(np.asarray(data.action)), abs=0.05)


def test_without_a_gaussian_nothing_is_drawn():
    agent, learner, _ = trained(offline.make_iql, offline.IQLConfig(**COMMON, deterministic=True), 1)
    obs = jnp.eye(2)
    acted = agent.act(learner, obs, jax.random.key(1), jnp.int32(10**6))
    np.testing.assert_array_equal(acted, agent.greedy(learner, obs))


@pytest.mark.parametrize("option", [{"target_critics": 1}, {"head": "qr", "dropped_quantiles": 3}])
def test_implicit_q_learning_takes_nothing_that_it_does_not_heed(option):
    with pytest.raises(pydantic.ValidationError, match="targets are of state values, not of critics"):
        offline.IQLConfig(**option)


def test_the_rule_for_targets_is_of_what_critics_say_of_actions():
    values = []
    for rule in ("lowest", "mean"):
        config = offline.IQLConfig(**COMMON, target_rule=rule, num_critics=10)
        agent, learner, _ = trained(offline.make_iql, config, 20)
        values.append(np.asarray(agent.value(learner, jnp.eye(2))))
    assert (values[0] < values[1]).all()


def test_the_loss_that_is_told_is_the_one_that_is_descended(monkeypatch):
    monkeypatch.setattr(sac, "regularizer", lambda *arguments: (jnp.float32(1e6), jnp.float32(0)))
    agent = sac.make(sac.SACConfig(**COMMON, conservative={}), SPEC, 100, 1).agent
    sample = batch()
    learner = agent.init(jax.random.key(0), sample.transition.obs)
    assert jax.jit(agent.update)(learner, sample)[1]["loss"] > 1e6


def batch(size=6, seed=1):
    data, _ = transitions(size, seed)
    return Sample(data, jnp.ones(size), jnp.arange(size))


def constant_critics(value_of):
    """Critics whose value is a function of the action alone."""
    config = sac.SACConfig(**COMMON)
    critics = config.critics()
    apply = lambda params, obs, action: value_of(action)[None, :, None] * jnp.ones((2, 1, 1))  # noqa: E731
    return critics.__class__(
        critics.head, critics.one, critics.all._replace(apply=apply), critics.in_targets, 2, 0.0
    )


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_conservative_term_by_hand(calibrated):
    """Each source's actions are weighted by one over their density in the soft maximum."""
    sample = batch()
    config = conservative.ConservativeConfig(weight=3.0, samples=5, softness=0.5, calibrated=calibrated)
    policy = lambda obs, key: (jnp.full((len(obs), 1), 0.25), jnp.full(len(obs), 0.7))  # noqa: E731
    critics = constant_critics(lambda action: 2.0 * action[:, 0] ** 2 - 1.0)
    key = jax.random.key(3)
    found, gap = conservative.regularizer(config, critics, None, sample, policy, key)
    uniform = jax.random.uniform(jax.random.split(key, 3)[0], (5, 6, 1), minval=-1.0, maxval=1.0)
    at_policy = np.full((10, 6), 2.0 * 0.25**2 - 1.0)
    if calibrated:
        at_policy = np.maximum(at_policy, np.asarray(sample.transition.return_to_go))
    terms = np.concatenate([2.0 * uniform[..., 0] ** 2 - 1.0 + np.log(2.0), at_policy - 0.7])
    soft = 0.5 * np.log(np.exp(np.asarray(terms, np.float64) / 0.5).sum(0))
    data = 2.0 * np.asarray(sample.transition.action)[:, 0] ** 2 - 1.0
    assert float(gap) == pytest.approx((soft - data).mean(), abs=1e-5)
    assert float(found) == pytest.approx(3.0 * 2 * (soft - data).mean(), abs=1e-4)


def test_among_rollouts_only_recorded_actions_are_raised():
    """COMBO: soft maxima are of all states, the values held against them of recorded transitions alone."""
    sample, config = batch(), conservative.ConservativeConfig(weight=1.0, samples=3)

    def policy(obs, key):
        return jnp.full((len(obs), 1), 0.25), jnp.zeros(len(obs))

    critics, key = constant_critics(lambda action: 5.0 * action[:, 0]), jax.random.key(3)
    ages = jnp.array([65535, 0, 65535, 3, 1, 0], jnp.uint16)
    among = sample._replace(transition=sample.transition._replace(age=ages))
    np.testing.assert_array_equal(replay.was_recorded(among.transition), ages == 65535)
    assert bool(replay.was_recorded(sample.transition).all())
    (_, of_all), (_, of_two) = (
        conservative.regularizer(config, critics, None, each, policy, key) for each in (sample, among)
    )
    values = 5.0 * np.asarray(sample.transition.action)[:, 0]
    assert float(of_two - of_all) == pytest.approx(values.mean() - values[[0, 2]].mean(), abs=1e-5)


def test_disagreement_by_hand():
    """How far apart the members' mean values are, where it is not known what followed."""
    chance = np.random.default_rng(0)
    imagined = chance.normal(size=(6, 3, 4, 2)).astype(np.float32)
    ages = jnp.array([65535, 0, 65535, 3, 1, 0], jnp.uint16)
    transition = batch().transition._replace(age=ages, imagined=jnp.asarray(imagined))
    critics = constant_critics(lambda action: action[:, 0])

    def policy(obs, key):
        return 2.0 * obs[:, :1] - obs[:, 1:], None

    found = disagreement(critics, None, transition, policy, jax.random.key(0))
    values = 2.0 * imagined[..., 0] - imagined[..., 1]
    np.testing.assert_allclose(
        found, np.where(ages == 65535, 0, values.mean(-1).std(-1, ddof=1)), rtol=1e-5, atol=1e-7
    )


def test_disagreement_is_taken_off_targets():
    sample, losses = batch(), []
    imagined = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 4, 2)), jnp.float32)
    last = {"age": jnp.zeros(6, jnp.uint16), "imagined": imagined, "discount": jnp.zeros(6)}
    sample = sample._replace(transition=sample.transition._replace(**last))
    for weight in (1.0, 2.0, 3.0):
        agent = sac.make(sac.SACConfig(**COMMON, disagreement={"weight": weight}), SPEC, 100, 1).agent
        learner = agent.init(jax.random.key(0), sample.transition.obs)
        _, metrics, priority = agent.update(learner, sample)
        losses.append(np.asarray(priority, np.float64))
    # Nothing follows: each loss is (q - r + weight * u)^2, of which the second difference is 2 u^2.
    apart = np.sqrt((losses[2] - 2 * losses[1] + losses[0]) / 2)
    assert apart.min() > 1e-3
    assert apart.mean() == pytest.approx(float(metrics["disagreement"]), rel=1e-3)


def test_the_penalty_and_the_conservative_term_draw_apart(monkeypatch):
    """No key of one is a key of the other, into however many the term splits its own."""
    keys = {}

    def noting(name):
        real = getattr(sac, name)
        monkeypatch.setattr(sac, name, lambda *given: keys.update({name: given[-1]}) or real(*given))

    noting("disagreement")
    noting("regularizer")
    imagined = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 4, 2)), jnp.float32)
    sample, ages = batch(), jnp.array([65535, 0, 65535, 3, 1, 0], jnp.uint16)
    sample = sample._replace(transition=sample.transition._replace(age=ages, imagined=imagined))
    agent = sac.make(sac.SACConfig(**COMMON, disagreement={}, conservative={}), SPEC, 100, 1).agent
    agent.update(agent.init(jax.random.key(0), sample.transition.obs), sample)
    penalty, term = keys["disagreement"], keys["regularizer"]
    assert penalty not in [term, *jax.random.split(term, 3)]


def test_conservative_values_are_lower_where_nobody_acted():
    """Raised at the data's actions alone: plain critics do not fall elsewhere."""
    data, _ = transitions()
    near = data.action * 0.2  # All within 0.2 of 0.
    gaps = []
    for weight in (None, 1.0):
        term = None if weight is None else {"weight": weight}
        config = sac.SACConfig(**COMMON, conservative=term)
        algorithm = sac.make(config, SPEC, 600, 1)
        recorded = data._replace(action=near, reward=jnp.zeros_like(data.reward))
        schedule = loop.Schedule(600, 0, 1, 1, 600)
        memory = replay.recorded(recorded, 128)
        *_, last = loop.train_offline(algorithm.agent, memory, SPEC, schedule, [0])
        params = jax.tree.map(lambda x: x[0], last.state.learner.params["critics"])
        value = lambda action, p=params, c=config: c.critics().value(  # noqa: E731
            p, jnp.eye(2), jnp.full((2, 1), action), "lowest"
        )
        gaps.append(float((value(0.0) - value(0.9)).mean()))
    assert gaps[1] > gaps[0] + 0.5


def episode_rows():
    """Two episodes and the beginning of a third: terminated, truncated, cut off."""
    obs = np.arange(14, dtype=np.float32).reshape(7, 2)
    discount = np.array([1, 0, 1, 1, 1, 1, 1], np.float32)
    truncated = np.array([0, 0, 0, 0, 1, 0, 0], bool)
    last = np.array([0, 1, 0, 0, 1, 0, 1], bool)
    action = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
    return Dataset(obs, action, np.arange(7, dtype=np.float32), discount, truncated, last, obs + 2)


def held(tmp_path, agent):
    datasets.save(episode_rows(), tmp_path / "rows.hdf5")
    config = recordings.OfflineConfig(dataset=str(tmp_path / "rows.hdf5"))
    return recordings.memory(config, agent, SPEC).init()


def test_time_limits_bootstrap_and_terminations_do_not(tmp_path):
    found = held(tmp_path, sac.SACConfig(gamma=GAMMA))
    np.testing.assert_allclose(found.discount, GAMMA * np.array([1, 0, 1, 1, 1, 1, 1]), rtol=1e-6)
    np.testing.assert_allclose(found.reward, np.arange(7))
    assert found.next_action is None and found.return_to_go is None


def test_the_next_action_is_of_the_same_episode(tmp_path):
    """Rows after which nothing was recorded are left out, but for terminated ones."""
    agent = td3.TD3Config(gamma=GAMMA, behavior={"critic_weight": 0.1})
    found = held(tmp_path, agent)
    action = episode_rows().action
    np.testing.assert_array_equal(found.action, action[[0, 1, 2, 3, 5]])
    np.testing.assert_array_equal(found.next_action[jnp.array([0, 2, 3, 4])], action[[1, 3, 4, 6]])


def test_returns_to_go_are_of_whole_episodes(tmp_path):
    agent = sac.SACConfig(gamma=GAMMA, conservative={"calibrated": True})
    found = held(tmp_path, agent)
    whole = [0 + GAMMA, 1, 2 + GAMMA * (3 + GAMMA * 4), 3 + GAMMA * 4, 4]
    np.testing.assert_allclose(found.return_to_go, whole, rtol=1e-6)


def config(**agent):
    return ExperimentConfig.model_validate(
        {
            "env": {"id": "gym/Pendulum-v1"},
            "agent": agent,
            "offline": {"dataset": "somewhere.hdf5"},
        }
    )


@pytest.mark.parametrize(
    ("agent", "sentence"),
    [
        ({"name": "pqn"}, "it learns from what it has just done"),
        ({"name": "sac", "replay": {"n_step": 3}}, "transitions of a dataset are single steps; 1 is wanted"),
        ({"name": "iql", "replay": {"priority_exponent": 0.5}}, "drawn uniformly; none is wanted"),
    ],
)
def test_what_does_not_go_with_a_dataset_is_refused(agent, sentence):
    with pytest.raises((Misfit, pydantic.ValidationError), match=sentence):
        config(**agent)


@pytest.mark.parametrize(
    "agent",
    [{"name": "bc"}, {"name": "iql"}, {"name": "td3", "behavior": {}}, {"name": "sac", "conservative": {}}],
    ids=lambda agent: agent["name"],
)
def test_agents_that_need_a_dataset_say_so(agent):
    with pytest.raises((Misfit, pydantic.ValidationError), match="it learns from a dataset; name one"):
        ExperimentConfig.model_validate({"env": {"id": "gym/Pendulum-v1"}, "agent": agent})


def test_another_robots_rows_are_refused(tmp_path):
    """Of the same shapes; one that the dataset notes by another of its names is the same."""
    datasets.save(episode_rows()._replace(notes={"env_id": "gym/Pendulum-v1"}), tmp_path / "rows.hdf5")
    config = recordings.OfflineConfig(dataset=str(tmp_path / "rows.hdf5"))
    recordings.memory(config, offline.BCConfig(), SPEC, env_id="classic/pendulum")
    with pytest.raises(datasets.DatasetError, match="it was recorded in gym/Pendulum-v1, and mujoco/Swi"):
        recordings.memory(config, offline.BCConfig(), SPEC, env_id="mujoco/Swimmer-v5")


@pytest.mark.parametrize("env_id", ["classic/pendulum", "gym/Pendulum-v1"])
def test_values_are_held_of_the_states_that_episodes_begin_in(recorded, env_id):
    """Without a discount a state is worth its first reward, which for a pendulum is known."""
    cfg = ExperimentConfig.model_validate(
        {
            "env": {"id": env_id},
            "agent": {"name": "sac", "gamma": 0.0, "network": NETWORK},
            "offline": {"dataset": str(recorded), "episodes": 3},
        }
    )
    built = experiment.make(cfg)
    agent = built.algorithm.agent

    def value(learner, obs):
        torque = 2 * agent.greedy(learner, obs)[:, 0]
        return -(jnp.arctan2(obs[:, 1], obs[:, 0]) ** 2 + 0.1 * obs[:, 2] ** 2 + 0.001 * torque**2)

    judged = built._replace(algorithm=built.algorithm._replace(agent=agent._replace(value=value)))
    learner = jax.tree.map(lambda x: x[None], agent.init(jax.random.key(1), jnp.zeros((1, 3))))
    state = loop.RunState(learner, None, None, None, None, None)
    (chunk,) = evaluation.along(cfg, judged, iter([Chunk(state, {}, 0.0, False, True)]))
    assert chunk.metrics["held_value"] == pytest.approx(chunk.metrics["obtained"], rel=1e-4)


def test_a_dataset_of_another_environment_is_refused(tmp_path):
    datasets.save(episode_rows(), tmp_path / "rows.hdf5")
    cfg = ExperimentConfig.model_validate(
        {
            "env": {"id": "gym/Pendulum-v1"},
            "agent": {"name": "bc"},
            "offline": {"dataset": str(tmp_path / "rows.hdf5")},
        }
    )
    with pytest.raises(datasets.DatasetError, match=r"rows\.hdf5.*obs"):
        experiment.make(cfg)


def test_step_sizes_fall_over_the_updates_of_a_dataset(monkeypatch):
    falls, make = [], parts.OptimizerConfig.make
    monkeypatch.setattr(
        parts.OptimizerConfig, "make", lambda self, decay=None: falls.append(decay) or make(self, decay)
    )
    logged = {"offline": {"dataset": "x", "updates": 1_000}, "train": {"env_frames": 4_000_000}}
    agent = {"name": "dqn", "decay_start": 0.25, "network": {"torso": "mlp"}}
    for config in (logged, {"train": {"env_frames": 24_000}}):
        experiment.make_algorithm(ExperimentConfig.model_validate(config | {"agent": agent}), SPEC)
    replay_config = ExperimentConfig.model_validate({"agent": agent}).agent
    played = (24_000 - replay_config.replay.warmup_steps) // replay_config.update_period_steps
    assert falls == [range(250, 1_000), range(played // 4, played)]
