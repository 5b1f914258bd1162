"""What a run leaves behind.

A run folder holds `config.yaml` (every value written out), `versions.json`, `metrics.csv` (what
the seed determines), `fingerprints.csv` (of every array of the run's state, at every row of metrics),
`timing.csv` (what the machine determines), TensorBoard events, `curve.png`, the final parameters and the
`sha256.json` of the tables; until it is finished, checkpoints. Tables are flushed at every row.
"""

from valuelearn.logs.files import (
    LOCK,
    RunFolderError,
    check_new_file,
    check_new_folder,
    held,
    write_animation,
    write_table,
    write_whole,
)
from valuelearn.logs.folder import Offsets, RunFolder, make_folder
from valuelearn.logs.metrics import (
    clock,
    per_million_frames,
    read_metrics,
    read_timing,
    training_return,
    within,
)
from valuelearn.logs.tables import METRICS, TIMING, Written, check_seal, seal
from valuelearn.logs.versions import versions

__all__ = [
    "LOCK",
    "METRICS",
    "TIMING",
    "Offsets",
    "RunFolder",
    "RunFolderError",
    "Written",
    "check_new_file",
    "check_new_folder",
    "check_seal",
    "clock",
    "held",
    "make_folder",
    "per_million_frames",
    "read_metrics",
    "read_timing",
    "seal",
    "training_return",
    "versions",
    "within",
    "write_animation",
    "write_table",
    "write_whole",
]
