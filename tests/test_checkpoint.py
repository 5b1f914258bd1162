"""Checkpoints: what is kept, what comes back, and what becomes of a disk that is full."""

import gc
import resource
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelearn.checkpoint import CheckpointError, Checkpoints


class State(NamedTuple):
    arrays: Any
    keys: Any
    nothing: Any = None


def state(scale):
    """Arrays of several types that do not compress, random keys, an empty node and none at all."""
    noise = scale * jax.random.normal(jax.random.key(1), (100_000,))
    arrays = {"x": noise, "bits": noise > 0, "bytes": jnp.arange(5, dtype=jnp.uint8), "empty": ()}
    return State(arrays, jax.random.split(jax.random.key(int(scale)), 3))


def assert_same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert x.dtype == y.dtype
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def test_the_newest_comes_back_and_older_ones_go(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(jax.eval_shape(lambda: state(1.0))) is None
        for step in (5, 10, 15):
            checkpoints.save(step, state(float(step)), {"step": step, "ratio": 1 / 3, "none": None})
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [10, 15]
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore(jax.eval_shape(lambda: state(1.0)))
    assert_same(found.state, state(15.0))
    assert found.notes == {"step": 15, "ratio": 1 / 3, "none": None}


def test_a_draft_left_by_a_kill_is_not_a_checkpoint(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5.0), {})
    (tmp_path / "10.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(state(1.0)).state, state(5.0))
    assert (tmp_path / "10.orbax-checkpoint-tmp").exists()  # Another process may be writing it.
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(15, state(15.0), {})
    assert [path.name for path in tmp_path.iterdir()] == ["15"]


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "more"])
def test_a_damaged_checkpoint_is_put_aside(tmp_path, damage):
    """Whichever of its files it is."""
    whole = tmp_path / "whole"
    with Checkpoints(whole, keep=2) as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, state(float(step)), {"step": step})
    names = [path.relative_to(whole) for path in (whole / "10").rglob("*") if path.is_file()]
    assert len(names) > 10
    for index, name in enumerate(names):
        if damage == "gone" and name.name == "sha256.json":
            continue  # As after a kill before it was written: the arrays are checked all the same.
        folder = tmp_path / str(index)
        shutil.copytree(whole, folder)
        data = bytearray((folder / name).read_bytes())
        if damage == "gone":
            (folder / name).unlink()
        else:
            data[len(data) // 2] ^= 4
            changed = {"flipped": data, "cut": data[:-1], "more": data + b" {"}
            (folder / name).write_bytes(changed[damage])
        with Checkpoints(folder) as checkpoints:
            found = checkpoints.restore(jax.eval_shape(lambda: state(1.0)))
        assert_same(found.state, state(5.0))
        assert found.notes == {"step": 5} and "10" in found.passed_over[0]
        assert sorted(path.name for path in folder.iterdir()) == ["5", "damaged-10"]


def test_a_step_is_damaged_twice(tmp_path):
    """Put aside, the run comes by it again, and it is put aside again."""
    for _ in range(2):
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            for step in (5, 10):
                if not (tmp_path / str(step)).exists():
                    checkpoints.save(step, state(float(step)), {"step": step})
        (tmp_path / "10" / "sha256.json").write_text("{}")
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            assert checkpoints.restore(jax.eval_shape(lambda: state(1.0))).notes == {"step": 5}
    assert (tmp_path / "damaged-10").is_dir()


def test_arrays_are_checked_where_files_cannot_be(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5.0), {})
    (tmp_path / "5" / "sha256.json").unlink()
    listed = next(path for path in (tmp_path / "5" / "fingerprints").iterdir() if "x" in path.read_text())
    held = listed.read_text()
    listed.write_text(held.replace("a", "b", 1))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="is not what was saved"):
        checkpoints.restore(state(1.0))


def test_notes_are_checked_where_files_cannot_be(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5.0), {"come": 1069})
    (tmp_path / "5" / "sha256.json").unlink()
    (noted,) = (path for path in (tmp_path / "5" / "notes").iterdir() if "1069" in path.read_text())
    noted.write_text(noted.read_text().replace("1069", "1068"))
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="its notes are not what was"),
    ):
        checkpoints.restore(state(1.0))


# Orbax leaves the event loop of a failed save to the garbage collector, which complains of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_loses_nothing(tmp_path):
    """No file may grow past 50 kB, and the noise takes 400."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(5, state(5.0), {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        try:
            with pytest.raises(CheckpointError, match=r"step 10 cannot be saved \(File too large"):
                checkpoints.save(10, state(10.0), {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [path.name for path in tmp_path.iterdir()] == ["5"]
        checkpoints.save(15, state(15.0), {})
        assert_same(checkpoints.restore(state(1.0)).state, state(15.0))
    gc.collect()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"x": jnp.zeros(3)},
            r"it holds float32\[100000\] for .arrays\['x'\], and the config asks for float32\[3\]",
        ),
        ({"x": state(1.0).arrays["bits"]}, r"it holds float32\[100000\] for .* asks for bool\[100000\]"),
        ({"y": jnp.zeros(3)}, r"5: it holds nothing for .arrays\['y'\]"),
    ],
)
def test_another_runs_state_is_refused(tmp_path, arrays, sentence):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5.0), {})
        with pytest.raises(CheckpointError, match=sentence):
            checkpoints.restore(state(1.0)._replace(arrays=arrays))
