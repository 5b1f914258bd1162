"""Stable-Baselines3's SAC and TD3, and SBX's, which have the same interface."""

import json
import sys

import sb3_loop  # The file beside this one.
from stable_baselines3.common.env_util import make_vec_env


def main(framework: str) -> None:
    """Time the task's algorithm of it."""
    if framework == "sbx-rl":
        from sbx import SAC, TD3
    else:
        from stable_baselines3 import SAC, TD3
    task = json.loads(sys.argv[2])
    model = {"sac": SAC, "td3": TD3}[sys.argv[1]](
        "MlpPolicy",
        make_vec_env(task["env"], n_envs=1, seed=0),
        learning_rate=task["learning_rate"],
        buffer_size=task["capacity"],
        learning_starts=task["warmup_steps"],
        batch_size=task["batch_size"],
        gamma=0.99,
        tau=0.005,
        train_freq=task["collect_steps"],
        gradient_steps=task["collect_steps"],
        policy_kwargs={"net_arch": task["hidden"]},
        seed=0,
        verbose=0,
    )
    sb3_loop.report(model, task, framework, "mujoco")


if __name__ == "__main__":
    main("stable-baselines3")
