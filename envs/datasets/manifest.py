"""What our own files say of themselves: notes, and a hash by which damage is seen."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets.dataset import DatasetError

ATTRIBUTE = "valuelearn"
_VERSION = 1


def digest(columns: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the names, types, shapes and bytes of arrays, in the order of their names."""
    hashed = hashlib.sha256()
    for name in sorted(columns):
        array = np.ascontiguousarray(columns[name])
        hashed.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        hashed.update(array.data)
    return hashed.hexdigest()


def made(file: Path, notes: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> str:
    """The manifest of arrays, as JSON.

    Raises:
        DatasetError: where the notes hold what JSON cannot.
    """
    return dumped(file, {"version": _VERSION, "sha256": digest(columns), "notes": notes})


def dumped(file: Path, value: Any) -> str:
    """A value as JSON.

    Raises:
        DatasetError: where it holds what JSON cannot, NaN included.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{file}: its notes cannot be written as JSON ({error})") from None


def parsed(file: Path, name: str, text: Any) -> dict[str, Any]:
    """A JSON object from a text.

    Raises:
        DatasetError: for anything else.
    """
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: {name} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DatasetError(f"{file}: {name} is {type(value).__name__}; a JSON object is wanted")
    return value


def read(file: Path, attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest in a file's attributes; None where there is none.

    Raises:
        DatasetError: where it is not what `made` makes.
    """
    if ATTRIBUTE not in attributes:
        return None
    told = parsed(file, f"the attribute {ATTRIBUTE}", attributes[ATTRIBUTE])
    if told.get("version") != _VERSION or not isinstance(told.get("notes"), dict):
        found = f"its manifest has version {told.get('version')!r}"
        raise DatasetError(f"{file}: {found}; version {_VERSION} with notes is wanted")
    return told


def verify(file: Path, told: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that are not those of which the manifest was made.

    Raises:
        DatasetError: naming both hashes.
    """
    found = digest(columns)
    if found != told.get("sha256"):
        raise DatasetError(
            f"{file}: its arrays have the SHA-256 {found[:12]}..., and its manifest says "
            f"{str(told.get('sha256'))[:12]}...; it was changed or damaged"
        )
