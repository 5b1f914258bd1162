"""HDF5 files, read so that what is wrong with one is told in a sentence and nothing else is opened."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets.arrays import check_sizes
from envs.datasets.dataset import DatasetError


def library() -> Any:
    """The package h5py, which is imported only where a file of its kind is opened.

    Raises:
        DatasetError: where it is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise DatasetError("HDF5 files need h5py: pip install 'valuelearn[offline]'") from None
    return h5py


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Any]:
    """An open HDF5 file, for a block in which every fault of the file becomes a `DatasetError`."""
    h5py = library()
    try:
        with h5py.File(file, "r") as root:
            yield root
    except DatasetError:
        raise
    except MemoryError:
        raise DatasetError(f"{file}: does not fit in memory") from None
    # A damaged file may surface as any of these, wherever it is touched.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        cut = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", str(error))
        if cut:
            told = f"it is cut short: it has {cut[1]} of {cut[2]} bytes; download or copy it again"
        else:
            told = f"it cannot be read as HDF5 ({error})"
        raise DatasetError(f"{file}: {told}") from None


def member(file: Path, group: Any, name: str) -> Any:
    """A group or dataset by its name in a group; None where there is none.

    Raises:
        DatasetError: for a link, soft or to another file, which is never followed.
    """
    h5py = library()
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise DatasetError(f"{file}: {_path(group, name)} is a link to {link.path}; data is wanted")
    return group[name]


def _path(group: Any, name: str) -> str:
    return f"{group.name}/{name}".lstrip("/")


def datasets(file: Path, group: Any, names: Mapping[str, bool]) -> dict[str, Any]:
    """Datasets of a group, unread, by name; `names` says of each whether it must be there.

    Raises:
        DatasetError: where one is missing, is a group, or keeps its data elsewhere.
    """
    found = {}
    for name, needed in names.items():
        one, path = member(file, group, name), _path(group, name)
        if one is None:
            if needed:
                raise DatasetError(f"{file}: {path} is missing; it is needed")
            continue
        if not isinstance(one, library().Dataset):
            raise DatasetError(f"{file}: {path} is a group; an array is wanted")
        if one.is_virtual or one.external:
            raise DatasetError(f"{file}: {path} keeps its data in other files; data is wanted")
        if not one.shape:
            raise DatasetError(f"{file}: {path} has no rows; an array is wanted")
        found[name] = one
    return found


def check_headers(file: Path, found: Mapping[str, Any]) -> None:
    """Refuse datasets by their headers, before any is read.

    Raises:
        DatasetError: for a type that is no number, or a size that cannot be.
    """
    check_sizes(file, {name: (one.shape, one.dtype) for name, one in found.items()})
    for name, one in found.items():
        # Reading one row unpacks a whole chunk, which a header may make larger than the array.
        check_sizes(file, {f"a chunk of {name}": (one.chunks or (), one.dtype)})


def read(file: Path, one: Any) -> np.ndarray:
    """The whole of a dataset whose header was checked.

    Raises:
        DatasetError: where it cannot be unpacked.
    """
    try:
        return np.asarray(one[()])
    except OSError as error:
        name = one.name.lstrip("/")
        raise DatasetError(f"{file}: {name} is damaged ({error}); download or copy it again") from None


def scalars(file: Path, group: Any) -> dict[str, Any]:
    """Single numbers and texts of a group, by name; larger things, such as weights, are left out."""
    found: dict[str, Any] = {}
    for name in group:
        one = member(file, group, name)
        if isinstance(one, library().Dataset) and one.shape is not None and math.prod(one.shape) == 1:
            value = one.asstr()[()] if one.dtype.kind in "OS" else one[()]
            value = np.asarray(value).item()
            if isinstance(value, str | int | float | bool):
                found[name] = value
    return found


def write(group: Any, name: str, array: np.ndarray) -> None:
    """Write an array as D4RL does: under gzip."""
    group.create_dataset(name, data=array, compression="gzip")
