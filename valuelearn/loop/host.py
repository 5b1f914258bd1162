"""Training on a host environment, which is stepped while the device runs the updates."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelearn import hosts
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
from valuelearn.loop.placement import Division, by_copy, in_parts, joined, mesh_for, own_part, place, put
from valuelearn.random_keys import host_seed
from valuelearn.types import (
    Agent,
    Array,
    EnvSpec,
    HostEnv,
    LearnerState,
    Memory,
    Metrics,
    Timestep,
    Trajectory,
)


def _of_all_hosts(spec: EnvSpec) -> EnvSpec:
    """What an agent must know of the environments of all hosts, which have as many copies each."""
    return spec._replace(num_envs=spec.num_envs * jax.process_count())


def initial_host(agent: Agent, env: HostEnv, memory: Memory, seed: int) -> Callable[[], RunState]:
    """Makes the state before the first step; the environment's own first observation comes later."""
    obs = initial_timestep(_of_all_hosts(env.spec)).obs

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


def _of_all(step: Timestep) -> tuple[Experience, int]:
    """What these steps brought to the environments of all hosts, and how many of them counted."""
    own = np.stack([*experience_of(step, np), step.valid.sum()]).astype(np.float32)
    each = hosts.from_each(own)  # In one array: each that hosts pass on takes a round of its own.
    experiences = (Experience(*numbers[:-1]) for numbers in each)
    return functools.reduce(lambda one, other: merged(one, other, np), experiences), int(each[:, -1].sum())


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
    one before the chunk is given out: it has learnt as far as in the compiled loop. On several hosts, which
    have to ask for everything in one order, a CPU makes updates and chooses actions by turns.

    Over several devices what is remembered of the environments, and batches or critics, lie in parts. Of
    several hosts each has such an environment, and its copies follow those of the host before.

    `start` is the state of an earlier chunk at which a checkpoint was due, to go on from; its
    buffers are taken. Once `stopping` answers True the chunk under way ends and is the last, with a
    checkpoint due, for which episodes are cut as the uninterrupted run would not have cut them.
    """
    mesh, spec = mesh_for(1, division.devices), _of_all_hosts(env.spec)
    memory, initial = in_parts(memory, mesh, division), initial_host(agent, env, memory, seed)
    placed = place(jax.eval_shape(initial), mesh, division, seeds=False)
    state = jax.jit(initial, out_shardings=placed)() if start is None else put(start, placed)
    learner, memory_state, key, env_steps = state.learner, state.memory, state.key, int(state.env_steps)

    def reset() -> Array:
        return env.reset(host_seed(seed, env_steps) + jax.process_index() * env.spec.num_envs)

    def act(learner: LearnerState, obs: Array, key: jax.Array, index: Array, env_steps: Array) -> jax.Array:
        # Exploration counts the steps of this iteration as if no copy needed one to reset itself.
        env_steps = env_steps + index * spec.num_envs
        return agent.act(learner, obs, jax.random.fold_in(key, index), env_steps)

    def split(key: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jax.random.split(key, 3))

    obs = reset()
    whole = placed.env_steps
    act, seconds = compiled(act, learner, joined(obs, mesh), key, 0, 0, donate=(), out=by_copy(mesh))
    split, more = compiled(split, key, donate=(), out=whole)
    empty = jax.device_get(empty_trajectory(env.spec, schedule.steps_per_iteration))
    add, and_more = compiled(memory.add, memory_state, joined(empty, mesh, 1), donate=(0,), out=placed.memory)
    del empty
    # Later actions of an iteration are those of the learner before the updates that are made meanwhile.
    taken = (0, 1) if schedule.steps_per_iteration == 1 else (1,)
    out = (placed.learner, placed.memory, whole, whole)
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

    def collect(action: jax.Array, learner: LearnerState, obs: Array, key: jax.Array) -> tuple:
        steps = []
        for index in range(schedule.steps_per_iteration):
            if index:
                ask = functools.partial(act, learner, joined(obs, mesh), key, index, env_steps)
                action = ask() if jax.process_count() > 1 else elsewhere.submit(ask).result()
            step = env.step(chosen := own_part(action, mesh))
            steps.append(Trajectory(obs, chosen, step))
            obs = step.obs
        return jax.tree.map(lambda *x: np.stack(x), *steps), obs

    def updated(update_key: jax.Array) -> tuple[LearnerState, Any, Halt]:
        after, remembered, update_metrics, halt = learn(
            learner, memory_state, update_key, schedule.updates_per_iteration
        )
        metrics.append(update_metrics)
        return after, remembered, halt

    def now() -> RunState:
        counted = put(np.int32(env_steps), placed.env_steps)
        return RunState(learner, memory_state, None, joined(obs, mesh), key, counted)

    def refusal() -> Chunk:
        def batch(memory_state: Any, key: jax.Array) -> Any:
            return jax.tree.map(lambda x: x[None], memory.sample(memory_state, key))

        state, refused = now(), jax.jit(batch)(memory_state, halt.key)
        found = _metrics(state, experience, metrics)
        return Chunk(state, found, pending_compile, checkpoint=False, exact=False, refused=refused)

    halt, waiting = Halt(jnp.bool_(False), key), None  # `waiting` is the key of updates yet to be made.
    chunk_start, experience = env_steps, NO_EXPERIENCE
    metrics: list[Metrics] = []
    while env_steps < schedule.total_steps:
        key, collect_key, update_key = split(key)
        acting, action = learner, act(learner, joined(obs, mesh), collect_key, 0, env_steps)
        if waiting is not None:
            learner, memory_state, halt = updated(waiting)
        waiting = update_key if env_steps >= schedule.warmup_steps else None
        trajectory, obs = collect(action, acting, obs, collect_key)
        brought, steps = _of_all(trajectory.step)
        experience, env_steps = merged(experience, brought, np), env_steps + steps
        if halt.halted:  # Waits for the updates, as the next action would.
            yield refusal()
            return
        stop = stopping() and env_steps < schedule.total_steps
        full = env_steps - chunk_start >= schedule.chunk_steps or env_steps >= schedule.total_steps
        due = full and checkpoint_due(schedule, chunk_start, env_steps)
        cut = None
        if due or stop:
            trajectory, cut = _cut(trajectory)
            obs = reset()
        memory_state = add(memory_state, joined(trajectory, mesh, 1))
        if full or stop:
            if waiting is not None:
                learner, memory_state, halt = updated(waiting)
                waiting = None
            if halt.halted:
                yield refusal()
                return
            state = now()
            found = _metrics(state, experience, metrics)
            yield Chunk(state, found, pending_compile, checkpoint=due or stop, exact=due, cut=cut)
            pending_compile, chunk_start = 0.0, env_steps
            experience, metrics = NO_EXPERIENCE, []
        if stop:
            return
