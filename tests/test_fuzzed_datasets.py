"""Recorded transitions that nobody would write: each is read, or refused in one sentence; none is executed.

`pytest --hypothesis-profile=storm tests/test_fuzzed_datasets.py` makes 10,000 and more of them.
"""

import os
import pickle
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import datasets
from envs.datasets import Dataset, DatasetError
from tests.recordings import ogbench_arrays, sound
from valuelearn import checkpoint
from valuelearn.checkpoint import CheckpointError, Checkpoints


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return sound(tmp_path_factory.mktemp("good"))


def read_or_refused(path):
    try:
        found = datasets.load(path)
    except DatasetError as error:
        sentence = str(error)
        assert sentence.startswith(str(path)) and "\n" not in sentence and len(sentence) < 600, sentence
    else:
        assert isinstance(found, Dataset) and found.rows > 0


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 17, 299, 300, 301]), max_size=3).map(tuple)
DTYPES = st.sampled_from(["f2", "f4", "f8", ">f8", "i1", "i8", "u8", "?", "c16", "S3", "M8[s]", "V4"])
FILLS = st.sampled_from([0, 1, -1, 2, 1e38, np.nan, np.inf, 7e18])


@st.composite
def arrays(draw):
    shape, dtype = draw(SHAPES), np.dtype(draw(DTYPES))
    if dtype.kind in "fiuc?":
        with np.errstate(all="ignore"):
            return np.full(shape, draw(FILLS)).astype(dtype)
    return np.zeros(shape, dtype)


def names(root):
    found = []
    root.visit(found.append)
    return found


@st.composite
def changes(draw):
    """What to do to one part of a file: how, the number of the part, an array, a place, a value."""
    how = draw(
        st.sampled_from(["put", "poke", "delete", "group", "attribute", "retype", "cut", "empty", "strings"])
    )
    place = draw(st.integers(0, 10**6))
    return how, draw(st.integers(0, 100)), draw(arrays()), place, draw(FILLS)


def spoil(root, how, part, array, place, value):
    held = names(root)
    name = held[part % len(held)] if held else "observations"
    if how == "attribute":
        # Only what HDF5 itself can hold.
        root[name].attrs[f"a{place % 3}"] = value if array.dtype.kind in "MV" else array.ravel()[:1]
        return
    node = root.get(name)
    if how in ("poke", "retype", "cut") and not (isinstance(node, h5py.Dataset) and node.size):
        return
    if how == "poke":
        if node.dtype.kind not in "fiu":
            return
        data = node[...].reshape(-1)
        with np.errstate(all="ignore"):
            data[place % data.size] = np.asarray(value).astype(data.dtype)
        node[...] = data.reshape(node.shape)
        return
    before = node[...] if isinstance(node, h5py.Dataset) and how in ("retype", "cut") else None
    if name in root:
        del root[name]
    match how:
        case "put" if array.dtype.kind not in "M":
            root[name] = array
        case "group":
            root.create_group(name)
        case "retype" if before.dtype.kind in "fiu?" and array.dtype.kind in "fiu?":
            with np.errstate(all="ignore"):
                root[name] = before.astype(array.dtype)
        case "cut":
            root[name] = before[: place % (len(before) + 1)] if before.ndim else before
        case "empty":
            root[name] = h5py.Empty("f4")
        case "strings":
            root[name] = ["a", "b"]


@given(st.sampled_from(["d4rl.hdf5", "own.hdf5", "minari-v0"]), st.lists(changes(), min_size=1, max_size=3))
def test_a_changed_hdf5(good, tmp_path_factory, name, spoilt):
    path = tmp_path_factory.getbasetemp() / "fuzzed" / name
    shutil.rmtree(path.parent, ignore_errors=True)
    if name == "minari-v0":
        shutil.copytree(good / name, path)
    else:
        path.parent.mkdir(parents=True)
        shutil.copy(good / name, path)
    file = path / "data" / "main_data.hdf5" if path.is_dir() else path
    with h5py.File(file, "a") as root:
        for change in spoilt:
            spoil(root, *change)
    read_or_refused(path)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["put", "delete", "cut"]), arrays()), max_size=3)
)
def test_a_changed_npz(tmp_path_factory, spoilt):
    held = dict(ogbench_arrays())
    for part, how, array in spoilt:
        name = sorted(held)[part % len(held)] if held else "observations"
        match how:
            case "put":
                held[name] = array
            case "delete":
                held.pop(name, None)
            case "cut" if name in held and held[name].ndim:
                held[name] = held[name][:part]
    path = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    np.savez(path, **held)
    read_or_refused(path)


@given(
    st.sampled_from(["d4rl.hdf5", "own.hdf5", "ogbench.npz"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=20),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_flipped_bits_and_missing_ends(good, tmp_path_factory, name, flips, cut):
    data = bytearray((good / name).read_bytes())
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])
    read_or_refused(path)


class Attack:
    """Unpickled it makes a folder."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.fixture
def attack(tmp_path):
    """A pickle, and where its traces would be."""
    trace = str(tmp_path / "executed")
    pickle.loads(pickle.dumps(Attack(trace)))  # It works.
    os.rmdir(trace)
    return pickle.dumps(Attack(trace)), trace


def test_a_pickle_in_an_npz_is_refused_and_not_executed(tmp_path, attack):
    _, trace = attack
    held = dict(ogbench_arrays()) | {"rewards": np.array([Attack(trace)] * 300, object)}
    np.savez(tmp_path / "a.npz", **held)
    with pytest.raises(DatasetError, match=r"a\.npz: rewards"):
        datasets.load(tmp_path / "a.npz")
    assert not os.path.exists(trace)


def test_a_pickle_in_an_hdf5_attribute_is_refused_or_left_alone(good, tmp_path, attack):
    data, trace = attack
    path = shutil.copy(good / "own.hdf5", tmp_path)
    with h5py.File(path, "a") as root:
        for node in (root, *(root[name] for name in names(root))):
            for name in (*node.attrs, "more"):
                node.attrs[name] = np.void(data)
    with pytest.raises(DatasetError):
        datasets.load(path)
    assert not os.path.exists(trace)


def test_a_pickle_in_a_checkpoint_is_refused_and_not_executed(tmp_path, attack):
    data, trace = attack
    state = {"a": np.zeros(3, np.float32)}
    with Checkpoints(tmp_path / "kept") as checkpoints:
        checkpoints.save(1, state, {})
    checkpoint.save_params(tmp_path / "params", state)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4
    for path in files:
        path.write_bytes(data)
    with Checkpoints(tmp_path / "kept") as checkpoints, pytest.raises(CheckpointError):
        checkpoints.restore(state)
    with pytest.raises(CheckpointError):
        checkpoint.restore_params(tmp_path / "params", state)
    assert not os.path.exists(trace)
