"""Stable-Baselines3's DQN, and SBX's, which has the same interface."""

import json
import os
import sys

import ale_py
import gymnasium
import sb3_loop  # The file beside this one.
import torch
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

gymnasium.register_envs(ale_py)


def atari(task: dict) -> tuple[str, VecEnv, dict]:
    """The policy, the games and the network's options."""
    wrappers = {"terminal_on_life_loss": False, "action_repeat_probability": 0.25, "noop_max": 0}
    games = make_atari_env(task["game"], n_envs=task["num_envs"], seed=0, wrapper_kwargs=wrappers)
    return "CnnPolicy", VecFrameStack(games, n_stack=4), {}


class Torso(BaseFeaturesExtractor):
    """MinAtar's (Young & Tian, 2019): one convolution, 3 x 3 with 16 filters."""

    def __init__(self, space: gymnasium.spaces.Box) -> None:
        """Of observations [10, 10, C]."""
        height, width, channels = space.shape
        super().__init__(space, features_dim=16 * (height - 2) * (width - 2))
        self.convolution = torch.nn.Conv2d(channels, 16, 3)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Features [B, F]."""
        return self.convolution(obs.permute(0, 3, 1, 2)).relu().flatten(1)


def minatar(task: dict) -> tuple[str, VecEnv, dict]:
    """The policy, MinAtar's own games and the network's options."""
    import minatar.gym

    minatar.gym.register_envs()
    options = {"use_minimal_action_set": True}  # Three, as gymnax has it.
    env = make_vec_env("MinAtar/Breakout-v0", n_envs=task["num_envs"], seed=0, env_kwargs=options)
    return "MlpPolicy", env, {"features_extractor_class": Torso, "net_arch": [128]}


def classic(task: dict) -> tuple[str, VecEnv, dict]:
    """The policy, CartPole and the network's options."""
    env = make_vec_env("CartPole-v1", n_envs=task["num_envs"], seed=0)
    return "MlpPolicy", env, {"net_arch": task["hidden"]}


def main(framework: str) -> None:
    """Time its DQN on the task."""
    task = json.loads(sys.argv[2])
    if "cpu_threads" in task:
        torch.set_num_threads(task["cpu_threads"])
        os.environ["NPROC"] = str(task["cpu_threads"])  # By which XLA takes its threads.
    if framework == "sbx-rl":
        from sbx import DQN
    else:
        from stable_baselines3 import DQN
    policy, env, network = {"atari": atari, "minatar": minatar, "classic": classic}[sys.argv[1]](task)
    model = DQN(
        policy,
        env,
        learning_rate=task["learning_rate"],
        buffer_size=task["capacity"],
        learning_starts=task["warmup_steps"],
        batch_size=task["batch_size"],
        gamma=0.99,
        train_freq=task["collect_steps"],
        gradient_steps=task["num_envs"] * task["collect_steps"] // task["update_period_steps"],
        target_update_interval=task["target_period_steps"],
        policy_kwargs=network,
        seed=0,
        verbose=0,
    )
    sb3_loop.report(model, task, framework, "ale-py")


if __name__ == "__main__":
    main("stable-baselines3")
