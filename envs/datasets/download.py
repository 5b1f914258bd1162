"""Published datasets, fetched only where that is asked for.

A file is tried at each of its addresses, taken up where an earlier try broke off, and gets its name
when it is whole. Its SHA-256 is compared with the published one; where none is published, the hash of
the first download is kept beside it, and later ones are held to that.
"""

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from envs.datasets.dataset import DatasetError
from valuelearn.errors import did_you_mean

_TRIES = 3  # At each address; every one goes on where the one before it broke off.
_TIMEOUT_SECONDS = 30.0
_BLOCK_BYTES = 1 << 20


class Source(NamedTuple):
    """Where a file is published."""

    file: str
    urls: tuple[str, ...]
    sha256: str | None = None


def _gym_mujoco(name: str) -> Source:
    env, _, quality = name.partition("-")
    file = f"{env}_{quality.removesuffix('-v2').replace('-', '_')}-v2.hdf5"
    hosts = (
        "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2",
        "https://huggingface.co/datasets/imone/D4RL/resolve/main",
    )
    return Source(file, tuple(f"{host}/{file}" for host in hosts))


D4RL = {
    name: _gym_mujoco(name)
    for env in ("halfcheetah", "hopper", "walker2d", "ant")
    for quality in ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
    for name in [f"{env}-{quality}-v2"]
}


def named(name: str) -> Source:
    """Where a dataset of D4RL's is published.

    Raises:
        DatasetError: for another name, with the nearest.
    """
    if name not in D4RL:
        known = f"there are {', '.join(D4RL)}"
        raise DatasetError(f"{name}: {did_you_mean(name, D4RL) or known}")
    return D4RL[name]


def folder() -> Path:
    """Where downloads are kept, as D4RL keeps them: D4RL_DATASET_DIR, or ~/.d4rl/datasets."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets")


def fetch(source: Source, into: Path, offline: bool = False, echo: Callable[[str], None] = print) -> Path:
    """The path of a published file in the folder `into`, downloaded where it is not yet there.

    Args:
        source: what to fetch.
        into: where to keep it.
        offline: whether to refuse rather than use the network.
        echo: what to tell of each try.

    Raises:
        DatasetError: where it cannot be had, naming every address that was tried and where to put
            the file by hand; or where the file that is there is not the one that it should be.
    """
    file = into / source.file
    by_hand = f"put the file at {file} by hand"
    if file.exists():
        if complaint := _complaint(file, _wanted_hash(source, file)):
            raise DatasetError(
                f"{file}: {complaint}; remove it, or {_hash_file(file).name} where it is right"
            )
        return file
    if offline:
        raise DatasetError(f"{file}: it is not there, and the network is not to be used; {by_hand}")
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{file}: cannot be written ({error.strerror})") from None
    failures = []
    for url in source.urls:
        # Mirrors may differ, so that each has a draft of its own.
        draft = file.with_name(f".{file.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
        echo(f"from {url}")
        try:
            _complete(url, draft)
        except _Failure as failure:
            failures.append(f"{url} ({failure})")
            continue
        if complaint := _complaint(draft, _wanted_hash(source, file)):
            draft.unlink()
            failures.append(f"{url} ({complaint})")
            continue
        _hash_file(file).write_text(f"{_sha256(draft)}  {file.name}\n")
        draft.replace(file)
        return file
    raise DatasetError(f"{file}: it could not be downloaded; tried {', '.join(failures)}; {by_hand}")


class _Failure(Exception):
    """Why an address did not give the file."""


def _complete(url: str, draft: Path) -> None:
    """Download what a draft lacks.

    Raises:
        _Failure: where the tries are used up, or none can help.
    """
    reason = ""
    for _ in range(_TRIES):
        try:
            _continue(url, draft)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 416:
                raise _Failure(f"{error.code} {error.reason}") from None
            if error.headers.get("Content-Range") == f"bytes */{draft.stat().st_size}":
                return  # It was whole already.
            draft.unlink()  # It is longer than the file, so it is of another one.
            reason = "its length changed"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
    raise _Failure(reason)


def _continue(url: str, draft: Path) -> None:
    start = draft.stat().st_size if draft.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise _Failure("a web page came in place of the file")
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        resumed = answer.status == 206 and told is not None and int(told[1]) == start
        if answer.status == 206 and not resumed:
            draft.unlink()  # The next try asks for all of it.
            raise OSError(f"a part came that does not go on from byte {start}")
        length = answer.headers.get("Content-Length")
        total = int(told[2]) if resumed and told else int(length) if length else None
        with draft.open("ab" if resumed else "wb") as out:
            shutil.copyfileobj(answer, out, _BLOCK_BYTES)
            size = out.tell()
    if total is not None and size != total:
        raise OSError(f"the connection ended after {size} of {total} bytes")


def _hash_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _wanted_hash(source: Source, file: Path) -> str | None:
    if source.sha256 is not None:
        return source.sha256
    with contextlib.suppress(FileNotFoundError):
        return _hash_file(file).read_text().partition(" ")[0]
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _complaint(file: Path, wanted: str | None) -> str | None:
    """What to say of a file whose hash is not the one that is wanted."""
    if wanted is None or (found := _sha256(file)) == wanted:
        return None
    return f"its SHA-256 is {found}, and {wanted} is wanted"
