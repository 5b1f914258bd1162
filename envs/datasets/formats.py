"""Datasets of any format, which is known by what a file holds and never by its name."""

from pathlib import Path

from envs.datasets import d4rl, download, minari, minari_writer, ogbench
from envs.datasets.checks import check
from envs.datasets.dataset import Dataset, DatasetError
from valuelearn.errors import did_you_mean, no_such_path
from valuelearn.types import EnvSpec

FORMATS = ("valuelearn", "d4rl", "minari")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_DQN_REPLAY = "the DQN replay data is too large to hold; envs.datasets.dqn_replay reads it in parts"


def load(
    source: str | Path,
    spec: EnvSpec | None = None,
    env_id: str | None = None,
    *,
    max_episode_steps: int | None = None,
) -> Dataset:
    """The dataset in a file or a folder, checked; `notes["remarks"]` tells what is odd about it.

    Args:
        source: a path; or the name of a D4RL dataset that was downloaded, such as
            halfcheetah-medium-v2; or the id of a Minari dataset on this machine.
        spec: the shapes of the environment that it shall be of, where that is asked.
        env_id: the name of that environment, where that is asked.
        max_episode_steps: where D4RL's file of version 0 tells no time limits, the steps after
            which one ended an episode.

    Raises:
        DatasetError: where there is none, or it is not what it should be.
    """
    path = located(source)
    dataset = _read(path, max_episode_steps)
    remarks = [*dataset.notes["remarks"], *check(dataset, path, spec, env_id)]
    return dataset._replace(notes={**dataset.notes, "remarks": remarks})


def located(source: str | Path) -> Path:
    """The path that a source names: itself, a downloaded file, or a folder of Minari's.

    Raises:
        DatasetError: where there is none.
    """
    path = Path(source)
    try:
        for one in (path, minari.root_folder() / path):
            if one.exists():
                return one
    except OSError as error:
        raise DatasetError(f"{source}: cannot be read ({error.strerror})") from None
    if str(source) in download.D4RL:
        wanted = download.D4RL[str(source)]
        if (file := download.folder() / wanted.file).is_file():
            return file
        raise DatasetError(f"{source}: it is not in {file.parent}; valuelearn dataset download {source}")
    near = did_you_mean(str(source), download.D4RL, cutoff=0.8)
    raise DatasetError(f"{source}: {near or no_such_path(path)}")


def _read(path: Path, max_episode_steps: int | None) -> Dataset:
    if folder := minari.folder_of(path):
        return minari.read(folder)
    if path.is_dir():
        found = (
            _DQN_REPLAY
            if any(path.glob("$store$_observation_ckpt.*.gz"))
            else "no dataset is known by its files"
        )
        raise DatasetError(f"{path}: {found}")
    if not path.is_file():  # Such as a pipe, on which a reader would wait for ever.
        raise DatasetError(f"{path}: it is no file")
    start = _start(path)
    if start.startswith(_HDF5):
        return d4rl.read(path, max_episode_steps)
    if start.startswith(b"PK"):
        return ogbench.read(path)
    raise DatasetError(f"{path}: {_told(start)}; HDF5, .npz or a folder of Minari's is wanted")


def is_hdf5(path: Path) -> bool:
    """Whether there is a file in HDF5, as D4RL's are.

    Raises:
        DatasetError: where it cannot be read.
    """
    return path.is_file() and _start(path).startswith(_HDF5)


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(512)
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from None


def _told(start: bytes) -> str:
    """What a file without any known signature seems to be, by its first bytes."""
    if not start:
        return "it is empty, as after a failed download"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, as after a failed download"
    if start.startswith(b"\x1f\x8b"):
        return "it is gzipped"
    if start.startswith(b"\x93NUMPY"):
        return "it is one array of numpy's"
    if start[:1] == b"\x80":
        return "it is a pickle, which is never opened"
    return f"it begins with {start[:8]!r}, which is no format of datasets that is known"


def save(dataset: Dataset, path: str | Path, form: str = "valuelearn") -> None:
    """Write a dataset, whole or not at all.

    Args:
        dataset: what to write; it is checked first.
        path: a new file, or a new folder for Minari.
        form: `d4rl`, D4RL's layout; `valuelearn`, the same with a manifest of the notes and a hash;
            or `minari`.

    Raises:
        DatasetError: where the dataset is faulty, the format cannot hold it, or something is
            there already.
    """
    path = Path(path)
    check(dataset, path)
    if form not in FORMATS:
        raise DatasetError(f"{form}: a format to write is one of {', '.join(FORMATS)}")
    if form == "minari":
        minari_writer.write(dataset, path)
    else:
        d4rl.write(dataset, path, with_manifest=form == "valuelearn")
