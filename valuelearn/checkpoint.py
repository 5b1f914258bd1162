"""Parameters and whole runs on disk, through Orbax: written whole or not at all, and never pickled."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import orbax.checkpoint as ocp

from valuelearn import fingerprint
from valuelearn.errors import UserError
from valuelearn.random_keys import keyed, plain
from valuelearn.types import Params

# Orbax logs with a traceback what it raises as well, and damage that is told in a sentence here.
_TOLD = ("_SignalingThread", "Metadata file")
logging.getLogger("absl").addFilter(lambda record: not any(text in record.getMessage() for text in _TOLD))


_DIGESTS = "sha256.json"
_NOTES = "(notes)"  # Their digest, beside the fingerprints of arrays.
# Of several hosts the first alone writes and reads: Orbax is not to wait for the others.
_ALONE = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
_ROOM_BESIDE = 500_000  # Bytes of a checkpoint beside its arrays, in many small files.


class CheckpointError(UserError):
    """A folder that holds no parameters, or no state, of the wanted shape."""


class DamagedError(CheckpointError):
    """A checkpoint that is not what was written."""


class Saved(NamedTuple):
    """A checkpoint: a state and what is noted beside it."""

    state: Any
    notes: dict[str, Any]
    passed_over: tuple[str, ...] = ()  # What is wrong with newer ones, a sentence each.


def save_params(folder: Path, params: Params) -> None:
    """Write parameters to `folder`, replacing what it held.

    Raises:
        CheckpointError: where the disk does not take them.
    """
    try:
        _check_room(folder.parent, params)
        with ocp.StandardCheckpointer(multiprocessing_options=_ALONE) as checkpointer:
            checkpointer.save(folder.absolute(), params, force=True)
    except (OSError, ValueError) as error:
        _remove_drafts(folder.parent, folder.name)
        raise CheckpointError(f"{folder}: parameters cannot be saved ({_reason(error)})") from error


def _check_room(folder: Path, tree: Any) -> None:
    """Raise OSError where a disk has no room for a tree; Orbax, out of room half-way, may never come back."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sum(x.nbytes for x in jax.tree.leaves(tree)) + _ROOM_BESIDE
    if (free := shutil.disk_usage(folder).free) < wanted:
        raise OSError(f"{wanted / 1e6:.1f} MB are wanted on the disk and {free / 1e6:.1f} are free")


def _remove_drafts(folder: Path, name: str) -> None:
    """What a save that failed has left; what it takes of a full disk is of no use."""
    for draft in folder.glob(f"{name}.*tmp*"):
        shutil.rmtree(draft, ignore_errors=True)


def _reason(error: Exception) -> str:
    """What the disk said, without the places in Orbax that it came through."""
    return str(error).strip().rpartition(": ")[2].partition(" [")[0]


def restore_params(folder: Path, like: Params) -> Params:
    """Parameters from `folder`, with the tree, shapes and types of `like`.

    Raises:
        CheckpointError: where the folder is missing or holds something else.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there are no saved parameters")
    try:
        with ocp.StandardCheckpointer(multiprocessing_options=_ALONE) as checkpointer:
            return checkpointer.restore(folder.absolute(), _here(like))
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder}: these are not the parameters of the config beside them") from error


def _here(like: Any) -> Any:
    """What to restore and where, as it may have been saved from more devices than there are here."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)


def params_fingerprints(folder: Path) -> dict[str, str]:
    """The fingerprints of saved parameters, whatever they are, by name.

    Raises:
        CheckpointError: where the folder holds something else.
    """
    try:
        with ocp.StandardCheckpointer(multiprocessing_options=_ALONE) as checkpointer:
            like = checkpointer.metadata(folder.absolute()).item_metadata.tree
            return fingerprint.texts(checkpointer.restore(folder.absolute(), _here(like)))
    except Exception as error:  # Orbax raises whatever its many parts raise.
        raise CheckpointError(f"{folder}: these are not saved parameters") from error


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run that is finished."""
    shutil.rmtree(folder, ignore_errors=True)  # They may be gone already.


def _layout(state: Any) -> dict[str, str]:
    """The name, shape and type of every leaf."""
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def _digests(place: Path) -> dict[str, str]:
    """The SHA-256 of every file of a checkpoint but their list."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_file() and path.name != _DIGESTS:
            with path.open("rb") as file:
                found[path.relative_to(place).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _digest_of(notes: Mapping[str, Any]) -> str:
    """The SHA-256 of notes as JSON."""
    return hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest()


def _check_files(place: Path) -> None:
    """Refuse a checkpoint whose files are not those that were written.

    Where its process was killed before it had listed them, arrays and notes are checked once they are read.
    """
    listed = place / _DIGESTS
    if not listed.exists():
        return
    try:
        wanted, found = dict(json.loads(listed.read_text())), _digests(place)
    except (OSError, TypeError, ValueError) as error:
        raise DamagedError(f"{listed}: this is not the list of files that was written ({error})") from None
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            change = "is not as it was written" if name in found else "is gone"
            raise DamagedError(f"{place}: this checkpoint is damaged: {name} {change}")


class Checkpoints:
    """The last `keep` checkpoints of a run, in folders named by their step.

    Each is written under another name and renamed once it is whole, and only then are older ones
    removed: a process may be killed at any moment.
    """

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        """Open a folder, made if it is not there; `keep` None removes nothing, half-written ones neither."""
        # Written in the foreground: the next chunk takes the state's buffers.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=keep is not None,  # Who removes nothing may be a reader of a live run.
            create=False,
            multiprocessing_options=_ALONE,
        )
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, state: Any, notes: Mapping[str, Any]) -> None:
        """Write the state at `step` and JSON values beside it.

        Raises:
            CheckpointError: where the disk does not take it; older checkpoints stay.
        """
        numbers = plain(state)
        if jax.process_count() > 1:  # Of one host's own arrays Orbax then takes NumPy's alone.
            numbers = jax.device_get(numbers)
        parts = ocp.args.Composite(
            state=ocp.args.StandardSave(numbers),
            notes=ocp.args.JsonSave(dict(notes)),
            layout=ocp.args.JsonSave(_layout(state)),
            fingerprints=ocp.args.JsonSave(fingerprint.texts(state) | {_NOTES: _digest_of(notes)}),
        )
        place = self._folder / str(step)
        try:
            _check_room(self._folder, numbers)
            self._manager.save(step, args=parts)
            draft = self._folder / f".{step}.{_DIGESTS}"  # Half a list would speak against a good checkpoint.
            draft.write_text(json.dumps(_digests(place), indent=1))
            draft.replace(place / _DIGESTS)
        except (OSError, ValueError) as error:
            _remove_drafts(self._folder, str(step))
            raise CheckpointError(
                f"{self._folder}: step {step} cannot be saved ({_reason(error)})"
            ) from error

    def restore(self, like: Any) -> Saved | None:
        """The newest checkpoint that is whole, with the tree, shapes and types of `like`; None without any.

        Those that are damaged are put aside, as `damaged-STEP`.

        Raises:
            CheckpointError: where it holds something else, or all are damaged.
        """
        passed_over: list[str] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved = self._restored(step, like)
            except DamagedError as error:
                passed_over.append(str(error))
                place = self._folder / str(step)
                aside = place.with_name(f"damaged-{step}")
                shutil.rmtree(aside, ignore_errors=True)  # Of the same step, saved once more.
                place.rename(aside)
                continue
            self._manager.reload()
            return saved._replace(passed_over=tuple(passed_over))
        if passed_over:
            raise CheckpointError(f"{passed_over[0]}; there is no other that is whole")
        return None

    def fingerprints(self) -> dict[int, dict[str, str]]:
        """The fingerprints of each checkpoint's arrays by name, of every step that there is.

        Raises:
            CheckpointError: where one is damaged.
        """
        found = {}
        for step in self._manager.all_steps():
            _check_files(self._folder / str(step))
            parts = ocp.args.Composite(fingerprints=ocp.args.JsonRestore())
            found[step] = self._manager.restore(step, args=parts).fingerprints
            found[step].pop(_NOTES, None)
        return found

    def _restored(self, step: int, like: Any) -> Saved:
        place = self._folder / str(step)
        _check_files(place)
        texts, template = ocp.args.JsonRestore(), jax.eval_shape(plain, like)
        notes = ocp.args.Composite(notes=texts, layout=texts, fingerprints=texts)
        try:
            found = self._manager.restore(step, args=notes)
            if found.fingerprints.pop(_NOTES, None) != _digest_of(found.notes):
                raise DamagedError(f"{place}: this checkpoint is damaged: its notes are not what was saved")
            for name, wanted in _layout(like).items():
                if (held := found.layout.get(name, "nothing")) != wanted:
                    raise CheckpointError(
                        f"{place}: it holds {held} for {name}, and the config asks for {wanted}"
                    )
            parts = ocp.args.Composite(state=ocp.args.StandardRestore(template))
            state = self._manager.restore(step, args=parts).state
        except CheckpointError:
            raise
        except Exception as error:  # Orbax raises whatever its many parts raise.
            reason = " ".join(str(error).split())[:200]
            raise DamagedError(f"{place}: this is not a whole checkpoint ({reason})") from error
        state = keyed(state, like)
        for name, held in fingerprint.texts(state).items():
            if held != found.fingerprints.get(name):
                raise DamagedError(f"{place}: this checkpoint is damaged: {name} is not what was saved")
        return Saved(state, found.notes)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the folder."""
        self._manager.close()
