"""EDAC as a user of PyTorch writes it well: all critics in one batched product a layer, a fused Adam.

`torch.compile` is left out: it does not differentiate twice, as the diversity of critics wants.
"""

import json
import math
import resource
import sys
import time

import torch
from edac_task import Layers, beginning, outcome  # The file beside this one.
from torch.nn import functional

Parameters = list[torch.Tensor]


def tensors(layers: Layers) -> Parameters:
    """Kernels and biases in turn; the critics' biases [K, 1, G]."""
    kernels = [torch.from_numpy(layer["kernel"]) for layer in layers]
    biases = [torch.from_numpy(layer["bias"]) for layer in layers]
    biases = [bias[:, None] if bias.ndim == 2 else bias for bias in biases]
    return [x.requires_grad_() for pair in zip(kernels, biases, strict=True) for x in pair]


def numbers(parameters: Parameters) -> Layers:
    """The way back."""
    arrays = [x.detach().numpy() for x in parameters]
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    return [{"kernel": kernel, "bias": bias.reshape(*kernel.shape[:-2], -1)} for kernel, bias in pairs]


def forward(parameters: Parameters, x: torch.Tensor) -> torch.Tensor:
    """[B, F] -> [B, G] through one network, [K, B, F] -> [K, B, G] through K."""
    product = torch.addmm if parameters[0].ndim == 2 else torch.baddbmm
    pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
    for number, (kernel, bias) in enumerate(pairs):
        x = product(bias, x, kernel)
        if number < len(pairs) - 1:
            x = functional.relu(x)
    return x


def sampled(actor: Parameters, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions [B, D] and the logarithms of their densities [B]."""
    mean, log_std = forward(actor, obs).chunk(2, -1)
    log_std = log_std.clamp(-20, 2)
    noise = torch.randn_like(mean)
    raw = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    slope = 2 * (math.log(2) - raw - functional.softplus(-2 * raw))
    return raw.tanh(), (gaussian - slope).sum(-1)


def values(critics: Parameters, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """[K, B]; actions are [B, D], or [K, B, D] of each critic's own."""
    members = critics[0].shape[0]
    obs, action = obs.expand(members, -1, -1), action.expand(members, -1, -1)
    return forward(critics, torch.cat([obs, action], -1)).squeeze(-1)


def alignment(gradients: torch.Tensor) -> torch.Tensor:
    """An et al. (2021), eq. 5, of gradients [K, B, D]; the square of the sum less the sum of squares."""
    directions = functional.normalize(gradients, dim=-1, eps=1e-10)
    pairs = directions.sum(0).square().sum(-1) - directions.square().sum((0, -1))
    return pairs / (len(gradients) - 1)


class Edac:
    """The learner."""

    def __init__(self, task: dict) -> None:
        """Networks as the task begins, and their optimisers."""
        self.task = task
        actor, critics, transitions = beginning(task)
        self.actor, self.critics = tensors(actor), tensors(critics)
        self.targets = [x.detach().clone() for x in self.critics]
        self.log_temperature = torch.tensor(math.log(task["temperature"]), requires_grad=True)
        self.transitions = {name: torch.from_numpy(found) for name, found in transitions.items()}
        groups = (self.actor, self.critics, [self.log_temperature])
        self.optimizers = [torch.optim.Adam(group, lr=task["learning_rate"], fused=True) for group in groups]

    def sample(self) -> dict[str, torch.Tensor]:
        """A batch."""
        index = torch.randint(self.task["transitions"], (self.task["batch_size"],))
        return {name: found[index] for name, found in self.transitions.items()}

    def update(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Every network moved once; the critics' loss."""
        by_actor, by_critics, by_temperature = self.optimizers
        temperature = self.log_temperature.detach().exp()
        with torch.no_grad():
            next_action, log_prob = sampled(self.actor, batch["next_obs"])
            ahead = values(self.targets, batch["next_obs"], next_action).min(0).values
            fitted = batch["reward"] + batch["discount"] * (ahead - temperature * log_prob)
        action = batch["action"].expand(len(self.critics[0]), -1, -1).clone().requires_grad_()
        found = values(self.critics, batch["obs"], action)
        (gradients,) = torch.autograd.grad(found.sum(), action, create_graph=True)
        loss = (found - fitted).square().mean(-1).sum()
        loss = loss + self.task["diversity"] * alignment(gradients).mean()
        by_critics.zero_grad()
        loss.backward()
        by_critics.step()
        new_action, log_prob = sampled(self.actor, batch["obs"])
        for parameter in self.critics:
            parameter.requires_grad_(False)
        lowest = values(self.critics, batch["obs"], new_action).min(0).values
        by_actor.zero_grad()
        (temperature * log_prob - lowest).mean().backward()
        by_actor.step()
        for parameter in self.critics:
            parameter.requires_grad_(True)
        by_temperature.zero_grad()
        surplus = -log_prob.detach().mean() + self.task["action_size"]  # Over the wanted entropy.
        (self.log_temperature * surplus).backward()
        by_temperature.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.targets, self.critics, self.task["tau"])
        return loss.detach()


def main() -> None:
    """Compare the first update, warm up, then time updates."""
    task = json.loads(sys.argv[2])
    learner = Edac(task)
    batch = {name: found[: task["batch_size"]] for name, found in learner.transitions.items()}
    loss = learner.update(batch).item()
    networks = map(numbers, (learner.actor, learner.critics, learner.targets))
    first = [loss, *outcome(*networks, batch["obs"].numpy())]
    for _ in range(max(task["updates"] // 10, 1)):
        learner.update(learner.sample())
    start = time.perf_counter()
    for _ in range(task["updates"]):
        learner.update(learner.sample())
    rate = task["updates"] / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    versions = {"torch": torch.__version__}
    found = {"updates_per_second": rate, "first": first, "peak_gib": peak, "versions": versions}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
