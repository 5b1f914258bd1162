"""What every test module shares."""

import gzip
import io
import os
import signal
import tempfile
import warnings

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import training
from envs import datasets
from tests import commands, recordings
from valuelearn import logs
from valuelearn.policies import epsilon_greedy
from valuelearn.types import Trajectory

with warnings.catch_warnings():  # rlax, an oracle of ours, rests on packages that lag behind JAX.
    warnings.simplefilter("ignore")
    import rlax  # noqa: F401

jax.config.update("jax_num_cpu_devices", 2)  # For even numbers of seeds to be spread over.
# XLA's older emitters of fused loops compile in half the time; processes that tests start have them, too.
_QUICK = "--xla_cpu_use_fusion_emitters=false"
if _QUICK not in os.environ.get("XLA_FLAGS", ""):  # The first process's.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_QUICK}".strip()

# No chance: a failure on one machine is a failure on all. Nor haste: a first call compiles.
_SLOW = [hypothesis.HealthCheck.too_slow]
_SAME = {"derandomize": True, "deadline": None, "suppress_health_check": _SLOW}
hypothesis.settings.register_profile("tests", **_SAME)
hypothesis.settings.register_profile("storm", **_SAME, max_examples=5_000)
hypothesis.settings.load_profile("tests")


def pytest_configure(config):
    """Keep all compiled programs until the end, for other workers and the processes that tests start, too."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return  # Somebody's own, or the first process's.
    folder = tempfile.TemporaryDirectory(prefix="compiled")
    config.add_cleanup(folder.cleanup)
    kept = {"jax_compilation_cache_dir": folder.name, "jax_persistent_cache_min_compile_time_secs": 0}
    for option, value in kept.items():
        jax.config.update(option, value)
        os.environ[option.upper()] = str(value)


@pytest.fixture(scope="module")
def quick_compilation():
    """Compile without most optimisations: where little is computed, that halves the time of tests."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def play_functional():
    """Trajectories [T, E] of random actions: `play_functional(env, steps)`."""

    def play(env, steps):
        def one(carry, key):
            state, obs = carry
            action_key, key = jax.random.split(key)
            nothing = jnp.zeros((env.spec.num_envs, *env.spec.action_shape), env.spec.action_dtype)
            action = epsilon_greedy(nothing, 1.0, env.spec, action_key)
            state, step = env.step(state, action, key)
            return (state, step.obs), Trajectory(obs, action, step)

        init_key, key = jax.random.split(jax.random.key(0))
        keys = jax.random.split(key, steps)
        return jax.tree.map(np.asarray, jax.jit(lambda: jax.lax.scan(one, env.init(init_key), keys)[1])())

    return play


@pytest.fixture
def call(capsys):
    """Run the command line to an exit code; gives what it printed."""

    def run(*arguments, code=0):
        commands.call(*arguments, code=code)
        return "".join(capsys.readouterr())

    return run


@pytest.fixture
def train(call, monkeypatch):
    """Train; with `stop_at` the process gets that signal once so many rows of timing are written."""

    def train(run, folder, *overrides, stop_at=None, number=signal.SIGINT):
        rows, timing = [], logs.RunFolder.timing

        def then_stop(self, row):
            timing(self, row)
            rows.append(row)
            if len(rows) == stop_at:
                signal.raise_signal(number)

        monkeypatch.setattr(logs.RunFolder, "timing", then_stop)
        command = ("train", *run, "evaluation.episodes=0", *overrides, "--run", folder)
        said = call(*command, code=0 if stop_at is None else 130)
        monkeypatch.setattr(logs.RunFolder, "timing", timing)
        return said

    return train


@pytest.fixture
def recorded(tmp_path):
    """A dataset of a pendulum."""
    datasets.save(recordings.played(300), tmp_path / "recorded.hdf5")
    return tmp_path / "recorded.hdf5"


@pytest.fixture
def train_in_two(monkeypatch):
    """A run that is cut off after so many rows of metrics, and goes on: `train_in_two(cfg, folder, rows)`."""

    class CutOff(Exception):
        pass

    def train(cfg, folder, rows):
        chunks, kept = training._chunks, []

        def until(*arguments):
            for chunk in chunks(*arguments):
                kept.append(None)
                yield chunk
                if len(kept) == rows:
                    raise CutOff

        monkeypatch.setattr(training, "_chunks", until)
        with pytest.raises(CutOff):
            training.train(cfg, folder, [], lambda said: None)
        monkeypatch.setattr(training, "_chunks", chunks)
        training.resume(folder, [], lambda said: None)

    return train


@pytest.fixture(scope="session")
def replay_logs(tmp_path_factory):
    """A folder with one checkpoint of noise as Atari's logged replays have them: 200 steps in 8 episodes."""
    folder, random = tmp_path_factory.mktemp("logged") / "replay_logs", np.random.default_rng(0)
    folder.mkdir()
    columns = {
        "$store$_observation": random.integers(1, 256, (200, 84, 84), np.uint8),
        "$store$_action": random.integers(0, 3, 200, np.int32),
        "$store$_reward": random.normal(size=200).astype(np.float32),
        "$store$_terminal": (np.arange(1, 201) % 25 == 0).astype(np.uint8),
        "add_count": np.array(200),
    }
    for name, array in columns.items():
        out = io.BytesIO()
        np.save(out, array, allow_pickle=False)
        (folder / f"{name}_ckpt.0.gz").write_bytes(gzip.compress(out.getvalue(), 1))
    return folder
