"""What both programs that time EDAC begin with, in numpy, so that their first updates can be compared."""

import itertools

import numpy as np

Layers = list[dict[str, np.ndarray]]


def layers(rng: np.random.Generator, sizes: list[int], *members: int) -> Layers:
    """Weights [..., F, G] and biases [..., G] of each layer."""
    return [
        {
            "kernel": rng.normal(0, fan_in**-0.5, (*members, fan_in, units)).astype(np.float32),
            "bias": rng.normal(0, 0.1, (*members, units)).astype(np.float32),
        }
        for fan_in, units in itertools.pairwise(sizes)
    ]


def beginning(task: dict) -> tuple[Layers, Layers, dict[str, np.ndarray]]:
    """An actor whose actions have next to no spread, the critics, and transitions of random numbers."""
    rng = np.random.default_rng(0)
    obs_size, action_size = task["obs_size"], task["action_size"]
    actor = layers(rng, [obs_size, *task["hidden"], 2 * action_size])
    actor[-1]["bias"][action_size:] = -100.0  # Cut off at the least logarithm of the standard deviation.
    critics = layers(rng, [obs_size + action_size, *task["hidden"], 1], task["critics"])
    count = task["transitions"]
    transitions = {
        "obs": rng.normal(size=(count, obs_size)),
        "action": rng.uniform(-1, 1, (count, action_size)),
        "reward": rng.normal(size=count),
        "discount": np.full(count, task["gamma"]),
        "next_obs": rng.normal(size=(count, obs_size)),
    }
    return actor, critics, {name: values.astype(np.float32) for name, values in transitions.items()}


def forward(network: Layers, x: np.ndarray) -> np.ndarray:
    """[..., B, F] -> [..., B, G]."""
    for number, layer in enumerate(network):
        x = x @ layer["kernel"] + layer["bias"][..., None, :]
        if number < len(network) - 1:
            x = np.maximum(x, 0)
    return x


def outcome(actor: Layers, critics: Layers, targets: Layers, obs: np.ndarray) -> list[float]:
    """The mean action, and each critic's mean value of the actions, now and in targets."""
    action = np.tanh(np.split(forward(actor, obs), 2, axis=-1)[0])
    x = np.concatenate([obs, action], axis=-1)
    means = [action.mean(0), *(forward(nets, x).mean((-2, -1)) for nets in (critics, targets))]
    return np.concatenate(means).tolist()
