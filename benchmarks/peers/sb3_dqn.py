"""Stable-Baselines3's DQN, and SBX's, which has the same interface."""

import importlib.metadata
import json
import sys
import time

import ale_py
import gymnasium
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

gymnasium.register_envs(ale_py)


def atari(task: dict) -> tuple[str, VecEnv, dict]:
    """The policy, the games and the network's options."""
    wrappers = {"terminal_on_life_loss": False, "action_repeat_probability": 0.25, "noop_max": 0}
    games = make_atari_env(task["game"], n_envs=task["num_envs"], seed=0, wrapper_kwargs=wrappers)
    return "CnnPolicy", VecFrameStack(games, n_stack=4), {}


def classic(task: dict) -> tuple[str, VecEnv, dict]:
    """The policy, CartPole and the network's options."""
    env = make_vec_env("CartPole-v1", n_envs=task["num_envs"], seed=0)
    return "MlpPolicy", env, {"net_arch": task["hidden"]}


def main(framework: str) -> None:
    """Warm up, then time `steps` agent steps with their updates."""
    if framework == "sbx-rl":
        from sbx import DQN
    else:
        from stable_baselines3 import DQN
    task = json.loads(sys.argv[2])
    policy, env, network = {"atari": atari, "classic": classic}[sys.argv[1]](task)
    updates_per_vector_step = task["num_envs"] // task["update_period_steps"]
    model = DQN(
        policy,
        env,
        learning_rate=task["learning_rate"],
        buffer_size=task["capacity"],
        learning_starts=task["warmup_steps"],
        batch_size=task["batch_size"],
        gamma=0.99,
        train_freq=1 if updates_per_vector_step else task["update_period_steps"],
        gradient_steps=max(updates_per_vector_step, 1),
        target_update_interval=task["target_period_steps"],
        policy_kwargs=network,
        seed=0,
        verbose=0,
    )
    model.learn(task["warmup_steps"] + task["steps"] // 10)
    before, start = model.num_timesteps, time.perf_counter()
    model.learn(task["steps"], reset_num_timesteps=False)
    rate = (model.num_timesteps - before) / (time.perf_counter() - start)
    packages = ("stable-baselines3", framework, "torch", "gymnasium", "ale-py")
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({"agent_steps_per_second": rate, "versions": versions}))


if __name__ == "__main__":
    main("stable-baselines3")
