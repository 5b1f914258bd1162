"""Parameters on disk, through Orbax: written whole or not at all, and never pickled."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from valuelearn.errors import UserError
from valuelearn.types import Params


class CheckpointError(UserError):
    """A folder that holds no parameters of the wanted shape."""


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
    template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(folder.absolute(), template)
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder}: these are not the parameters of the config beside them") from error
