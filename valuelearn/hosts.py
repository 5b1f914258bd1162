"""One run on several hosts: a process on each, which all go through the same program in the same order.

Arrays lie in parts over the devices of all of them; the first host alone reads and writes the run's folder.
"""

import atexit
import contextlib
import itertools
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from valuelearn.errors import UserError
from valuelearn.random_keys import keyed, plain

COORDINATOR, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID"
_CALLS = itertools.count()
_PATIENCE = 600  # Seconds that hosts wait for one another.
_LOST = re.compile(
    "gloo|nccl|peer|barrier|coordination", re.IGNORECASE
)  # In what JAX says of others that ended.


class HostError(UserError):
    """Hosts that do not find one another, or lose one another."""


def join(hosts: int, devices: int) -> None:
    """Meet the others, before the first array is made, with so many devices each; one host meets nobody.

    Where they meet, and which of them this is, a scheduler that JAX knows tells (Slurm, Open MPI,
    Kubernetes), or else the environment.

    Raises:
        HostError: where neither tells, or the others do not come.
    """
    if hosts == 1 or jax.distributed.is_initialized():
        return
    number = os.environ.get(NUMBER)
    try:
        jax.distributed.initialize(
            num_processes=hosts,
            process_id=None if number is None else int(number),
            # Slurm would have each process see one GPU alone, that of its number on its machine.
            local_device_ids=list(range(devices)) if devices > 1 else None,
            initialization_timeout=_PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise HostError(
            f"parallel.hosts = {hosts}: the hosts do not find one another "
            f"({' '.join(str(error).split())[:200]}); start them under a scheduler, or with {COORDINATOR} "
            f"the first one's ADDRESS:PORT and {NUMBER} 0 to {hosts - 1}"
        ) from error
    atexit.register(_desert)  # Before what JAX registered.


def leave() -> None:
    """Part from the others, once all have come this far; a process that ends without it has failed."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def _desert() -> None:
    """End at once where this host alone could not go on: JAX would wait for the others, and they for it."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What hosts do together; where one of them has ended, the others hear a sentence.

    Raises:
        HostError: in the place of what JAX raises then.
    """
    try:
        yield
    except UserError:
        raise
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        if not jax.distributed.is_initialized() or _LOST.search(text) is None:
            raise
        raise HostError(f"another host has ended, and says why ({text[:200]})") from error


def first() -> bool:
    """Whether this host is the one that reads and writes."""
    return jax.process_index() == 0


def wait() -> None:
    """Until all hosts have come this far; what passes arrays between them gives up after half a minute."""
    multihost.get_barrier_sync_fn()(key=f"wait_{next(_CALLS)}", timeout_ms=1000 * _PATIENCE)


def from_each(tree: Any) -> Any:
    """The numbers of every host, [hosts, ...], on all of them, who have to ask."""
    if jax.process_count() == 1:
        return jax.tree.map(lambda x: np.asarray(x)[None], tree)
    return multihost_utils.process_allgather(tree)


def any_of(flag: bool) -> bool:
    """Whether it is so on any of the hosts, all of which have to ask."""
    return bool(from_each(np.array(flag)).any())


def whole(tree: Any) -> Any:
    """The arrays of a tree in the memory of each host, all of which have to ask."""
    if jax.process_count() == 1:
        return tree
    return keyed(multihost_utils.process_allgather(plain(tree), tiled=True), tree)


def from_first(tree: Any) -> Any:
    """The first host's arrays on all of them, who have to give some of the same shapes."""
    if jax.process_count() == 1:
        return tree
    wait()
    return keyed(multihost_utils.broadcast_one_to_all(plain(tree)), tree)
