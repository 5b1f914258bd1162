"""From the arrays of a file to those of a `Dataset`: sizes, types, ranks and flags, told by name.

`file` and `name` say in errors where an array stands; `remarks` collects what was mended.
"""

import math
import os
import resource
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from envs.datasets.dataset import DatasetError

DEFLATE_RATIO = 1032  # No stream of zlib's expands further (zlib's technical details).
_SLACK_BYTES = 65536  # Small files may hold fill values that are stored nowhere.


def memory_bytes() -> int:
    """Bytes that this process may hold: the machine's memory, or less where a limit is set."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return total if limit == resource.RLIM_INFINITY else min(total, limit)


def check_claim(file: Path, stored_bytes: int, name: str, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of an array by what its header claims, before anything is read.

    Raises:
        DatasetError: for another type than numbers and booleans, and for more than `stored_bytes`,
            those in which it is held, can expand to.
    """
    if dtype.kind not in "biuf":
        raise DatasetError(f"{file}: {name} has the type {dtype}; numbers or booleans are wanted")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > DEFLATE_RATIO * stored_bytes + _SLACK_BYTES:
        told = f"{name} claims the shape {list(shape)}, {claimed:.3g} bytes"
        raise DatasetError(f"{file}: {told}, which {stored_bytes} bytes cannot hold")
    return claimed


def check_sizes(file: Path, claims: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> None:
    """Refuse arrays by the shapes and types that the headers in a file claim.

    Raises:
        DatasetError: as `check_claim`, and for more than fits in memory.
    """
    stored = file.stat().st_size
    total = sum(check_claim(file, stored, name, shape, dtype) for name, (shape, dtype) in claims.items())
    if total > (most := memory_bytes()):
        raise DatasetError(f"{file}: its arrays take {total:.3g} bytes, and there are {most:.3g} of memory")


def check_lengths(file: Path, lengths: Mapping[str, int]) -> None:
    """Refuse arrays of unequal lengths, naming each.

    Raises:
        DatasetError: where they differ, or are 0.
    """
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DatasetError(f"{file}: its arrays have unequal lengths ({told}); one row of each is wanted")
    if not next(iter(lengths.values())):
        raise DatasetError(f"{file}: {next(iter(lengths))} is empty; at least one row is wanted")


def _column(file: Path, name: str, array: np.ndarray, remarks: list[str]) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        remarks.append(f"{name} has the shape [N, 1]; read as [N]")
        return array[:, 0]
    if array.ndim != 1:
        raise DatasetError(f"{file}: {name} has the shape {list(array.shape)}; one number a row is wanted")
    return array


def _single(name: str, array: np.ndarray, remarks: list[str]) -> np.ndarray:
    if array.dtype == np.float32:
        return array
    remarks.append(f"{name} has the type {array.dtype}; read as float32")
    with np.errstate(over="ignore"):  # What overflows becomes infinite, and that is refused later.
        return array.astype(np.float32)


def rewards(file: Path, name: str, array: np.ndarray, remarks: list[str]) -> np.ndarray:
    """Rewards f32[N].

    Raises:
        DatasetError: for another rank.
    """
    return _single(name, _column(file, name, array, remarks), remarks)


def flags(file: Path, name: str, array: np.ndarray, remarks: list[str]) -> np.ndarray:
    """Flags bool[N], which the file may hold as numbers.

    Raises:
        DatasetError: for another rank, or values other than 0 and 1.
    """
    array = _column(file, name, array, remarks)
    bad = np.flatnonzero((array != 0) & (array != 1))
    if len(bad):
        raise DatasetError(f"{file}: {name} is {array[bad[0]]} in row {bad[0]}; 0 or 1 is wanted")
    return array.astype(bool)


def observations(file: Path, name: str, array: np.ndarray, remarks: list[str]) -> np.ndarray:
    """Observations f32[N, ...] or u8[N, ...].

    Raises:
        DatasetError: for one number a row.
    """
    if array.ndim < 2:
        raise DatasetError(f"{file}: {name} has the shape {list(array.shape)}; [N, ...] is wanted")
    return array if array.dtype == np.uint8 else _single(name, array, remarks)


def actions(file: Path, name: str, array: np.ndarray, remarks: list[str]) -> np.ndarray:
    """Actions, f32[N, D] of real numbers or i32[N] of integers.

    Raises:
        DatasetError: for another rank, or integers beyond 32 bits.
    """
    if array.dtype.kind in "iu":
        array = _column(file, name, array, remarks)
        bad = np.flatnonzero((array < 0) | (array > np.iinfo(np.int32).max))
        if len(bad):
            raise DatasetError(f"{file}: {name} is {array[bad[0]]} in row {bad[0]}; a count from 0 is wanted")
        return array.astype(np.int32)
    if array.ndim != 2 or array.dtype.kind != "f":
        found = f"the shape {list(array.shape)} and the type {array.dtype}"
        raise DatasetError(f"{file}: {name} has {found}; real [N, D] or integer [N] is wanted")
    return _single(name, array, remarks)


def ends(
    terminal: np.ndarray, timeout: np.ndarray, limit_wins: bool, remarks: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """`discount` f32[N] and `truncated` bool[N].

    Where both flags are set `limit_wins` as in D4RL, or the termination, as gymnasium means it: its time
    limit is told of a last step that terminates, too.
    """
    both = np.count_nonzero(terminal & timeout)
    if both:
        kind = "time limits" if limit_wins else "terminations"
        remarks.append(f"{both} rows are terminal and at a time limit at once; read as {kind}")
    if limit_wins:
        terminal = terminal & ~timeout
    return 1 - terminal.astype(np.float32), timeout & ~terminal
