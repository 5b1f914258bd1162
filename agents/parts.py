"""The groups of options that agents share, and what they build."""

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from pydantic import Field, model_validator

from valuelearn import heads, networks, replay, support_doctor, supports
from valuelearn.config import Misfit, Section
from valuelearn.types import Agent, EnvSpec, Memory, Metrics, Network, Params

# Bins or quantiles. A billion of them would exhaust the memory before what a run needs is counted.
_MOST = 100_000


class HeadConfig(Section):
    """Options of the value head; those that do not concern the chosen head are ignored."""

    v_min: float = -10.0
    """Lower end of the support, return units (mse_softmax, two_hot, hl_gauss, c51)."""
    v_max: float = 10.0
    """Upper end of the support, return units."""
    num_bins: Annotated[int, Field(ge=2, le=_MOST)] = 51
    """Bins of the support; more make them narrower."""
    sigma_ratio: Annotated[float, Field(gt=0)] = 0.75
    """Smoothing in bin widths (hl_gauss); larger spreads a target over more bins."""
    convention: supports.Convention = "edges"
    """Whether v_min and v_max are the outer edges of the bins or their outer centres (hl_gauss)."""
    transform: supports.TransformName = "identity"
    """Coordinate in which the bins are uniform; symlog reaches far with few bins."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of target mass spread evenly over all bins (two_hot, hl_gauss)."""
    delta: Annotated[float, Field(gt=0)] = 1.0
    """Error beyond which the loss is linear, return units (huber)."""
    num_quantiles: Annotated[int, Field(gt=0, le=_MOST)] = 200
    """Quantiles (qr)."""
    num_fractions: Annotated[int, Field(gt=0, le=_MOST)] = 64
    """Fractions drawn per update, of predictions and of targets (iqn)."""
    kappa: Annotated[float, Field(ge=0)] = 1.0
    """Error beyond which the quantile loss is linear, return units (qr, iqn); 0 for always, or from 0.001."""

    @model_validator(mode="after")
    def _possible(self) -> "HeadConfig":
        if self.v_min >= self.v_max:
            raise Misfit("v_min", self.v_min, f"it must lie below v_max, which is {self.v_max}", "v_max")
        if 0 < self.kappa < heads.LEAST_KAPPA:
            raise Misfit("kappa", self.kappa, f"a number from {heads.LEAST_KAPPA:g}, or 0, is wanted")
        return self

    def support(self, name: heads.Name, gamma: float, of_returns: bool) -> support_doctor.Support:
        """What the support doctor looks at; heads without a support lose nothing, so nothing is found."""
        sigma_ratio = self.sigma_ratio if name == "hl_gauss" else 0.0
        ends, bins = (self.v_min, self.v_max), self.num_bins
        return support_doctor.Support(*ends, bins, gamma, sigma_ratio, self.transform, of_returns)

    def make(self, name: heads.Name) -> heads.Head:
        """The head of that name with these options."""
        return heads.make(name, **self.model_dump())


class NetworkConfig(Section):
    """The network in front of the head."""

    torso: networks.TorsoName = "nature"
    """What turns an observation into features."""
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (512,)
    """Units of each dense layer after the torso."""
    padding: networks.Padding = "same"
    """Padding of the nature torso; `same` is Dopamine's JAX network, 1.7 times the original's work."""
    init: networks.InitName = "xavier_uniform"
    """Initial weights: xavier_uniform in Dopamine's DQN, third_uniform in its C51 and Rainbow,
    fan_in_uniform in DQN Zoo."""
    last_scale: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the last layer's initial weights; 0 starts every value at the support's middle."""
    layer_norm: bool = False
    """LayerNorm before each hidden activation."""
    dueling: bool = False
    """Separate value and advantage streams (Wang et al., 2016)."""
    num_cosines: Annotated[int, Field(gt=0)] = 64
    """Cosine features of a fraction (iqn)."""
    acting_fractions: Annotated[int, Field(gt=0)] = 32
    """Fixed fractions that an action's score averages over (iqn)."""
    precision: networks.Precision = "float32"
    """What the layers compute in; bfloat16 is for GPUs and TPUs. Parameters and losses are float32 with it,
    too."""

    def check(self, obs_shape: tuple[int, ...]) -> None:
        """Refuse a torso that cannot read observations of that shape.

        Raises:
            Misfit: where it wants images, or larger ones.
        """
        if self.torso == "mlp":
            return
        key = "agent.network.torso"
        if len(obs_shape) != 3:
            reason = f"it reads images, but an observation has the shape {obs_shape}; use mlp"
            raise Misfit(key, self.torso, reason, "env.id")
        least = {"minatar": 3, "nature": 36 if self.padding == "valid" else 1, "impala": 1}[self.torso]
        height, width, _ = obs_shape
        if min(height, width) < least:
            reason = f"it reads images of at least {least} x {least}, but these are {height} x {width}"
            raise Misfit(key, self.torso, reason, "agent.network.padding", "env.id")

    def make(self, num_actions: int, head: heads.Head, stock: networks.StockInput | None = None) -> Network:
        """The network for that many actions and that head; with `stock` it reads that, too."""
        return networks.action_value(num_actions, head, **self.model_dump(), stock=stock)


def _is_kernel(path: tuple, _: jax.Array) -> bool:
    return path[-1:] == (jax.tree_util.DictKey("kernel"),)


class OptimizerConfig(Section):
    """The optimiser."""

    name: Literal["adam", "adamw", "radam", "rmsprop"] = "adam"
    """Adam, Adam with decoupled weight decay, rectified Adam, or centred RMSProp with decay 0.95."""
    learning_rate: Annotated[float, Field(gt=0)] = 6.25e-5
    """Step size."""
    epsilon: Annotated[float, Field(gt=0)] = 1.5e-4
    """Added to the denominator; larger damps steps where gradients are small."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Share of each weight that is taken off it at a step, times the step size (adamw); biases and the
    scales of LayerNorm are left alone."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients with a larger global norm are scaled down to it; none for no limit."""

    def make(self, decay: range | None = None) -> optax.GradientTransformation:
        """The optimiser; its step size falls linearly to 0 over the updates of `decay`."""
        rate = self.learning_rate
        if decay is not None:
            rate = optax.linear_schedule(rate, 0.0, len(decay), decay.start)
        match self.name:
            case "adam":
                optimizer = optax.adam(rate, eps=self.epsilon)
            case "adamw":
                optimizer = optax.adamw(
                    rate,
                    eps=self.epsilon,
                    weight_decay=self.weight_decay,
                    mask=lambda params: jax.tree.map_with_path(_is_kernel, params),
                )
            case "radam":
                optimizer = optax.radam(rate, eps=self.epsilon)
            case "rmsprop":
                optimizer = optax.rmsprop(rate, decay=0.95, eps=self.epsilon, centered=True)
        if self.max_grad_norm is None:
            return optimizer
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optimizer)


class ExplorationConfig(Section):
    """Epsilon-greedy; the schedule counts agent steps of all environments, after the warm-up."""

    epsilon_start: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of random actions at first."""
    epsilon_end: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of random actions after the decay."""
    decay_steps: Annotated[int, Field(gt=0)] = 250_000
    """Agent steps over which epsilon falls linearly."""

    def schedule(self, start_steps: int = 0) -> optax.Schedule:
        """Epsilon as a function of agent steps; the decay begins after `start_steps`."""
        return optax.linear_schedule(self.epsilon_start, self.epsilon_end, self.decay_steps, start_steps)


class ReplayConfig(Section):
    """The replay."""

    capacity: Annotated[int, Field(gt=0)] = 1_000_000
    """Agent steps held, over all environments."""
    warmup_steps: Annotated[int, Field(gt=0)] = 20_000
    """Agent steps of random play before the first update."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    """Transitions per update."""
    n_step: Annotated[int, Field(gt=0)] = 1
    """Rewards summed before bootstrapping."""
    priority_exponent: Annotated[float, Field(ge=0, le=1)] | None = None
    """Exponent on an item's loss (0.5 of a squared error is |error|); none for uniform replay."""
    importance_exponent: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How far importance weights undo the priorities; 1 wholly."""
    importance_exponent_end: Annotated[float, Field(ge=0, le=1)] | None = None
    """Exponent at the end of training, reached linearly in rows of the replay: one for each agent step, and
    one more for each episode; none keeps it."""

    def check(self, num_envs: int) -> None:
        """Refuse a warm-up that leaves nothing to sample.

        Raises:
            Misfit: with the least that is wanted.
        """
        least = num_envs * (self.n_step + 2)
        if self.warmup_steps < least:
            reason = f"env.num_envs x (agent.replay.n_step + 2) = {least} or more is wanted"
            keys = ("agent.replay.n_step", "env.num_envs")
            raise Misfit("agent.replay.warmup_steps", self.warmup_steps, reason, *keys)

    def make(self, spec: EnvSpec, gamma: float, total_steps: int) -> Memory:
        """The replay for environments of that shape.

        Raises:
            CapacityError: where it is too small for them.
        """
        end = self.importance_exponent_end
        return replay.replay(
            spec,
            capacity=self.capacity,
            batch_size=self.batch_size,
            gamma=gamma,
            n_step=self.n_step,
            priority_exponent=self.priority_exponent,
            importance_exponent=optax.linear_schedule(
                self.importance_exponent, self.importance_exponent if end is None else end, total_steps
            ),
        )


def squared_norm(grads: Params) -> jax.Array:
    """Sum of the squares of all of a gradient's numbers."""
    # Each part's dot product with itself: its square would be written to memory before it is summed.
    return jnp.asarray(sum(jnp.vdot(x, x) for x in jax.tree.leaves(grads)))


def update_metrics(loss: jax.Array, value: jax.Array, fit: heads.SupportFit, grads: Params) -> Metrics:
    """The metrics that every agent reports of an update."""
    return {"loss": loss, "value": value, **fit._asdict(), "grad_norm": jnp.sqrt(squared_norm(grads))}


class Algorithm(NamedTuple):
    """What an agent's config builds, for one seed."""

    agent: Agent
    memory: Memory
    warmup_steps: int  # Agent steps before the first update.
    updates_per_iteration: int  # Calls of `agent.update` after each rollout.
    memory_bytes: int  # Of the memory.
    metrics: tuple[str, ...] = ()  # Names of what `agent.update` reports beside `update_metrics`.
