"""The few types that every part shares, and the legend of shapes.

Shapes are written `[B, A, N]`: B batch, T time, E environments, A actions, N size of a
value head's output (atoms, bins, quantiles, or 1), m coordinates of a vector reward and its
stock, D numbers of a continuous action. `...` stands for any leading axes. Where an episode
carries a stock, every `obs` is a `Stocked`.

Words: `obs action reward discount next_obs value out target`. A `discount` of 0 means the
episode *terminated*; a time limit (`last` with a discount of 1) bootstraps.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Array = Any  # A jax.Array inside compiled functions, a numpy array where the host steps.
Params = Any  # A pytree of arrays.
Metrics = dict[str, jax.Array]


class Stocked(NamedTuple):
    """An observation, and what its episode has obtained and is asked for."""

    obs: Array  # [B, ...] what the environment shows.
    stock: Array  # f32[B, K] the stock's m coordinates, then what else the episode is asked for.


class EnvSpec(NamedTuple):
    """What an agent and a replay must know of an environment.

    Where `frame_stack` is above 1 the last axis of `obs` holds that many frames, the newest
    last, and a replay stores each frame once.
    """

    obs_shape: tuple[int, ...]
    obs_dtype: np.dtype
    num_actions: int  # 0 where actions are continuous.
    num_envs: int
    frame_stack: int = 1
    frames_per_step: int = 1  # Emulator frames in one agent step: the unit of `env_frames`.
    reward_size: int = 0  # Coordinates m of a reward; 0 for a scalar.
    stock_size: int = 0  # Numbers K that an episode carries beside its observations; 0 for none.
    action_size: int = (
        0  # Numbers D of a continuous action, each within [-1, 1]; 0 where actions are counted.
    )

    @property
    def action_shape(self) -> tuple[int, ...]:
        """The shape of one action: (), (D,)."""
        return (self.action_size,) if self.action_size else ()

    @property
    def action_dtype(self) -> np.dtype:
        """The type of an action's numbers."""
        return np.dtype(np.float32 if self.action_size else np.int32)

    @property
    def bytes_per_obs(self) -> int:
        """Bytes of one whole observation."""
        return math.prod(self.obs_shape) * self.obs_dtype.itemsize


class Timestep(NamedTuple):
    """The answer of an environment to one action, free of any autoreset convention."""

    next_obs: Array  # [E, ...] the true next observation, never that of a reset.
    obs: Array  # [E, ...] what the next action is chosen on: a first one after `last`.
    reward: Array  # f32[E], [E, m] what the agent learns from (clipped where the protocol says so).
    discount: Array  # f32[E] 0 where the episode terminated, otherwise 1.
    last: Array  # bool[E] the episode ended, by termination or by truncation.
    valid: Array  # bool[E] False where the environment ignored the action to reset itself.
    episode_return: Array  # f32[E] undiscounted, unclipped return so far (of vectors the sum of
    # coordinates); whole where `last`.


class Trajectory(NamedTuple):
    """Consecutive steps of E environments, `[T, E, ...]` each."""

    obs: Array
    action: Array
    step: Timestep


class Transition(NamedTuple):
    """A batch to learn from."""

    obs: Array  # [B, ...]
    action: jax.Array  # i32[B], f32[B, D]
    reward: jax.Array  # f32[B], [B, m] discounted sum over the n steps.
    discount: jax.Array  # f32[B] gamma^n, 0 only where the episode terminated.
    next_obs: Array  # [B, ...] the true observation n steps on.
    next_action: jax.Array | None = None  # f32[B, D] taken there, of recorded transitions.
    return_to_go: jax.Array | None = None  # f32[B] discounted from here on, of recorded transitions.
    age: jax.Array | None = None  # u16[B] steps since the episode began, of replayed transitions.
    imagined: jax.Array | None = None  # f32[B, L, M, D] M draws of what each member of a model expects.


class Sample(NamedTuple):
    """A batch drawn from a replay, with what is needed to correct and re-prioritise it."""

    transition: Transition
    weight: jax.Array  # f32[B] importance weight.
    index: jax.Array  # type: ignore[assignment]  # i32[B] where the replay holds them.


class LearnerState(NamedTuple):
    """Every field of a learner."""

    params: Params
    target_params: Params
    opt_state: Any
    key: jax.Array
    updates: jax.Array  # i32[]


class Network(NamedTuple):
    """`apply(params, obs, key) -> out [B, A, N]`, or of a critic `apply(params, obs, action) -> [B, N]`.

    `key` draws the fractions of an implicit-quantile network; without one they are fixed
    midpoints. Other networks ignore it. Where a network of one output knows how, `with_slopes` gives
    out [B, 1] with its derivatives [B, F] by all inputs laid side by side, cheap to differentiate again.
    """

    init: Callable[..., Params]
    apply: Callable[..., jax.Array]
    with_slopes: Callable[..., tuple[jax.Array, jax.Array]] | None = None


class Agent(NamedTuple):
    """A bundle of pure functions; a learning algorithm is nothing more.

    `experience` is a `Sample` for agents that replay and a `Trajectory` for agents that learn
    from the rollout just made. `priority` is f32[B], the size of each item's loss. `value` is f32[B],
    what the greedy action is held to be worth, and `values` f32[K, B] what by each critic.

    `update(learner, experience, agree) -> learner, metrics, priority` makes no update with a number that is
    not finite, its own or that of another seed, as `agree` (see `valuelearn.guard`) tells: the learner comes
    back as it was, where otherwise its `updates` have grown.
    """

    init: Callable[[jax.Array, jax.Array], LearnerState]
    act: Callable[[LearnerState, jax.Array, jax.Array, jax.Array], jax.Array]  # state, obs, key, env_steps
    update: Callable[..., tuple[LearnerState, Metrics, jax.Array]]
    greedy: Callable[[LearnerState, jax.Array], jax.Array]
    value: Callable[[LearnerState, jax.Array], jax.Array] | None = None
    values: Callable[[LearnerState, jax.Array], jax.Array] | None = None


class Memory(NamedTuple):
    """Where experience waits to be learnt from: a replay, or just the last rollout."""

    init: Callable[[], Any]
    add: Callable[[Any, Trajectory], Any]
    sample: Callable[[Any, jax.Array], Any]
    reprioritise: Callable[[Any, Any, jax.Array], Any]  # state, experience, priority of each item


class FunctionalEnv(NamedTuple):
    """E copies of an environment as pure functions, to be stepped inside a compiled loop.

    A copy is reset within the step that ends its episode, so every step is valid.
    """

    spec: EnvSpec
    init: Callable[[jax.Array], tuple[Any, Array]]  # key -> state, obs [E, ...]
    step: Callable[[Any, jax.Array, jax.Array], tuple[Any, Timestep]]  # state, action [E], [E, D], key


class HostEnv(Protocol):
    """E copies of an environment that run outside JAX, in numpy."""

    spec: EnvSpec

    def reset(self, seed: int) -> Array:
        """First observations [E, ...]; the seed fixes everything that follows."""

    def step(self, action: np.ndarray) -> Timestep:
        """One step of every copy, with numpy arrays in the fields."""

    def render(self) -> np.ndarray:
        """A picture [H, W, 3] u8 of the first copy."""

    def close(self) -> None:
        """Free what the environment holds."""
