"""Whether a run fits into the memory there is, before any of it is taken."""

import jax

from agents.actor_critic import LearnerConfig
from agents.experiment import Experiment
from agents.experiment_config import ExperimentConfig
from agents.q_learning import QConfig
from valuelearn import config, loop
from valuelearn.devices import free_bytes


def check(cfg: ExperimentConfig, built: Experiment) -> str:
    """A sentence on what the collected experience and the learners take.

    Raises:
        Misfit: where they take more than nine tenths of the device's free memory.
    """
    leaves, memory_bytes = jax.tree.leaves(built.learner), built.algorithm.memory_bytes
    shares, parts = loop.mesh_for(cfg.train.seeds, cfg.parallel.devices).devices.shape
    # Devices with one memory.
    sharing = shares * parts // cfg.parallel.hosts if jax.default_backend() == "cpu" else 1
    seeds = cfg.train.seeds / shares  # Of each device.
    free, device = free_bytes(), jax.devices()[0].device_kind
    if cfg.offline is None:
        experience = memory_bytes * seeds * sharing / parts
        if cfg.parallel.hosts > 1 and cfg.checkpoint.replay:
            experience += memory_bytes * sharing  # Every device gathers it all, to be saved.
    else:  # All seeds of a device learn from the same, and one copy is there already.
        experience = memory_bytes * sharing
        free += memory_bytes
    learner = sum(x.size * x.dtype.itemsize for x in leaves) * seeds * sharing
    text = (
        f"{experience / 2**30:.2f} GiB of experience and {learner / 2**30:.2f} GiB of networks, "
        f"of {free / 2**30:.2f} GiB free on {device}"
    )
    if experience + learner <= 0.9 * free:
        return f"memory: {text}"
    found: object
    if learner > experience:
        key, found = "agent.network.hidden", list(cfg.agent.network.hidden)
    elif cfg.offline is not None and isinstance(cfg.agent, LearnerConfig):
        key, found = "offline.dataset", cfg.offline.dataset
    elif isinstance(cfg.agent, QConfig | LearnerConfig):
        key, found = "agent.replay.capacity", cfg.agent.replay.capacity
    else:
        key, found = "env.num_envs", cfg.env.num_envs
    raise config.Misfit(key, found, f"the run would need {text}; less is wanted", "train.seeds")
