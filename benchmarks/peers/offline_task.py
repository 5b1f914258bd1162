"""What both programs that time offline agents learn from: random numbers in Hopper's shapes."""

import numpy as np


def recorded(task: dict) -> dict[str, np.ndarray]:
    """Columns of so many steps, in episodes of a thousand that run out of time."""
    rng, count = np.random.default_rng(0), task["transitions"]
    return {
        "obs": rng.normal(size=(count, task["obs_size"])).astype(np.float32),
        "action": rng.uniform(-1, 1, (count, task["action_size"])).astype(np.float32),
        "reward": rng.normal(size=count).astype(np.float32),
        "last": np.arange(1, count + 1) % 1_000 == 0,
    }
