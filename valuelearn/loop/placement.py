"""Where the arrays of a run lie: seeds over devices, and what belongs to one seed over several.

The mesh has a row for each share of the seeds, and along it the devices that one seed is computed on. Over
rows the program is written for one share (`each_share`); along a row it is written as for one device, and
the compiler splits it, since environments, what is remembered of them, and batches lie in parts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.multihost_utils import global_array_to_host_local_array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from valuelearn.loop.parts import RunState
from valuelearn.random_keys import keyed, plain
from valuelearn.types import LearnerState, Memory, Sample, Trajectory

_SEEDS, _DATA = "seeds", "data"
EVERYWHERE, BY_SEED = PartitionSpec(), PartitionSpec(_SEEDS)
_TOGETHER = "together"  # The seeds of one share.
_CRITICS = "critics"  # The key of an ensemble of critics in parameters, and in what is kept of them.


class Division(NamedTuple):
    """How one seed is computed; the devices of an ensemble of critics have some of these each, or all."""

    devices: int = 1  # Of each host.
    critics: bool = False  # Whether they share the critics, and learn from whole batches.


def mesh_for(seeds: int, devices: int = 1) -> Mesh:
    """As many shares as divide the seeds, of so many `devices` each; of several hosts one share, with all.

    Raises:
        ValueError: where this process has fewer.
    """
    there = jax.local_devices()
    if devices > len(there):
        raise ValueError(f"{devices} devices are wanted, and there are {len(there)}")
    if (hosts := jax.process_count()) > 1:
        found = [jax.local_devices(process_index=host)[:devices] for host in range(hosts)]
        return Mesh(np.asarray(found).reshape(1, hosts * devices), (_SEEDS, _DATA))
    shares = max(count for count in range(1, len(there) // devices + 1) if seeds % count == 0)
    return Mesh(np.asarray(there[: shares * devices]).reshape(shares, devices), (_SEEDS, _DATA))


def _parts(mesh: Mesh) -> int:
    return mesh.shape[_DATA]


def agreed(holds: jax.Array) -> jax.Array:
    """Whether it holds of all seeds of this share: one answer, which a loop over all of them can end by."""
    return jax.lax.pmin(holds.astype(np.int32), _TOGETHER) > 0


def each_share(function: Callable, mesh: Mesh, in_axes: tuple[int | None, ...]) -> Callable:
    """The function of one seed for all seeds, which have to be `agreed` within a share; 0 for arguments of
    each seed, None for those that all have alike."""
    # Unchecked: loops start from constants, which every device has alike, and carry what is each one's own.
    return jax.shard_map(
        jax.vmap(function, in_axes, axis_name=_TOGETHER),
        mesh=mesh,
        in_specs=tuple(EVERYWHERE if axis is None else BY_SEED for axis in in_axes),
        out_specs=BY_SEED,
        axis_names={_SEEDS},
        check_vma=False,
    )


def _split(x: Any, mesh: Mesh, lead: tuple[str, ...]) -> NamedSharding:
    """In parts by the axis that follows the leading ones, where that can be divided."""
    parts = x.ndim > len(lead) and x.shape[len(lead)] % _parts(mesh) == 0
    return NamedSharding(mesh, PartitionSpec(*lead, _DATA) if parts else PartitionSpec(*lead))


def place_learner(learner: LearnerState, mesh: Mesh, division: Division, seeds: bool = True) -> LearnerState:
    """Where each array of a learner lies; with `seeds` they have an axis of those before all others."""
    lead = (_SEEDS,) if seeds else ()

    def one(path: tuple, x: Any) -> NamedSharding:
        of_critics = any(getattr(step, "key", None) == _CRITICS for step in path)
        member = division.critics and of_critics
        return _split(x, mesh, lead) if member else NamedSharding(mesh, PartitionSpec(*lead))

    return jax.tree.map_with_path(one, learner)


def place(state: RunState, mesh: Mesh, division: Division, seeds: bool = True) -> RunState:
    """Where each array of a run's state lies; with `seeds` they have an axis of those before all others."""
    lead = (_SEEDS,) if seeds else ()
    whole = NamedSharding(mesh, PartitionSpec(*lead))
    key, env_steps = jax.tree.map(lambda x: whole, (state.key, state.env_steps))
    kept = state.memory, state.env, state.obs
    memory, env, obs = jax.tree.map(lambda x: _split(x, mesh, lead), kept)
    return RunState(place_learner(state.learner, mesh, division, seeds), memory, env, obs, key, env_steps)


def put(state: Any, placed: Any) -> Any:
    """The state, or a part of it, which every host holds whole, where it is to lie."""
    if jax.process_count() == 1:
        return jax.device_put(state, placed)

    def one(x: Any, where: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(x.shape, where, lambda index: x[index])

    return keyed(jax.tree.map(one, plain(state), placed), state)


def by_copy(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """In parts by copies of the environment, which lie along `axis`."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, _DATA))


def joined(tree: Any, mesh: Mesh, axis: int = 0) -> Any:
    """What each host holds of its own environments, whose copies lie along `axis`, as that of all hosts."""
    if jax.process_count() == 1:
        return tree
    where = by_copy(mesh, axis)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(where, x), tree)


def own_part(x: jax.Array, mesh: Mesh) -> np.ndarray:
    """What this host holds of an array that lies in parts by copies of the environment."""
    return np.asarray(global_array_to_host_local_array(x, mesh, by_copy(mesh).spec))


def in_parts(memory: Memory, mesh: Mesh, division: Division) -> Memory:
    """The memory, whose batches lie in parts over the devices of a seed where each learns from its own."""
    if _parts(mesh) == 1 or division.critics:
        return memory

    def sample(state: Any, key: jax.Array) -> Sample | Trajectory:
        found = memory.sample(state, key)
        # The environments of a rollout, whose first axis is time.
        spec = PartitionSpec(None, _DATA) if isinstance(found, Trajectory) else PartitionSpec(_DATA)
        within = jax.sharding.get_abstract_mesh()  # Of `each_share`, whose program is for one share alone.
        parts = NamedSharding(mesh if within.empty else within, spec)
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, parts), found)

    return memory._replace(sample=sample)
