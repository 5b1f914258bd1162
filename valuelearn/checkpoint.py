"""Parameters and whole runs on disk, through Orbax: written whole or not at all, and never pickled."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import orbax.checkpoint as ocp

from valuelearn.errors import UserError
from valuelearn.types import Params

# Orbax logs with a traceback what it raises as well.
logging.getLogger("absl").addFilter(lambda record: "_SignalingThread" not in record.getMessage())


class CheckpointError(UserError):
    """A folder that holds no parameters, or no state, of the wanted shape."""


class Saved(NamedTuple):
    """A checkpoint: a state and what is noted beside it."""

    state: Any
    notes: dict[str, Any]


def save_params(folder: Path, params: Params) -> None:
    """Write parameters to `folder`, replacing what it held."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), params, force=True)


def restore_params(folder: Path, like: Params) -> Params:
    """Parameters from `folder`, with the tree, shapes and types of `like`.

    Raises:
        CheckpointError: where the folder is missing or holds something else.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there are no saved parameters")
    # Where to put them is said, as they may have been saved from more devices than there are here.
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(folder.absolute(), template)
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder}: these are not the parameters of the config beside them") from error


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain(state: Any) -> Any:
    """The state with random keys as the numbers that they are made of."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run that is finished."""
    shutil.rmtree(folder, ignore_errors=True)  # They may be gone already.


def _layout(state: Any) -> dict[str, str]:
    """The name, shape and type of every leaf."""
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


class Checkpoints:
    """The last `keep` checkpoints of a run, in folders named by their step.

    Each is written under another name and renamed once it is whole, and only then are older ones
    removed: a process may be killed at any moment.
    """

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        """Open a folder, made if it is not there; `keep` None removes nothing."""
        # Written in the foreground: the next chunk takes the state's buffers.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, state: Any, notes: Mapping[str, Any]) -> None:
        """Write the state at `step` and JSON values beside it.

        Raises:
            CheckpointError: where the disk does not take it; older checkpoints stay.
        """
        parts = ocp.args.Composite(
            state=ocp.args.StandardSave(_plain(state)),
            notes=ocp.args.JsonSave(dict(notes)),
            layout=ocp.args.JsonSave(_layout(state)),
        )
        try:
            self._manager.save(step, args=parts)
        except (OSError, ValueError) as error:
            for draft in self._folder.glob(f"{step}.*tmp*"):
                shutil.rmtree(draft, ignore_errors=True)  # What it takes of a full disk is of no use.
            reason = str(error).rpartition(": ")[2]
            raise CheckpointError(f"{self._folder}: step {step} cannot be saved ({reason})") from error

    def restore(self, like: Any) -> Saved | None:
        """The newest checkpoint, with the tree, shapes and types of `like`; None where there is none.

        Raises:
            CheckpointError: where it holds something else.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        place = self._folder / str(step)
        json, template = ocp.args.JsonRestore(), jax.eval_shape(_plain, like)
        try:
            found = self._manager.restore(step, args=ocp.args.Composite(notes=json, layout=json))
            for name, wanted in _layout(like).items():
                if (held := found.layout.get(name, "nothing")) != wanted:
                    raise CheckpointError(
                        f"{place}: it holds {held} for {name}, and the config asks for {wanted}"
                    )
            parts = ocp.args.Composite(state=ocp.args.StandardRestore(template))
            state = self._manager.restore(step, args=parts).state
        except (KeyError, OSError) as error:
            raise CheckpointError(f"{place}: this is not a whole checkpoint ({error})") from error
        keyed = jax.tree.map(
            lambda x, as_wanted: jax.random.wrap_key_data(x) if _is_key(as_wanted) else x, state, like
        )
        return Saved(keyed, found.notes)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the folder."""
        self._manager.close()
