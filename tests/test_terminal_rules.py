"""Ends of episodes told from observations, against the simulators' own word."""

import numpy as np
import pytest

import envs
from envs import terminal_rules

STEPS = 400


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("Hopper-v5", (0.02, 0.98)),
        ("Walker2d-v5", (0.02, 0.98)),
        ("Humanoid-v5", (0.02, 0.98)),
        ("InvertedPendulum-v5", (0.02, 0.98)),
        ("HalfCheetah-v5", (0, 0)),
        ("Swimmer-v5", (0, 0)),
    ],
)
def test_rules_say_what_simulators_say(name, share):
    """From states all around a robot's first one, some of them beyond what it may be in."""
    pytest.importorskip("mujoco")
    rng = np.random.default_rng(0)
    env = envs.make(f"mujoco/{name}", num_envs=1)  # Of gymnasium's own, MuJoCo writes warnings to a file.
    env.reset(seed=0)
    robot = env._env.envs[0].unwrapped
    spread = np.where(np.arange(robot.model.nq) < 3, 0.4, 0.3)
    observed, ended = [], []
    for _ in range(STEPS):
        qpos = robot.init_qpos + spread * rng.normal(size=robot.model.nq)
        robot.set_state(qpos, robot.init_qvel + rng.normal(size=robot.model.nv))
        obs, _, terminated, _, _ = robot.step(rng.uniform(-1, 1, robot.model.nu))
        observed.append(obs)
        ended.append(terminated)
    env.close()
    found = np.asarray(terminal_rules.rule(f"mujoco/{name}")(np.float32(observed)))
    np.testing.assert_array_equal(found, ended)
    assert share[0] <= np.mean(ended) <= share[1]


def test_what_is_no_number_ends_an_episode():
    found = terminal_rules.rule("gym/Pendulum-v1")(np.float32([[0, 0, 0], [0, np.nan, 0]]))
    assert found.tolist() == [False, True]


def test_a_version_that_is_gone_is_named():
    with pytest.raises(envs.UnknownEnvironmentError, match="Hopper-v2: gymnasium makes it no longer"):
        terminal_rules.rule("mujoco/Hopper-v2")


@pytest.mark.parametrize("env_id", ["mujoco/Ant-v5", "gym/MountainCarContinuous-v0", "atari/pong"])
def test_a_missing_rule_is_named(env_id):
    with pytest.raises(envs.UnknownEnvironmentError, match=f"{env_id}: no rule says when its episodes end"):
        terminal_rules.rule(env_id)
