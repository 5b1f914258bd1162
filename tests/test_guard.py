"""Updates that are not finite: none is made, the run stops, and what it stopped at is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import dqn, experiment, flight
from agents.dqn import DQNConfig
from agents.experiment_config import ExperimentConfig
from tests.test_loop import NETWORK, SPEC, Host, functional_env
from tests.test_training import COMPILED, HOST, HOST_SAC, OFFLINE
from valuelearn import config, guard, loop
from valuelearn.checkpoint import Checkpoints
from valuelearn.loop import Schedule

pytestmark = pytest.mark.usefixtures("quick_compilation")
_BAD_PHASE = 6  # Of the copy with the longest episodes: its reward there is no number.
REPLAY = {"capacity": 120, "warmup_steps": 24, "batch_size": 4, "n_step": 1, "priority_exponent": 0.5}
SCHEDULE = Schedule(480, 24, 4, 1, 12)  # An update each iteration, and a chunk for each.


def algorithm():
    fields = DQNConfig(head="c51", network=NETWORK, replay=REPLAY, update_period_steps=12)
    return dqn.make(DQNConfig.model_validate_json(fields.model_dump_json()), SPEC, 480, 4)


class BadHost(Host):
    def step(self, action):
        step = super().step(action)
        bad = step.next_obs.argmax(-1) == _BAD_PHASE
        return step._replace(reward=np.where(bad, np.float32(np.inf), step.reward))


def bad_env(reward=jnp.inf):
    """Pays so much in one phase; of another number the program is the same, and rounds alike."""
    env = functional_env()

    def step(phase, action, key):
        state, step = env.step(phase, action, key)
        bad = step.next_obs.argmax(-1) == _BAD_PHASE
        return state, step._replace(reward=jnp.where(bad, reward, step.reward))

    return env._replace(step=step)


@pytest.mark.parametrize("kind", ["functional", "host"])
def test_a_run_stops_before_the_first_update_that_is_not_finite(kind):
    """With the learner that the same run has where nothing is wrong: what it stopped at is not in it.

    A categorical head would clip an infinite reward and go on.
    """
    built, runs = algorithm(), {}
    for name, env in {
        "good": (bad_env(1.0), Host(waits=False)),
        "bad": (bad_env(), BadHost(False)),
    }.items():
        if kind == "functional":
            chunks = loop.train_functional(built.agent, env[0], built.memory, SCHEDULE, [0, 1, 2])
        else:
            chunks = loop.train_host(built.agent, env[1], built.memory, SCHEDULE, 0)
        runs[name] = [jax.tree.map(np.asarray, chunk._replace(state=plain(chunk))) for chunk in chunks]
    good, bad = runs.values()
    assert len(good) > len(bad) > 2 and all(chunk.refused is None for chunk in (*good, *bad[:-1]))
    last = bad[-1]
    reward = last.refused.transition.reward
    assert reward.shape == (3 if kind == "functional" else 1, 4) and np.isinf(reward).any()
    # Had a seed of its own gone on, the seeds would be apart.
    same = next(chunk for chunk in good if np.array_equal(chunk.state[1], last.state[1]))
    jax.tree.map(np.testing.assert_array_equal, same.state[0], last.state[0])
    assert (last.state[1] > 0).all() and np.isfinite(last.state[2]).all()


def plain(chunk):
    learner = chunk.state.learner
    return (
        (learner.params, learner.target_params, learner.opt_state),
        learner.updates,
        chunk.state.memory.priorities.leaves,
    )


@pytest.mark.parametrize(
    ("run", "wrong"),  # MinAtar's observations are flags.
    [(COMPILED, "reward"), (HOST, "reward"), (HOST, "obs"), (HOST_SAC, "reward"), (HOST_SAC, "obs")],
    ids=["pqn, reward", "dqn, reward", "dqn, obs", "sac, reward", "sac, obs"],
)
def test_every_agent_makes_no_update_from_what_is_not_finite(run, wrong):
    built = experiment.make(config.load(ExperimentConfig, run[0], [*run[1:], "train.seeds=1"]))
    agent, memory = built.algorithm.agent, built.algorithm.memory
    state = jax.eval_shape(memory.init)
    like = jax.eval_shape(memory.sample, state, jax.eval_shape(jax.random.key, 0))
    sample = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    obs = getattr(sample, "transition", sample).obs
    learner = agent.init(jax.random.key(0), obs[0] if hasattr(sample, "step") else obs)
    update = jax.jit(agent.update)
    assert update(learner, sample)[0].updates > 0

    def spoilt(path, x):
        name = jax.tree_util.keystr(path)
        return x.at[0].set(jnp.nan) if name.endswith(f".{wrong}") and x.dtype == jnp.float32 else x

    bad = jax.tree.map_with_path(spoilt, sample)
    assert not guard.finite(bad)
    learnt, *_ = update(learner, bad)
    jax.tree.map(np.testing.assert_array_equal, *(jax.tree.map(bits, x) for x in (learnt, learner)))


def bits(x):
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


@pytest.mark.parametrize(
    "run", [COMPILED, HOST, HOST_SAC, OFFLINE], ids=["two seeds", "host", "sac", "offline"]
)
def test_the_flight_recorder(call, tmp_path, run, recorded):
    """Of a step size that throws parameters out of what float32 can hold."""
    dataset = [f"offline.dataset={recorded}"] if run is OFFLINE else []
    blown = ("agent.head=mse", "agent.optimizer.learning_rate=1e30", "evaluation.episodes=0")
    arguments = (*run, *dataset, *blown)
    said = call("train", *arguments, "--run", tmp_path / "run", code=2)
    assert "was not made: " in said and f"valuelearn replay-update {tmp_path / 'run'}" in said
    again = call("replay-update", tmp_path / "run")
    assert "not finite: " in again and " first arises in " in again and ".py:" in again
    built = experiment.make(experiment.load_run(tmp_path / "run"))
    with Checkpoints(tmp_path / "run" / flight.FOLDER) as flights:
        assert flight.not_finite("learner", flights.restore(flight.like(built)).state.learner) == []
    # The metrics file holds what was before, and no row of the chunk that broke.
    assert "nan" not in (tmp_path / "run" / "metrics.csv").read_text()


def test_nothing_to_replay(call, tmp_path):
    call("train", *COMPILED, "evaluation.episodes=0", "--run", tmp_path / "run")
    said = call("replay-update", tmp_path / "run", code=2)
    assert said.endswith("there is no flight folder: no update of this run was not finite\n")
