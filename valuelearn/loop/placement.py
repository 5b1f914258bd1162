"""Where the arrays of a run lie: seeds over devices, and what belongs to one seed over several.

The mesh has a row for each share of the seeds, and along it the devices that one seed is computed on. Over
rows the program is written for one share (`each_share`); along a row it is written as for one device, and
the compiler splits it, since environments, what is remembered of them, and batches lie in parts.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from valuelearn.loop.parts import RunState
from valuelearn.types import Memory, Sample, Trajectory

_SEEDS, _DATA = "seeds", "data"
EVERYWHERE, BY_SEED = PartitionSpec(), PartitionSpec(_SEEDS)
_TOGETHER = "together"  # The seeds of one share.


def mesh_for(seeds: int, devices: int = 1) -> Mesh:
    """As many shares as divide the seeds, of so many `devices` each.

    Raises:
        ValueError: where this process has fewer.
    """
    there = jax.local_devices()
    if devices > len(there):
        raise ValueError(f"{devices} devices are wanted, and there are {len(there)}")
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


def place(state: RunState, mesh: Mesh, seeds: bool = True) -> RunState:
    """Where each array of a run's state lies; with `seeds` they have an axis of those before all others."""
    lead = (_SEEDS,) if seeds else ()

    def split(x: Any) -> NamedSharding:
        parts = x.ndim > len(lead) and x.shape[len(lead)] % _parts(mesh) == 0
        return NamedSharding(mesh, PartitionSpec(*lead, _DATA) if parts else PartitionSpec(*lead))

    whole = NamedSharding(mesh, PartitionSpec(*lead))
    learner, key, env_steps = jax.tree.map(lambda x: whole, (state.learner, state.key, state.env_steps))
    memory, env, obs = jax.tree.map(split, (state.memory, state.env, state.obs))
    return RunState(learner, memory, env, obs, key, env_steps)


def in_parts(memory: Memory, mesh: Mesh) -> Memory:
    """The memory, whose batches lie in parts over the devices of a seed."""
    if _parts(mesh) == 1:
        return memory

    def sample(state: Any, key: jax.Array) -> Sample | Trajectory:
        found = memory.sample(state, key)
        # The environments of a rollout, whose first axis is time.
        spec = PartitionSpec(None, _DATA) if isinstance(found, Trajectory) else PartitionSpec(_DATA)
        within = jax.sharding.get_abstract_mesh()  # Of `each_share`, whose program is for one share alone.
        parts = NamedSharding(mesh if within.empty else within, spec)
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, parts), found)

    return memory._replace(sample=sample)
