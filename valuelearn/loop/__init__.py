"""The training loop: collect, remember, update, in compiled chunks.

One iteration makes `steps_per_iteration` vector steps and then `updates_per_iteration` updates.
A functional environment's iterations run inside one compiled loop, several seeds at once under
`vmap`, spread over the devices, each over several of them where asked for. A host environment is stepped
while the device updates on what was collected before: one iteration of policy lag, always the same, so that
runs stay deterministic. On a recorded dataset there are updates alone, of several seeds at once.
All give chunks (`Chunk`) of the same kind, and everything else (logs, evaluation, saving) happens between
chunks.
"""

from valuelearn.loop.functional import init_functional, initial_functional, train_functional
from valuelearn.loop.host import initial_host, train_host
from valuelearn.loop.offline import initial_offline, train_offline
from valuelearn.loop.parts import Chunk, RunState, Schedule, empty_trajectory, initial_timestep, updates_of
from valuelearn.loop.placement import Division, mesh_for

__all__ = [
    "Chunk",
    "Division",
    "RunState",
    "Schedule",
    "empty_trajectory",
    "init_functional",
    "initial_functional",
    "initial_host",
    "initial_offline",
    "initial_timestep",
    "mesh_for",
    "train_functional",
    "train_host",
    "train_offline",
    "updates_of",
]
