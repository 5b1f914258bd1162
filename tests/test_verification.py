"""Fingerprints, what runs can be held to by them, and checkpoints that were damaged."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import experiment, training
from benchmarks.kill import differences
from tests.test_training import COMPILED, HOST
from valuelearn import fingerprint
from valuelearn.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROW = 65_536


@pytest.fixture
def as_configured():
    """What a run's config changes of JAX's own, put back."""
    names = ("jax_default_prng_impl", "jax_default_matmul_precision")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def of(x):
    return fingerprint.hexadecimal(np.asarray(fingerprint.of_array(jnp.asarray(x))))


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.uint16, np.int32, np.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [1, 3, 8, ROW - 1, ROW, 4 * ROW, 4 * ROW + 3])
def test_any_bit_changes_a_fingerprint(dtype, size):
    chance = np.random.default_rng(0)
    x = chance.integers(0, 2, size).astype(dtype)
    found = {of(x)}
    bits = 1 if dtype is bool else 8 * x.dtype.itemsize
    for place in {0, size // 2, size - 1}:
        for bit in {0, bits - 1}:
            other = x.copy()
            raw = other.view(np.uint8)
            raw[place * x.dtype.itemsize + bit // 8] ^= 1 << bit % 8
            found.add(of(other))
    assert len(found) == 1 + len({0, size // 2, size - 1}) * len({0, bits - 1})


def test_a_fingerprint_knows_places_and_shapes_of_seeds():
    x = np.arange(3 * ROW, dtype=np.float32).reshape(2, -1)
    assert len({of(x), of(x[::-1]), of(x[:, ::-1]), of(np.roll(x, 1)), of(np.roll(x, ROW))}) == 5
    by_seed = jax.vmap(fingerprint.of_array)(jnp.asarray(x))
    assert [fingerprint.hexadecimal(each) for each in np.asarray(by_seed)] == [of(x[0]), of(x[1])]
    key = jax.random.key(3)
    assert fingerprint.texts({"a": key, "b": ()}) == {"a": of(jax.random.key_data(key))}


def test_fingerprints_take_no_memory_to_speak_of():
    """A replay may take all that there is."""
    for shape, dtype in (((100_001, 84 * 84), np.uint8), ((30_000_001,), np.float32)):
        program = jax.jit(fingerprint.of_array).lower(jax.ShapeDtypeStruct(shape, dtype)).compile()
        assert program.memory_analysis().temp_size_in_bytes < 10_000_000


@pytest.mark.parametrize("run", [COMPILED, HOST], ids=["compiled", "host"])
def test_a_bit_that_differs_is_found(train, call, tmp_path, run):
    """In a checkpoint that two runs share but for it, and in every row after it."""
    first, second = tmp_path / "first", tmp_path / "second"
    # Stopped where a checkpoint was due: elsewhere a host's episodes would be cut.
    train(run, first, "checkpoint.every_frames=512", stop_at=6)
    shutil.copytree(first, second)
    said = call("verify", first, second)
    assert "the same in every bit at " in said
    cfg = experiment.load_run(second)
    built = experiment.make(cfg)
    with Checkpoints(second / "checkpoints") as checkpoints:
        step = max(checkpoints.fingerprints())
        state, notes, _ = checkpoints.restore(training._to_save(cfg, training._state(cfg, built)))
    leaves, tree = jax.tree.flatten(state)
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(state)
    ]
    index = next(i for i, name in enumerate(names) if "params" in name and name.endswith("kernel"))
    planted = np.array(leaves[index])
    planted.reshape(-1).view(np.uint32)[7] ^= 1
    leaves[index] = jax.device_put(planted, leaves[index].sharding)
    shutil.rmtree(second / "checkpoints" / str(step))
    with Checkpoints(second / "checkpoints") as checkpoints:
        checkpoints.save(step, jax.tree.unflatten(tree, leaves), notes)
    said = call("verify", first, second, code=1)
    assert said == f"checkpoint of {step:,}: {names[index]} differs; all before is the same\n"
    for folder in (first, second):
        call("resume", folder)
    said = call("verify", first, second, code=1)
    row = int(re.match(r"seed 0, row of ([\d,]+): .* differs", said)[1].replace(",", ""))
    assert row > step


def test_two_runs_of_one_config_are_the_same(train, call, tmp_path):
    folders = [tmp_path / name for name in ("first", "second", "shorter", "other")]
    runs = ({}, {}, {"stop_at": 4}, {"overrides": ("agent.gamma=0.9",)})
    for folder, options in zip(folders, runs, strict=True):
        train(COMPILED, folder, *options.pop("overrides", ()), **options)
    assert differences(*folders[:2]) == 0
    rows = (folders[0] / "metrics.csv").read_text().splitlines()
    assert rows[0].endswith(",fingerprint") and len({row[-16:] for row in rows[1:]}) == len(rows) - 1
    assert "the same in every bit at 20 rows of metrics" in call("verify", *folders[:2])
    assert f"{folders[0]} left " in call("verify", folders[0], folders[2])
    said = call("verify", folders[0], folders[3], code=1)
    assert said.startswith("their configs differ in agent.gamma\nseed 0, row of 128: learner.")
    settings = json.loads((folders[0] / "versions.json").read_text())[0]
    assert (settings["prng"], settings["matmul_precision"]) == ("threefry2x32", "highest")


def test_without_determinism(train, call, tmp_path, as_configured):
    train(COMPILED, tmp_path / "run", "determinism=off", stop_at=3)
    call("resume", tmp_path / "run")
    assert not (tmp_path / "run" / "fingerprints.csv").exists()
    settings = json.loads((tmp_path / "run" / "versions.json").read_text())[0]
    assert (settings["prng"], settings["matmul_precision"]) == ("unsafe_rbg", "default")
    said = call("verify", tmp_path / "run", tmp_path / "run", code=2)
    assert said.endswith("it left no fingerprints, as with determinism=off\n")


def test_a_damaged_checkpoint_is_passed_over(train, call, tmp_path):
    every = "checkpoint.every_frames=256"
    train(COMPILED, tmp_path / "whole", every)
    train(COMPILED, tmp_path / "run", every, stop_at=7)
    kept = tmp_path / "run" / "checkpoints"
    newest, before = sorted(map(int, (path.name for path in kept.iterdir())), reverse=True)[:2]
    largest = max(
        (path for path in (kept / str(newest)).rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 4
    largest.write_bytes(data)
    said = call("resume", tmp_path / "run")
    assert f"{kept / str(newest)}: this checkpoint is damaged: " in said
    assert f"; the one before it is taken\nthe run goes on at frame {before:,}\n" in said
    assert differences(tmp_path / "run", tmp_path / "whole") == 0


def test_when_all_are_damaged(train, call, tmp_path):
    train(COMPILED, tmp_path / "run", stop_at=3)
    for place in (tmp_path / "run" / "checkpoints").iterdir():
        (place / "sha256.json").write_text("[")
    said = call("resume", tmp_path / "run", code=2)
    assert "there is no other that is whole" in said
