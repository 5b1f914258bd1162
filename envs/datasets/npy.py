"""numpy's own files, .npy under gzip and .npz, of which nothing is ever unpickled."""

import contextlib
import gzip
import shutil
import struct
import textwrap
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from envs.datasets.arrays import check_claim, check_sizes
from envs.datasets.dataset import DatasetError

# What a damaged file may surface as, wherever it is touched.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    KeyError,
    SyntaxError,
    TypeError,
    OverflowError,
)


_BLOCK_BYTES = 1 << 20


@contextlib.contextmanager
def readable(file: Path, name: str = "it") -> Iterator[None]:
    """A block in which every fault of a file, or of an array in it, becomes a `DatasetError`."""
    try:
        yield
    except DatasetError:
        raise
    except MemoryError:
        raise DatasetError(f"{file}: {name} does not fit in memory") from None
    except EOFError:
        raise DatasetError(f"{file}: {name} is cut short; download or copy it again") from None
    except _DAMAGE as error:
        reason = textwrap.shorten(str(error), 200)  # Some quote what they could not read.
        raise DatasetError(f"{file}: {name} is damaged or no array of numbers ({reason})") from None


def header(file: IO[bytes] | gzip.GzipFile) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in numpy's format, read no further than its header.

    Raises:
        ValueError: where there is none, or its rows are pickled Python objects or in Fortran's order.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects, which are never opened")
    if any(size < 0 for size in shape) or (fortran and len(shape) > 1):
        raise ValueError(f"its shape is {list(shape)}, in {'Fortran' if fortran else 'C'} order")
    return shape, dtype


def read_npz(file: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Every array of numbers in an .npz file, by name.

    Raises:
        DatasetError: where one of `names` is missing, or the file is damaged, holds anything but
            numbers, or claims more than it can hold.
    """
    with readable(file), zipfile.ZipFile(file) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        for name in names:
            if name not in entries:
                raise DatasetError(f"{file}: {name} is missing; it is needed")
        claims = {}
        for name, entry in entries.items():
            with readable(file, name), archive.open(entry) as stream:
                claims[name] = header(stream)
        check_sizes(file, claims)
        found = {}
        for name, entry in entries.items():
            with readable(file, name), archive.open(entry) as stream:
                found[name] = np.lib.format.read_array(stream, allow_pickle=False)
                if stream.read(1):  # Only at its end is the checksum compared.
                    raise ValueError("it has more bytes than its header says")
    return found


def read_gzipped(file: Path, name: str) -> np.ndarray:
    """The one array in a gzipped .npy file.

    Raises:
        DatasetError: as `read_npz`.
    """
    with readable(file, name), gzip.open(file, "rb") as stream:
        check_sizes(file, {name: header(stream)})
        stream.seek(0)
        array = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):
            raise ValueError("it has more bytes than its header says")
        return array


def unpack(file: Path, name: str, out: Path) -> None:
    """Unpack a gzipped .npy file into the file `out`, of any size that the disk holds.

    Raises:
        DatasetError: as `read_npz`.
    """
    with readable(file, name), gzip.open(file, "rb") as stream:
        shape, dtype = header(stream)
        claimed = check_claim(file, file.stat().st_size, name, shape, dtype)
        if claimed > (free := shutil.disk_usage(out.parent).free):
            raise DatasetError(f"{file}: {name} takes {claimed:.3g} bytes, and the disk has {free:.3g} free")
        left = stream.tell() + claimed
        stream.seek(0)
        with out.open("wb") as unpacked:
            while left:
                block = stream.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise EOFError
                left -= unpacked.write(block)
        if stream.read(1):
            raise ValueError("it has more bytes than its header says")
