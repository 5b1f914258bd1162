"""Files that are not what they should be: each is refused in one sentence that names what is wrong."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from envs import datasets
from envs.datasets import DatasetError, arrays
from tests.commands import call
from tests.recordings import ogbench_arrays, sound
from valuelearn.types import EnvSpec

TRILLION = 10**12


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return sound(tmp_path_factory.mktemp("good"))


def refused(path, pattern, capsys, *options):
    """One sentence, from Python and from the command line, that names the path and matches the pattern."""
    with pytest.raises(DatasetError) as error:
        datasets.load(path)
    sentence = str(error.value)
    assert re.search(pattern, sentence), sentence
    assert sentence.startswith(str(path)) and "\n" not in sentence and len(sentence) < 500, sentence
    call("dataset", "check", path, *options, code=2)
    err = capsys.readouterr().err
    assert err.startswith(f"valuelearn: {path}") and err.count("\n") == 1


def put(name, array, **options):
    """Replace an array of an HDF5 file."""

    def change(root):
        if name in root:
            del root[name]
        root.create_dataset(name, data=array, **options)

    return change


def poke(name, place, value):
    def change(root):
        root[name][place] = value

    return change


def cut(name, rows):
    def change(root):
        put(name, root[name][:rows])(root)

    return change


def linked(name, link):
    def change(root):
        del root[name]
        root[name] = link

    return change


def grouped(root):
    del root["rewards"]
    root.create_group("rewards")


def null_space(root):
    del root["rewards"]
    root["rewards"] = h5py.Empty("f4")


def emptied(root):
    for name in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations"):
        cut(name, 0)(root)
    del root["infos"]


def header_bomb(root):
    del root["rewards"]
    root.create_dataset("rewards", (TRILLION,), "f4", chunks=(1024,), compression="gzip")


def chunk_bomb(root):
    """300 rows, in a chunk of 300 million that is stored as a few bytes."""
    del root["rewards"]
    root.create_dataset("rewards", (300,), "f4", chunks=(3 * 10**8,), maxshape=(None,), compression="gzip")


def ragged(root):
    del root["rewards"]
    root.create_dataset("rewards", (300,), h5py.vlen_dtype("f4"))


def virtual(root):
    layout = h5py.VirtualLayout((300,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "rewards", (300,))
    del root["rewards"]
    root.create_virtual_dataset("rewards", layout)


def external(root):
    del root["rewards"]
    root.create_dataset("rewards", (300,), "f4", external=[("/etc/passwd", 0, 1200)])


def infos_array(root):
    del root["infos"]
    root["infos"] = np.zeros(300)


ROWS = np.zeros(300, np.float32)
COMPOUND = np.zeros(300, [("a", "f4"), ("b", "i4")])
SPOILT = {
    "nan": (poke("observations", (17, 1), np.nan), r"observations is nan in row 17; .* is wanted"),
    "inf": (poke("rewards", 299, np.inf), r"rewards is inf in row 299"),
    "large": (poke("observations", (5, 0), 2e6), r"observations is 2000000.0 in row 5; .* within 1e\+06"),
    "nan next": (poke("next_observations", (0, 0), np.nan), r"next_observations is nan in row 0"),
    "nan action": (poke("actions", (3, 0), np.nan), r"actions is nan in row 3"),
    "action outside": (poke("actions", (4, 1), 1.5), r"actions is 1.5 in row 4; .* \[-1, 1\]"),
    "nan info": (poke("infos/qpos", (9, 0), np.nan), r"infos/qpos is nan in row 9"),
    "overflow": (put("rewards", np.full(300, 1e300)), r"rewards is inf in row 0"),
    "short rewards": (cut("rewards", 299), r"unequal lengths .*rewards 299"),
    "one more observation": (put("observations", np.zeros((301, 3), "f4")), r"observations 301"),
    "short info": (cut("infos/qpos", 10), r"infos/qpos 10"),
    "rank": (put("rewards", np.zeros((300, 2), "f4")), r"rewards has the shape \[300, 2\]"),
    "flat observations": (put("observations", ROWS), r"observations has the shape \[300\]"),
    "flat actions": (put("actions", ROWS), r"actions has the shape \[300\].*float32"),
    "boolean actions": (put("actions", np.zeros((300, 2), bool)), r"actions has .* type bool"),
    "no observed number": (put("observations", np.zeros((300, 0), "f4")), r"observations .*\[300, 0\]"),
    "two sizes": (
        put("next_observations", np.zeros((300, 4), "f4")),
        r"next_observations have the shape \[4\]|\[300, 4\]",
    ),
    "flag of 2": (put("terminals", np.arange(300) // 200 * 2), r"terminals is 2 in row 200; 0 or 1"),
    "flag of nan": (put("timeouts", np.full(300, np.nan)), r"timeouts is nan in row 0; 0 or 1"),
    "negative count": (put("actions", np.arange(300) - 1), r"actions is -1 in row 0; a count from 0"),
    "vast count": (put("actions", np.full(300, 2**40)), r"actions is 1099511627776 in row 0"),
    "no rewards": (lambda root: root.pop("rewards"), r"rewards is missing"),
    "no terminals": (lambda root: root.pop("terminals"), r"terminals is missing"),
    "no observations": (lambda root: root.pop("observations"), r"observations is missing"),
    "nothing": (lambda root: root.clear(), r"observations is missing"),
    "empty": (emptied, r"is empty; at least one row"),
    "complex": (put("rewards", ROWS.astype(complex)), r"rewards has the type complex128"),
    "texts": (put("rewards", ["a"] * 300), r"rewards has the type object"),
    "bytes": (put("rewards", ROWS.astype("S3")), r"rewards has the type \|S3"),
    "compound": (put("rewards", COMPOUND), r"rewards has the type .*numbers or booleans"),
    "ragged": (ragged, r"rewards has the type object"),
    "group": (grouped, r"rewards is a group; an array"),
    "infos an array": (infos_array, r"infos is an array; a group"),
    "scalar": (put("rewards", 1.0), r"rewards has no rows"),
    "null": (null_space, r"rewards has no rows"),
    "dangling": (linked("rewards", h5py.SoftLink("/nowhere")), r"rewards is a link to /nowhere"),
    "elsewhere": (linked("rewards", h5py.ExternalLink("/etc/passwd", "/x")), r"rewards is a link"),
    "info elsewhere": (linked("infos/qpos", h5py.ExternalLink("b.hdf5", "/x")), r"infos/qpos is a link"),
    "virtual": (virtual, r"rewards keeps its data in other files"),
    "external": (external, r"rewards keeps its data in other files"),
    "header bomb": (header_bomb, r"rewards claims the shape \[1000000000000\].* cannot hold"),
    "chunk bomb": (chunk_bomb, r"a chunk of rewards claims the shape \[300000000\]"),
    "metadata elsewhere": (
        lambda root: root.update({"metadata/x": h5py.SoftLink("/no")}),
        r"metadata/x is a link",
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_hdf5_file(good, tmp_path, capsys, fault):
    change, pattern = SPOILT[fault]
    file = Path(shutil.copy(good / "d4rl.hdf5", tmp_path))
    with h5py.File(file, "a") as root:
        change(root)
    refused(file, pattern, capsys)


BYTES = {
    "nothing": (lambda data: b"", r"it is empty, as after a failed download"),
    "web page": (lambda data: b"\n<!DOCTYPE html><html></html>", r"it is a web page"),
    "cut": (lambda data: data[:-100], r"it is cut short: it has \d+ of \d+ bytes"),
    "cut early": (lambda data: data[:50], r"it is cut short: it has 50 of \d+ bytes"),
    "signature alone": (lambda data: data[:8], r"cannot be read as HDF5"),
    "something else": (lambda data: b"hello" * 100, r"begins with b'hellohel'"),
    "a pickle": (lambda data: pickle.dumps({"observations": [1]}), r"it is a pickle, which is never opened"),
    "gzip": (lambda data: b"\x1f\x8b" + data, r"it is gzipped"),
    "npy": (lambda data: b"\x93NUMPY" + data, r"it is one array of numpy's"),
}


@pytest.mark.parametrize("fault", BYTES)
def test_other_bytes_than_hdf5(good, tmp_path, capsys, fault):
    change, pattern = BYTES[fault]
    (tmp_path / "a.hdf5").write_bytes(change((good / "d4rl.hdf5").read_bytes()))
    refused(tmp_path / "a.hdf5", pattern, capsys)


def test_a_damaged_chunk(good, tmp_path, capsys):
    file = Path(shutil.copy(good / "d4rl.hdf5", tmp_path))
    with h5py.File(file) as root:
        chunk = root["rewards"].id.get_chunk_info(0)
    data = bytearray(file.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 255
    file.write_bytes(data)
    refused(file, r"rewards is damaged \(", capsys)


def test_random_damage_is_refused_or_harmless(good, tmp_path):
    """Whatever h5py makes of it, nothing but a `DatasetError` comes out."""
    random = np.random.default_rng(0)
    data = np.frombuffer((good / "d4rl.hdf5").read_bytes(), np.uint8)
    outcomes = set()
    for _ in range(150):
        spoilt = data.copy()
        spoilt[random.integers(0, len(data), 20)] ^= random.integers(1, 256, 20, np.uint8)
        spoilt[random.integers(0, 2000, 2)] ^= 255  # The headers are mostly at the beginning.
        (tmp_path / "a.hdf5").write_bytes(spoilt.tobytes())
        try:
            datasets.load(tmp_path / "a.hdf5")
            outcomes.add("harmless")
        except DatasetError:
            outcomes.add("refused")
    assert "refused" in outcomes


def attribute(text):
    def change(root):
        root.attrs["valuelearn"] = text

    return change


OWN = {
    "not json": (attribute("{"), r"the attribute valuelearn is not JSON"),
    "not an object": (attribute("[1]"), r"the attribute valuelearn is list; a JSON object"),
    "a number": (attribute(3), r"the attribute valuelearn is not JSON"),
    "later version": (attribute('{"version": 99, "notes": {}}'), r"version 99; version 1"),
    "no notes": (attribute('{"version": 1}'), r"version 1 with notes is wanted"),
    "no hash": (attribute('{"version": 1, "notes": {}}'), r"its manifest says None"),
    "changed": (poke("rewards", 0, 7.0), r"SHA-256 .* it was changed or damaged"),
    "array removed": (lambda root: root["infos"].pop("qpos"), r"SHA-256 .* it was changed or damaged"),
    "deep": (attribute("[" * 30_000), r"the attribute valuelearn is not JSON"),
}


@pytest.mark.parametrize("fault", OWN)
def test_a_spoilt_manifest(good, tmp_path, capsys, fault):
    change, pattern = OWN[fault]
    file = Path(shutil.copy(good / "own.hdf5", tmp_path))
    with h5py.File(file, "a") as root:
        change(root)
    refused(file, pattern, capsys)


def metadata(**changes):
    def change(data):
        file = data / "metadata.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def written(text):
    return lambda data: (data / "metadata.json").write_bytes(text)


def inside(change):
    def changed(data):
        with h5py.File(data / "main_data.hdf5", "a") as root:
            change(root)

    return changed


def dict_observations(root):
    del root["episode_0/observations"]
    root["episode_0/observations/achieved_goal"] = np.zeros((101, 3), "f4")


MINARI = {
    "broken json": (written(b'{"total_'), r"metadata.json: it is not JSON"),
    "a list": (written(b"[]"), r"metadata.json: it is list; a JSON object"),
    "no text": (written(b"\xff\xfe"), r"metadata.json: it is not text"),
    "empty": (written(b""), r"metadata.json: it is not JSON"),
    "more episodes": (metadata(total_episodes=4), r"it has 3 episodes, and metadata.json says 4"),
    "more steps": (metadata(total_steps=301), r"it has 300 steps, and metadata.json says 301"),
    "no count": (metadata(total_steps="many"), r"total_steps is 'many'"),
    "arrow": (metadata(data_format="arrow"), r"data_format is 'arrow'; 'hdf5'"),
    "no space": (metadata(action_space="{"), r"action_space is not JSON"),
    "other space": (metadata(action_space='{"low": [0], "high": [1]}'), r"action_space does not fit"),
    "vague space": (metadata(action_space='{"type": "Box"}'), r"action_space does not fit"),
    "no data": (lambda data: (data / "main_data.hdf5").unlink(), r"there is no such file"),
    "empty data": (lambda data: (data / "main_data.hdf5").write_bytes(b""), r"cannot be read as HDF5"),
    "episode missing": (inside(lambda root: root.pop("episode_1")), r"it has 2 episodes, and .* says 3"),
    "episode renamed": (inside(lambda root: root.move("episode_1", "episode_7")), r"episode_1 is missing"),
    "episode an array": (
        inside(lambda root: (root.pop("episode_1"), put("episode_1", ROWS)(root))),
        r"episode_1 is an array",
    ),
    "T observations": (inside(cut("episode_0/observations", 100)), r"observations less one 99"),
    "short rewards": (inside(cut("episode_1/rewards", 149)), r"unequal lengths .*episode_1/rewards 149"),
    "no truncations": (
        inside(lambda root: root["episode_2"].pop("truncations")),
        r"episode_2/truncations is missing",
    ),
    "no metadata": (
        lambda data: (data / "metadata.json").unlink(),
        r"metadata.json: cannot be read \(No such",
    ),
    "packed pictures": (
        metadata(observation_space='{"type": "Box", "shape": [84, 84, 3]}'),
        r"observation_space has the shape \[84, 84, 3\] and observations \[3\]",
    ),
    "goals": (inside(dict_observations), r"episode_0/observations is a group; an array"),
    "other shape": (
        inside(put("episode_1/actions", np.zeros((150, 7), "f4"))),
        r"episode_1/actions has rows of",
    ),
    "pictures": (inside(put("episode_0/observations", ["jpeg"] * 101)), r"observations has the type object"),
    "end inside": (inside(poke("episode_1/terminations", 20, True)), r"in row 120, inside it"),
    "nan": (inside(poke("episode_1/rewards", 20, np.nan)), r"rewards is nan in row 120"),
    "linked": (
        inside(linked("episode_0/rewards", h5py.ExternalLink("b", "/x"))),
        r"episode_0/rewards is a link",
    ),
}


@pytest.mark.parametrize("fault", MINARI)
def test_a_spoilt_folder_of_minari(good, tmp_path, capsys, fault):
    change, pattern = MINARI[fault]
    shutil.copytree(good / "minari-v0", tmp_path / "one-v0")
    change(tmp_path / "one-v0" / "data")
    refused(tmp_path / "one-v0", pattern, capsys)


def test_a_folder_of_something_else(tmp_path, capsys):
    refused(tmp_path, r"no dataset is known by its files", capsys)


def npz(**changes):
    def change(file):
        np.savez_compressed(file, **{**ogbench_arrays(), **changes})

    return change


def bytes_changed(change):
    return lambda file: file.write_bytes(change(file.read_bytes()))


def npy_of_a_trillion():
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({TRILLION},), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00\x76\x00" + header.encode()


def member(name, data):
    def change(file):
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, data)

    return change


def lacking(name):
    return lambda file: np.savez(file, **{k: v for k, v in ogbench_arrays().items() if k != name})


def flipped(data):
    """A changed byte in the middle of the first array: only its checksum tells."""
    return data[:150] + bytes([data[150] ^ 255]) + data[151:]


NPZ = {
    "cut": (bytes_changed(lambda data: data[:-30]), r"damaged or no array .*(zip|truncated)"),
    "cut early": (bytes_changed(lambda data: data[:100]), r"damaged or no array .*zip"),
    "flipped": (bytes_changed(flipped), r"observations is damaged"),
    "objects": (npz(extra=np.array([{}, []], object)), r"extra .*pickled Python objects, which are never"),
    "texts": (npz(extra=np.array(["a"] * 7)), r"extra has the type <U1"),
    "trillion": (member("extra.npy", npy_of_a_trillion()), r"extra claims the shape \[1000000000000\]"),
    "no array": (member("readme.txt", "hello"), r"readme.txt is damaged or no array"),
    "no terminals": (lacking("terminals"), r"terminals is missing"),
    "no observations": (lacking("observations"), r"observations is missing"),
    "lengths": (npz(qpos=np.zeros((3, 2))), r"unequal lengths .*qpos 3"),
    "scalar": (npz(extra=np.float32(1)), r"extra has no rows"),
    "no end": (npz(terminals=np.zeros(7)), r"terminals is 0 in the last row"),
    "only ends": (npz(terminals=np.ones(7)), r"terminals is 1 in every row"),
    "empty": (npz(**{name: array[:0] for name, array in ogbench_arrays().items()}), r"is empty"),
    "nan": (npz(qpos=np.full((7, 1), np.nan)), r"infos/qpos is nan in row 0"),
    "other mask": (npz(masks=np.full(7, 0.5)), r"masks is 0.5 in row 0"),
}  # fmt: skip


@pytest.mark.parametrize("fault", NPZ)
def test_a_spoilt_npz_file(good, tmp_path, capsys, fault):
    change, pattern = NPZ[fault]
    file = Path(shutil.copy(good / "ogbench.npz", tmp_path))
    change(file)
    refused(file, pattern, capsys)


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "taken over"))


def test_no_pickle_is_ever_run(tmp_path):
    trace = tmp_path / "trace"
    np.savez(tmp_path / "a.npz", **ogbench_arrays(), extra=np.array([_Evil(trace)], object))
    (tmp_path / "b.hdf5").write_bytes(pickle.dumps(_Evil(trace)))
    for name in ("a.npz", "b.hdf5"):
        with pytest.raises(DatasetError):
            datasets.load(tmp_path / name)
    assert not trace.exists()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        np.load(tmp_path / "a.npz")["extra"]
    np.load(tmp_path / "a.npz", allow_pickle=True)["extra"]
    assert trace.exists()  # It would have run.


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """40 MB of zeros in 40 kB, where there is memory for 10 MB."""
    np.savez_compressed(tmp_path / "a.npz", **ogbench_arrays(), extra=np.zeros(10**7, np.float32))
    monkeypatch.setattr(arrays, "memory_bytes", lambda: 10**7)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=r"its arrays take 4e.07 bytes, and there are 1e.07 of memory"):
            datasets.load(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_a_header_of_a_trillion_rows_under_a_limit_of_memory(good, tmp_path):
    """In a process that may hold little more than what it has imported."""
    file = Path(shutil.copy(good / "d4rl.hdf5", tmp_path))
    with h5py.File(file, "a") as root:
        header_bomb(root)
    code = (
        "import resource, sys\n"
        "from envs import datasets\n"
        "import h5py\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, held + 2**28))\n"
        "try:\n"
        "    datasets.load(sys.argv[1])\n"
        "except datasets.DatasetError as error:\n"
        "    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "claims the shape [1000000000000]" in told.stdout


def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "a.hdf5")
    refused(tmp_path / "a.hdf5", "it is no file", capsys)


@pytest.mark.parametrize(
    "name", ["halfcheetah-medium-v2", "x" * 300, "no/such/file.hdf5", "halfcheeta-medium-v2"]
)
def test_nothing_of_that_name(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    wanted = {
        "halfcheetah-medium-v2": "valuelearn dataset download halfcheetah-medium-v2",
        "halfcheeta-medium-v2": "did you mean 'halfcheetah-medium-v2'",
        "no/such/file.hdf5": "there is no such file or folder",
    }
    refused(name, wanted.get(name, "cannot be read"), capsys)


def test_a_dataset_of_another_environment(good, tmp_path):
    file = good / "d4rl.hdf5"
    spec = EnvSpec((3,), np.dtype(np.float32), num_actions=0, num_envs=1, action_size=2)
    datasets.load(file, spec)
    for other, pattern in (
        (
            spec._replace(obs_shape=(11,)),
            r"observations have the shape \[3\], and those of the environment \[11\]",
        ),
        (spec._replace(action_size=3), r"actions have the shape \[2\], and those of the environment \[3\]"),
        (spec._replace(action_size=0, num_actions=4), r"actions have the shape \[2\], .* \[\]"),
    ):
        with pytest.raises(DatasetError, match=pattern):
            datasets.load(file, other)
    with h5py.File(shutil.copy(file, tmp_path / "b.hdf5"), "a") as root:
        put("actions", np.arange(300) // 100)(root)
    with pytest.raises(DatasetError, match="actions is 2 in row 200; the environment has 2"):
        datasets.load(tmp_path / "b.hdf5", spec._replace(action_size=0, num_actions=2))


def test_a_dataset_of_another_environment_from_the_command_line(good, capsys):
    call("dataset", "check", good / "d4rl.hdf5", "--env", "gym/CartPole-v1", code=2)
    assert "observations have the shape [3], and those of the environment [4]" in capsys.readouterr().err
