"""Training on a host environment, which is stepped while the device runs the updates."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn.loop.parts import (
    NO_EXPERIENCE,
    Chunk,
    Experience,
    Halt,
    RunState,
    Schedule,
    checkpoint_due,
    compiled,
    empty_trajectory,
    experience_of,
    initial_timestep,
    merged,
    metrics_of,
    updates_of,
)
from valuelearn.loop.placement import Division, in_parts, mesh_for, place, put
from valuelearn.random_keys import host_seed
from valuelearn.types import Agent, Array, HostEnv, LearnerState, Memory, Metrics, Trajectory


def initial_host(agent: Agent, env: HostEnv, memory: Memory, seed: int) -> Callable[[], RunState]:
    """Makes the state before the first step; the environment's own first observation comes later."""
    obs = initial_timestep(env.spec).obs

    def init() -> RunState:
        key, init_key = jax.random.split(jax.random.key(seed))
        return RunState(agent.init(init_key, obs), memory.init(), None, obs, key, jnp.int32(0))

    return init


def _cut(trajectory: Trajectory) -> tuple[Trajectory, np.ndarray]:
    """The trajectory with every episode that goes on truncated at its last step, and bool[E] which did."""
    step = trajectory.step
    last = step.last.copy()
    goes_on = step.valid[-1] & ~last[-1]
    last[-1] |= goes_on
    return trajectory._replace(step=step._replace(last=last)), goes_on


def _metrics(state: RunState, experience: Experience, metrics: list[Metrics]) -> dict[str, np.ndarray]:
    """The metrics of a chunk from those of its iterations, f64[1]."""
    mean = jax.tree.map(lambda *x: np.mean(x), *metrics) if metrics else {}
    return {name: x[None] for name, x in metrics_of(state, experience, mean).items()}


def train_host(
    agent: Agent,
    env: HostEnv,
    memory: Memory,
    schedule: Schedule,
    seed: int,
    start: RunState | None = None,
    stopping: Callable[[], bool] = lambda: False,
    division: Division = Division(),
) -> Iterator[Chunk]:
    """Train one seed on a host environment, a chunk at a time.

    The updates that follow an iteration are made while the next one is collected, those of a chunk's last
    one before the chunk is given out: it has learnt as far as in the compiled loop.

    Over several devices what is remembered of the environments, and batches or critics, lie in parts.

    `start` is the state of an earlier chunk at which a checkpoint was due, to go on from; its
    buffers are taken. Once `stopping` answers True the chunk under way ends and is the last, with a
    checkpoint due, for which episodes are cut as the uninterrupted run would not have cut them.
    """
    mesh = mesh_for(1, division.devices)
    memory, initial = in_parts(memory, mesh, division), initial_host(agent, env, memory, seed)
    placed = place(jax.eval_shape(initial), mesh, division, seeds=False)
    state = jax.jit(initial, out_shardings=placed)() if start is None else put(start, placed)
    learner, memory_state, key, env_steps = state.learner, state.memory, state.key, int(state.env_steps)
    obs = env.reset(host_seed(seed, env_steps))

    def act(learner: LearnerState, obs: Array, key: jax.Array, index: Array, env_steps: Array) -> jax.Array:
        return agent.act(learner, obs, jax.random.fold_in(key, index), env_steps)

    def split(key: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jax.random.split(key, 3))

    empty = jax.eval_shape(lambda: empty_trajectory(env.spec, schedule.steps_per_iteration))
    act, seconds = compiled(act, learner, obs, key, 0, 0, donate=())
    split, more = compiled(split, key, donate=())
    add, and_more = compiled(memory.add, memory_state, empty, donate=(0,), out=placed.memory)
    # Later actions of an iteration are those of the learner before the updates that are made meanwhile.
    taken = (0, 1) if schedule.steps_per_iteration == 1 else (1,)
    out = (placed.learner, placed.memory, None, None)
    learn, and_most = compiled(
        updates_of(agent, memory),
        learner,
        memory_state,
        key,
        schedule.updates_per_iteration,
        donate=taken,
        out=out,
    )
    pending_compile = seconds + more + and_more + and_most

    # On a CPU JAX runs what one thread asks for in turn: asked for here, actions would wait for the updates.
    elsewhere = ThreadPoolExecutor(1)

    def collect(
        action: jax.Array, learner: LearnerState, obs: Array, key: jax.Array, env_steps: int
    ) -> tuple:
        steps = []
        for index in range(schedule.steps_per_iteration):
            if index:
                action = elsewhere.submit(act, learner, obs, key, index, env_steps).result()
            step = env.step(chosen := np.asarray(action))
            steps.append(Trajectory(obs, chosen, step))
            obs, env_steps = step.obs, env_steps + int(step.valid.sum())
        return jax.tree.map(lambda *x: np.stack(x), *steps), obs, env_steps

    def updated(update_key: jax.Array) -> tuple[LearnerState, Any, Halt]:
        after, remembered, update_metrics, halt = learn(
            learner, memory_state, update_key, schedule.updates_per_iteration
        )
        metrics.append(update_metrics)
        return after, remembered, halt

    def refusal() -> Chunk:
        state = RunState(learner, memory_state, None, obs, key, np.int32(env_steps))
        refused = jax.tree.map(lambda x: x[None], jax.jit(memory.sample)(memory_state, halt.key))
        found = _metrics(state, experience, metrics)
        return Chunk(state, found, pending_compile, checkpoint=False, exact=False, refused=refused)

    halt, waiting = Halt(jnp.bool_(False), key), None  # `waiting` is the key of updates yet to be made.
    chunk_start, experience = env_steps, NO_EXPERIENCE
    metrics: list[Metrics] = []
    while env_steps < schedule.total_steps:
        key, collect_key, update_key = split(key)
        acting, action = learner, act(learner, obs, collect_key, 0, env_steps)
        if waiting is not None:
            learner, memory_state, halt = updated(waiting)
        waiting = update_key if env_steps >= schedule.warmup_steps else None
        trajectory, obs, env_steps = collect(action, acting, obs, collect_key, env_steps)
        experience = merged(experience, experience_of(trajectory.step, np), np)
        if halt.halted:  # Waits for the updates, as the next action would.
            yield refusal()
            return
        stop = stopping() and env_steps < schedule.total_steps
        whole = env_steps - chunk_start >= schedule.chunk_steps or env_steps >= schedule.total_steps
        due = whole and checkpoint_due(schedule, chunk_start, env_steps)
        cut = None
        if due or stop:
            trajectory, cut = _cut(trajectory)
            obs = env.reset(host_seed(seed, env_steps))
        memory_state = add(memory_state, trajectory)
        if whole or stop:
            if waiting is not None:
                learner, memory_state, halt = updated(waiting)
                waiting = None
            if halt.halted:
                yield refusal()
                return
            state = RunState(learner, memory_state, None, obs, key, np.int32(env_steps))
            found = _metrics(state, experience, metrics)
            yield Chunk(state, found, pending_compile, checkpoint=due or stop, exact=due, cut=cut)
            pending_compile, chunk_start = 0.0, env_steps
            experience, metrics = NO_EXPERIENCE, []
        if stop:
            return
