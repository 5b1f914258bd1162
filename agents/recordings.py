"""Learning from recorded datasets: the options and the memory."""

from pathlib import Path
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
from pydantic import Field

from agents import logged
from agents.actor_critic import LearnerConfig
from agents.dqn import DQNConfig
from agents.parts import ReplayConfig
from agents.sac import SACConfig
from agents.td3 import TD3Config
from envs import datasets
from valuelearn import replay
from valuelearn.config import Misfit, Section
from valuelearn.types import EnvSpec, Memory, Transition


class OfflineConfig(Section):
    """A dataset to learn from, and how long."""

    dataset: str
    """Its file or folder, in any format that `valuelearn dataset info` reads; the name of a Minari set; or a
    folder of Atari's logged replays, of which as much is read as `agent.replay.capacity` holds."""
    updates: Annotated[int, Field(gt=0, lt=2**31)] = 1_000_000
    """Updates to train for."""
    log_updates: Annotated[int, Field(gt=0)] = 10_000
    """Updates between two rows of metrics, for each of which the policy is evaluated."""
    checkpoint_updates: Annotated[int, Field(gt=0)] | None = 100_000
    """Updates between two checkpoints; none for no checkpoints."""
    episodes: Annotated[int, Field(ge=0, le=1_024)] = 10
    """Whole episodes of the environment for each of those evaluations, as many copies of it; 0 for none."""


def check(agent: Section, key: str = "offline.dataset") -> None:
    """Refuse an agent that cannot learn from a dataset, which `key` names.

    Raises:
        Misfit: naming what it would need.
    """
    if not isinstance(agent, LearnerConfig | DQNConfig):
        name = getattr(agent, "name", "it")
        reason = f"it learns from what it has just done; of a dataset dqn, sac, td3, bc and iql do ({name})"
        raise Misfit("agent.name", name, reason, key)
    if isinstance(agent, LearnerConfig):
        _check_single_steps(agent.replay, key)
        if agent.return_size is not None:
            reason = "a dataset's returns do not change; scale its rewards with agent.reward_scale"
            raise Misfit("agent.return_size", agent.return_size, reason, key)


def _check_single_steps(config: ReplayConfig, key: str = "offline.dataset") -> None:
    """Refuse a replay that does more than draw transitions uniformly, as only one of logged steps does."""
    if config.n_step > 1:
        reason = "transitions of a dataset are single steps; 1 is wanted"
        raise Misfit("agent.replay.n_step", config.n_step, reason, key)
    if config.priority_exponent is not None:
        reason = "transitions of a dataset are drawn uniformly; none is wanted"
        raise Misfit("agent.replay.priority_exponent", config.priority_exponent, reason, key)


def memory(
    config: OfflineConfig,
    agent: LearnerConfig | DQNConfig,
    spec: EnvSpec,
    clip_rewards: bool = True,
    env_id: str | None = None,
) -> Memory:
    """What the agent draws from: the whole dataset, each transition as likely as another.

    Of logged replays its own replay, whose rewards may be clipped to [-1, 1]. `env_id` names the environment
    that the dataset shall be of; logged replays note none.

    Raises:
        DatasetError: where it cannot be read, or is another environment's.
        Misfit: for n-step returns or priorities of a dataset that is not of logged replays.
    """
    if isinstance(agent, DQNConfig):
        if logged.is_logged(config.dataset):
            return logged.memory(Path(config.dataset), agent, spec, config.updates, clip_rewards)
        _check_single_steps(agent.replay)
    return drawn(datasets.load(config.dataset, spec, env_id), agent)


def drawn(dataset: datasets.Dataset, agent: LearnerConfig | DQNConfig) -> Memory:
    """A memory of what an agent can use of a dataset, each transition as likely as another.

    Raises:
        DatasetError: where that is nothing.
    """
    next_action = return_to_go = None
    usable = np.ones(dataset.rows, bool)
    if isinstance(agent, TD3Config) and agent.behavior is not None and agent.behavior.critic_weight:
        next_action, usable = datasets.next_action(dataset)
    if isinstance(agent, SACConfig) and agent.conservative is not None and agent.conservative.calibrated:
        return_to_go = datasets.returns_to_go(dataset, agent.gamma)
        usable = np.isfinite(return_to_go)
    if not usable.any():
        raise datasets.DatasetError("no row of the dataset can be used: no episode is whole")
    columns = {
        "obs": dataset.obs,
        "action": dataset.action,
        "reward": dataset.reward,
        "discount": np.float32(agent.gamma) * dataset.discount,
        "next_obs": dataset.next_obs,
        "next_action": next_action,
        "return_to_go": return_to_go,
    }
    known = {name: jnp.asarray(x[usable]) for name, x in columns.items() if x is not None}
    return replay.recorded(Transition(**known), agent.replay.batch_size)


def held(state: Any) -> tuple[int, np.ndarray]:
    """Transitions in the state of such a memory, and their rewards."""
    reward = np.asarray(state.reward)
    if isinstance(state, replay.ReplayState):
        reward = reward[np.asarray(state.start)]
    return len(reward), reward
