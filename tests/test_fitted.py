"""Fitted Q evaluation: on processes whose values are known, and through the command line."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import experiment, fitted, recordings
from agents.experiment_config import ExperimentConfig
from envs import datasets
from envs.datasets import Dataset
from tests.commands import call
from tests.recordings import played
from valuelearn import config, loop
from valuelearn.types import Agent, EnvSpec, LearnerState

pytestmark = pytest.mark.usefixtures("quick_compilation")
GAMMA = 0.8
SPEC = EnvSpec((2,), np.dtype(np.float32), 0, 1, action_size=1)
CONFIGS = Path(__file__).parent.parent / "agents" / "configs"
# The policy: 0.5 in the first state, -0.5 in the second; nothing else of it is asked.
POLICY = Agent(
    None, None, None, lambda learner, obs: (obs @ jnp.array([0.5, -0.5]) * learner.params)[:, None]
)
JUDGED = LearnerState(jnp.float32(1.0), None, None, jax.random.key(0), jnp.int32(0))


def ring(terminates, count=4096, seed=0):
    """Two states that follow each other, until the second terminates where it does; uniform actions.

    The first state pays the action, the second 1 less its square; so the policy's rewards are 0.5 and 0.75.
    """
    random = np.random.default_rng(seed)
    state = np.arange(count) % 2
    action = random.uniform(-1, 1, count).astype(np.float32)
    reward = np.where(state == 0, action, 1 - action**2).astype(np.float32)
    ends = (state == 1) & terminates
    # A time limit stops an episode's record, and no value.
    truncated = (np.arange(count) % 20 == 19) & ~ends
    last = ends | truncated
    last[-1] = True
    obs = np.eye(2, dtype=np.float32)
    return Dataset(
        obs[state], action[:, None], reward, 1 - ends.astype(np.float32), truncated, last, obs[1 - state]
    )


@pytest.mark.parametrize(
    ("head", "terminates"), [("mse", False), ("mse", True), ("hl_gauss", False), ("qr", True)]
)
def test_the_value_of_another_policy_than_the_datas(head, terminates):
    config = fitted.FittedConfig(
        head=head,
        head_options={"num_quantiles": 16, "v_min": -2.0, "v_max": 6.0},
        network={"hidden": (64,)},
        optimizer={"learning_rate": 3e-3, "epsilon": 1e-8},
        replay={"batch_size": 128},
        target_tau=0.05,
        gamma=GAMMA,
    )
    agent = fitted.make(config, SPEC, POLICY, JUDGED, 2_000).agent
    memory = recordings.drawn(ring(terminates), config)
    *_, last = loop.train_offline(agent, memory, SPEC, loop.Schedule(2_000, 0, 1, 1, 2_000), [0])
    learner = jax.tree.map(lambda x: x[0], last.state.learner)
    found = np.asarray(agent.value(learner, jnp.eye(2)))
    first = 0.5 + GAMMA * 0.75 if terminates else (0.5 + GAMMA * 0.75) / (1 - GAMMA**2)
    second = 0.75 if terminates else 0.75 + GAMMA * first
    np.testing.assert_allclose(found, [first, second], atol=0.1)
    assert learner.params["judged"] == 1.0  # The policy stayed as it was.


def test_more_episodes_than_a_replay_has_rows_are_no_matter():
    fitted.make(fitted.FittedConfig(), SPEC._replace(num_envs=1_000_000), POLICY, JUDGED, 2_000)
    cfg = config.load(ExperimentConfig, CONFIGS / "classic" / "sac_pendulum.yaml")
    spec = experiment.make_env(cfg, 1).spec._replace(num_envs=1_000_000)
    of_one = experiment.make_algorithm(cfg, spec._replace(num_envs=1))
    assert experiment.make_algorithm(cfg, spec).updates_per_iteration == of_one.updates_per_iteration


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two seeds on a recorded pendulum, and what it was recorded in."""
    folder = tmp_path_factory.mktemp("fitted")
    datasets.save(played(200), folder / "rows.hdf5")
    offline = f"offline={{dataset: {folder}/rows.hdf5, updates: 20, log_updates: 20, episodes: 0}}"
    small = ("agent.network.hidden=[8]", "train.seeds=2", "evaluation.episodes=0")
    source = ("train", CONFIGS / "offline" / "bc.yaml", "env.id=gym/Pendulum-v1", offline, *small)
    call(*source, "--run", folder / "run")
    return folder


def test_from_the_command_line(run, capsys):
    arguments = ("--fitted", run / "rows.hdf5", "--updates", 10, "--episodes", 3, "--head", "hl_gauss")
    call("evaluate", run / "run", *arguments)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for seed, line in enumerate(lines):
        assert line.startswith(f"seed {seed}: fitted value ") and " at 1 first observations, " in line
        assert "discounted return -" in line and line.endswith("episodes 3")


def test_recordings_of_another_environment_are_refused(run, capsys, tmp_path):
    datasets.save(played(5)._replace(notes={"env_id": "gym/Other-v0"}), tmp_path / "rows.hdf5")
    call("evaluate", run / "run", "--fitted", tmp_path / "rows.hdf5", "--updates", 1, code=2)
    assert "it was recorded in gym/Other-v0, and gym/Pendulum-v1 is asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--head", "hl_gaus"), "--head hl_gaus: did you mean 'hl_gauss'?"),
        (("--head", "iqn"), "--head iqn: "),
        (("epsilon=0.1",), "--fitted judges the greedy policy"),
        (("--fitted", "nowhere.hdf5"), "nowhere.hdf5: there is no such file"),
    ],
)
def test_a_mistake_is_one_sentence(run, capsys, arguments, sentence):
    call("evaluate", run / "run", "--fitted", run / "rows.hdf5", "--updates", 1, *arguments, code=2)
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
