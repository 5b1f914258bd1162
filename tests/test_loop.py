"""Both training loops: exact counts, metrics that can be recounted, one compilation per phase."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import dqn, pqn
from agents.dqn import DQNConfig
from agents.pqn import PQNConfig
from valuelearn import loop
from valuelearn.loop import Schedule
from valuelearn.types import EnvSpec, FunctionalEnv, Timestep

pytestmark = pytest.mark.usefixtures("quick_compilation")

LENGTHS = np.array(
    [3, 5, 7]
)  # Of the copies' episodes. A copy with episodes of length L gets L rewards of L.
SPEC = EnvSpec((8,), np.dtype(np.float32), 2, num_envs=3)
COMPILATIONS: list[str] = []


@pytest.fixture(autouse=True, scope="module")
def listen():
    def listener(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            COMPILATIONS.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    jax.config.update("jax_disable_most_optimizations", True)  # Most of the time here is compilation.
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.monitoring.unregister_event_duration_listener(listener)


def observe(phase, np=np):
    return np.eye(8, dtype=np.float32)[phase]


def functional_env():
    def step(phase, action, key):
        after = phase + 1
        last = after == LENGTHS
        reward = jnp.asarray(LENGTHS, jnp.float32)
        following = jnp.where(last, 0, after)
        # The first copy's episodes are truncated, the others terminate.
        discount = 1.0 - (last & (jnp.arange(3) > 0))
        flag = jnp.ones(3, bool)
        return following, Timestep(
            observe(after, jnp), observe(following, jnp), reward, discount, last, flag, reward * after
        )

    def init(key):
        return jnp.zeros(3, jnp.int32), observe(jnp.zeros(3, jnp.int32), jnp)

    return FunctionalEnv(SPEC, init, step)


class Host:
    """The same in numpy; where it `waits`, an episode's end costs a step that only resets."""

    spec = SPEC

    def __init__(self, waits):
        self.waits, self.steps = waits, []

    def reset(self, seed):
        self.phase, self.resetting = np.zeros(3, int), np.zeros(3, bool)
        return observe(self.phase)

    def step(self, action):
        valid = ~self.resetting
        after = np.where(valid, self.phase + 1, 0)
        last = valid & (after == LENGTHS)
        self.resetting = last & self.waits
        self.phase = np.where(last & (not self.waits), 0, after)
        discount = np.float32(1 - (last & (np.arange(3) > 0)))
        total = np.float32(LENGTHS * after)
        reward = np.float32(LENGTHS * valid)
        self.steps.append(Timestep(observe(after), observe(self.phase), reward, discount, last, valid, total))
        return self.steps[-1]


NETWORK = {"torso": "mlp", "hidden": (16,), "layer_norm": True}


@functools.cache
def algorithm(name, total_steps, collect_steps):
    if name == "dqn":
        replay = {"capacity": 120, "warmup_steps": 24, "batch_size": 8, "n_step": 3, "priority_exponent": 0.5}
        fields = DQNConfig(
            head="hl_gauss",
            network=NETWORK,
            replay=replay,
            update_period_steps=4,
            exploration={"decay_steps": 50},
        )
        config, module = DQNConfig.model_validate_json(fields.model_dump_json()), dqn
    else:
        fields = PQNConfig(network=NETWORK, epochs=1, minibatches=2)
        config, module = PQNConfig.model_validate_json(fields.model_dump_json()), pqn
    return module.make(config, SPEC, total_steps, collect_steps)


TOTAL, COLLECT, CHUNK = 132, 4, 48  # Iterations of 12 steps: 2 of warm-up, then chunks of 4, 4 and 1.


def chunks_of(kind, name="dqn", seeds=(0,), total=TOTAL, checkpoint_steps=None, **options):
    built = algorithm(name, total, COLLECT)
    sizes = (total, built.warmup_steps, COLLECT, built.updates_per_iteration, CHUNK, checkpoint_steps)
    if kind == "functional":
        train, env, which = loop.train_functional, functional_env(), list(seeds)
    else:
        train, env, which = loop.train_host, Host(waits=kind == "waiting host"), seeds[0]
    return train(built.agent, env, built.memory, Schedule(*sizes), which, **options)


def train(kind, name="dqn", seeds=(0,), total=TOTAL):
    """The chunks, with their learners' parameters copied before the next chunk takes the state."""
    for chunk in chunks_of(kind, name, seeds, total):
        yield chunk, jax.tree.map(np.array, chunk.state.learner.params), len(COMPILATIONS)


@functools.cache
def trained(kind, name="dqn", seeds=(0,)):
    """The chunks of a run that tests share."""
    return list(train(kind, name, seeds))


def episodes_between(first, end):
    """Count and summed return of the episodes that end in vector steps first + 1 to end."""
    counts = end // LENGTHS - first // LENGTHS
    return counts.sum(), (counts * LENGTHS**2).sum()


@pytest.mark.parametrize("name", ["dqn", "pqn"])
@pytest.mark.parametrize("kind", ["functional", "host"])
def test_steps_updates_and_episodes_are_counted(kind, name):
    chunks = [chunk.metrics for chunk, *_ in trained(kind, name)]
    if name == "dqn":
        # The host loop closes a chunk at its size, also across the end of the warm-up.
        steps = [24, 72, 120, 132] if kind == "functional" else [48, 96, 132]
        updates = [3 * max(at - 24, 0) // 12 for at in steps]
    else:
        steps, updates = [48, 96, 132], [8, 16, 22]
    assert [int(m["env_steps"].item()) for m in chunks] == steps
    assert [int(m["updates"].item()) for m in chunks] == updates
    for before, at, metrics in zip([0, *steps], steps, chunks, strict=False):
        count, total = episodes_between(before // 3, at // 3)
        assert metrics["episodes"].item() == count
        np.testing.assert_allclose(metrics["episode_return"].item() * count, total, rtol=1e-6)
        learns = name == "pqn" or at > 24
        assert ("loss" in metrics) == learns and (not learns or np.isfinite(metrics["loss"]).all())


@pytest.mark.parametrize("kind", ["functional", "host"])
def test_no_update_learns_from_a_rollout_yet_to_be_collected(kind):
    """Not at the start, and not where a run goes on without the rollout that it had."""
    built = algorithm("pqn", 96, COLLECT)

    def update(learner, rollout, agree):
        learner, metrics, priority = built.agent.update(learner, rollout, agree)
        return learner, metrics | {"collected": rollout.step.valid.mean()}, priority

    agent = built.agent._replace(update=update)

    def chunks(total, warmup_steps, start=None):
        schedule = Schedule(total, warmup_steps, COLLECT, built.updates_per_iteration, CHUNK)
        if kind == "functional":
            return loop.train_functional(agent, functional_env(), built.memory, schedule, [0], start)
        return loop.train_host(agent, Host(waits=False), built.memory, schedule, 0, start)

    (first,) = chunks(48, warmup_steps=0)
    nothing = jax.tree.map(jnp.zeros_like, first.state.memory)
    (rest,) = chunks(96, warmup_steps=48, start=first.state._replace(memory=nothing))
    assert [chunk.metrics["collected"].item() for chunk in (first, rest)] == [1.0, 1.0]
    assert [chunk.metrics["updates"].item() for chunk in (first, rest)] == [8, 16]


def test_a_warm_up_changes_no_parameter():
    (_, first, _), *rest = trained("functional")
    assert rest
    built = algorithm("dqn", TOTAL, COLLECT)
    state = jax.jit(lambda key: loop.init_functional(built.agent, functional_env(), built.memory, key))(
        jax.random.key(0)
    )
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y[0]), state.learner.params, first)
    assert any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (first, rest[0][1])), strict=True))


def test_a_host_environment_that_waits_to_reset():
    """Steps that only reset are neither counted nor learnt from."""
    env = Host(waits=True)
    built = algorithm("dqn", TOTAL, COLLECT)
    schedule = Schedule(TOTAL, built.warmup_steps, COLLECT, built.updates_per_iteration, CHUNK)
    chunks = list(loop.train_host(built.agent, env, built.memory, schedule, 0))
    valid = sum(step.valid.sum() for step in env.steps)
    assert TOTAL <= valid < TOTAL + 12 and len(env.steps) > TOTAL / 3
    assert chunks[-1].metrics["env_steps"].item() == valid
    ended = np.concatenate([step.episode_return[step.last] for step in env.steps])
    assert sum(c.metrics["episodes"].item() for c in chunks) == len(ended)
    total = sum(c.metrics["episodes"].item() * c.metrics["episode_return"].item() for c in chunks)
    np.testing.assert_allclose(total, ended.sum(), rtol=1e-6)


def test_a_host_environment_is_stepped_during_the_updates():
    built, env, times = algorithm("dqn", TOTAL, COLLECT), Host(waits=False), []

    def timed_step(action, step=env.step):
        times.append(time.perf_counter())
        return step(action)

    def slow(learner, sample, agree):
        square = jnp.full((64, 64), 1 / 64) + learner.updates  # Some 0.2 s.
        wasted = jax.lax.fori_loop(0, 10_000, lambda _, x: jnp.sin(x @ square), square)
        learner, metrics, priority = built.agent.update(learner, sample, agree)
        return learner, metrics | {"wasted": wasted.sum()}, priority

    env.step = timed_step
    schedule = Schedule(60, built.warmup_steps, COLLECT, built.updates_per_iteration, 60)
    list(loop.train_host(built.agent._replace(update=slow), env, built.memory, schedule, 0))
    after_last_step = time.perf_counter() - times[-1]
    between_last_steps = times[-1] - times[-1 - COLLECT]  # Those of two iterations.
    # The updates of the last two iterations come after it, those of one between.
    assert after_last_step > 1.4 * between_last_steps


@pytest.mark.parametrize("kind", ["functional", "host"])
def test_the_same_seed_is_the_same_run(kind):
    first, second, other = trained(kind), list(train(kind)), trained(kind, seeds=(1,))
    for (a, a_params, _), (b, b_params, _) in zip(first, second, strict=True):
        jax.tree.map(np.testing.assert_array_equal, (a.metrics, a_params), (b.metrics, b_params))
    assert first[-1][0].metrics["loss"] != other[-1][0].metrics["loss"]


@pytest.mark.parametrize("name", ["dqn", "pqn"])
def test_seeds_together_are_the_runs_alone(name):
    """And they are spread over the devices."""
    both, *alone = (trained("functional", name, seeds) for seeds in ((0, 1), (0,), (1,)))
    assert both[0][0].state.env_steps.sharding.device_set == set(jax.devices())
    for index, runs in enumerate(alone):
        for (a, a_params, _), (b, b_params, _) in zip(both, runs, strict=True):
            for metric in b.metrics:
                np.testing.assert_allclose(
                    a.metrics[metric][index], b.metrics[metric][0], rtol=1e-3, atol=1e-4
                )
            jax.tree.map(
                lambda x, y, i=index: np.testing.assert_allclose(x[i], y[0], atol=1e-4), a_params, b_params
            )


def test_devices_take_equal_shares():
    assert [loop.mesh_for(seeds).size for seeds in (1, 2, 3, 4)] == [1, 2, 1, 2]


@pytest.mark.parametrize("kind", ["functional", "host"])
def test_nothing_is_compiled_twice(kind):
    """The last chunk is shorter; on a functional environment one program serves warm-up and learning."""
    chunks = list(train(kind, total=228))
    counts, learning = [count for *_, count in chunks], [c.metrics["updates"].item() > 0 for c, *_ in chunks]
    first = 0 if kind == "functional" else learning.index(True)
    assert len(counts) - first >= 3 and counts[first:] == [counts[first]] * (len(counts) - first)
    assert counts[first] > 0  # Compilations are seen.
    seconds = [c.compile_seconds for c, *_ in chunks]
    assert seconds[first] > 0 and not any(seconds[first + 1 :])


@pytest.mark.parametrize("kind", ["functional", "host"])
def test_the_replay_is_never_copied(kind):
    """Each chunk is given the buffers of the one before."""
    previous = None
    for chunk, *_ in train(kind):
        if previous is not None:
            assert all(x.is_deleted() for x in jax.tree.leaves(previous))
        previous = chunk.state.memory
    assert not any(x.is_deleted() for x in jax.tree.leaves(previous))


def copied(state):
    """The state, as the next chunk takes the buffers of the original."""
    return jax.tree.map(jnp.copy, state)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("functional", "dqn"), ("functional", "pqn"), ("host", "dqn"), ("host", "pqn"), ("waiting host", "dqn")],
)
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_run(kind, name):
    options = {"name": name, "total": 300, "checkpoint_steps": 60}
    whole = [(chunk, copied(chunk.state)) for chunk in chunks_of(kind, **options)]
    due = [index for index, (chunk, _) in enumerate(whole) if chunk.checkpoint]
    assert len(due) >= 3 and all(whole[index][0].exact for index in due)
    for index in due:
        rest = chunks_of(kind, **options, start=copied(whole[index][1]))
        for (chunk, state), again in zip(whole[index + 1 :], rest, strict=True):
            assert_equal(chunk.metrics, again.metrics)
            numbers = (state._replace(key=0), again.state._replace(key=0))
            learners = (x.learner._replace(key=jax.random.key_data(x.learner.key)) for x in numbers)
            assert_equal(*(x._replace(learner=y) for x, y in zip(numbers, learners, strict=True)))


def test_checkpoints_cut_the_episodes_of_a_host_environment():
    """The replay sees truncated episodes; the metrics count those alone that the environment ended."""
    first, second = chunks_of("host", total=72, checkpoint_steps=48)
    assert first.checkpoint and not second.checkpoint  # At the end the run is over.
    # 16 vector steps before the checkpoint, 8 after it: the episodes begin anew there.
    counts = [chunk.metrics["episodes"].item() for chunk in (first, second)]
    assert counts == [(16 // LENGTHS).sum(), (8 // LENGTHS).sum()]
    state = jax.tree.map(np.array, second.state.memory)
    for copy, length in enumerate(LENGTHS):
        rows = np.arange(state.written[copy])
        last, discount = (x.reshape(len(LENGTHS), -1)[copy, rows] for x in (state.last, state.discount))
        # One row more than the episode has steps is that of its final observation.
        lengths = np.diff(np.flatnonzero(last), prepend=-2) - 1
        assert lengths.tolist() == [length] * (16 // length) + [16 % length] + [length] * (8 // length)
        terminated = (last & (discount == 0)).sum()
        assert terminated == (0 if copy == 0 else 16 // length + 8 // length)


@pytest.mark.parametrize("kind", ["functional", "host"])
def test_a_run_stops_when_asked_and_can_go_on(kind):
    asked = iter([False, True])
    first = list(chunks_of(kind, total=240, stopping=lambda: next(asked)))
    assert [chunk.checkpoint for chunk in first] == ([False, True] if kind == "functional" else [True])
    # A functional run stops between chunks and loses nothing; a host run stops after its iteration.
    assert first[-1].exact == (kind == "functional")
    at = first[-1].metrics["env_steps"].item()
    rest = list(chunks_of(kind, total=240, start=first[-1].state))
    assert at < rest[0].metrics["env_steps"].item() and rest[-1].metrics["env_steps"].item() == 240
    if kind == "functional":
        whole = list(chunks_of(kind, total=240))
        for chunk, again in zip(whole, first + rest, strict=True):
            assert_equal(chunk.metrics, again.metrics)
