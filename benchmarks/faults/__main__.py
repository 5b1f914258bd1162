"""Do to runs, datasets and folders what happens to them in the world, and look whether anything is lost.

    python -m benchmarks.faults [--share 1.0] [--kinds "disk full" ...] [--out FILE.json]

Every fault is one try of a kind, at a random moment or place; after it the run must go on to the same end as
one that was left alone, byte for byte, or whoever asked must hear one sentence (exit code 2). All else is a
loss: other numbers, a traceback, a run that cannot be taken up. `--share` takes a part of the tries of each
kind, at least one.

Bar: 0 losses.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults import damage, disks, environments, kills, rest
from benchmarks.faults.ground import Ground, Outcome, lost


class Kind(NamedTuple):
    """A kind of fault."""

    tries: int
    fault: Callable[[Ground, random.Random], Outcome]
    must: str  # What must happen.


KINDS = {
    "killed while it learns": Kind(30, kills.training, "resumed, the same metrics and parameters"),
    "killed while it saves": Kind(30, kills.saving, "resumed, the same metrics and parameters"),
    "asked to stop": Kind(8, kills.stopping, "saves itself, exit code 130; resumed, the same"),
    "killed in a sweep": Kind(6, kills.sweep, "the same command goes on; the same scores"),
    "killed while datasets are made": Kind(8, kills.recording, "the same command makes the same bytes"),
    "disk full": Kind(16, disks.full, "one sentence or a warning; with room, resumed, the same"),
    "folder read-only": Kind(10, disks.read_only, "one sentence; writable, resumed, the same"),
    "checkpoint damaged": Kind(40, damage.checkpoint, "said; from the one before, the same"),
    "all checkpoints damaged": Kind(6, damage.all_checkpoints, "one sentence"),
    "dataset damaged": Kind(40, damage.dataset, "one sentence, or read as it was written"),
    "table damaged": Kind(40, damage.table, "one sentence, or what is made of it is the same"),
    "environment fails": Kind(12, environments.faulty, "one sentence; mended, the run goes on"),
    "two processes in one folder": Kind(8, rest.two_processes, "one is refused; the other is the same run"),
    "clock goes backwards": Kind(4, rest.clock, "killed and resumed, the same"),
    "too much memory asked": Kind(8, rest.memory, "one sentence"),
}
_ROOT = ("disk full", "folder read-only")


def _try(kind: str, index: int, seed: int, ground: Ground) -> Outcome:
    try:
        return KINDS[kind].fault(ground, random.Random(f"{kind} {index} {seed}"))
    except Exception as error:  # A try that cannot be made counts as a loss, not as a try less.
        return lost(f"the try itself failed: {type(error).__name__}: {error}")


def main() -> None:
    """Raise the storm and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the tries of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="of moments and places")
    parser.add_argument("--jobs", type=int, default=2, help="tries at once")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    # Launches are many and programs few.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    rows = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        ground = Ground(Path(folder) / "ground")
        for kind in options.kinds:
            if kind in _ROOT and not disks.can_mount():
                print(f"{kind}: left out, as mounting a small disk needs root")
                continue
            start = time.perf_counter()
            tries = max(round(options.share * KINDS[kind].tries), 1)
            found = [pool.submit(_try, kind, index, options.seed, ground) for index in range(tries)]
            outcomes = [future.result() for future in found]
            counts = Counter(outcome.verdict for outcome in outcomes)
            row = {
                "kind": kind,
                "must": KINDS[kind].must,
                "tries": tries,
                "went on": counts["went on"],
                "refused": counts["refused"],
                "lost": counts["lost"],
                "seconds": round(time.perf_counter() - start),
                "losses": [outcome.told for outcome in outcomes if outcome.verdict == "lost"],
                "examples": sorted({outcome.told for outcome in outcomes if outcome.verdict != "lost"})[:3],
            }
            rows.append(row)
            told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("went on", "refused", "lost"))
            print(f"{kind}: {tries} tries, {told}", flush=True)
            for told in row["losses"]:
                print(f"    {told}")
    tries, losses = sum(row["tries"] for row in rows), sum(row["lost"] for row in rows)
    if options.out:
        options.out.write_text(json.dumps({"seed": options.seed, "kinds": rows}, indent=1) + "\n")
    seconds = time.perf_counter() - begun
    print(f"faults: {tries} tries of {len(rows)} kinds, {losses} lost, {seconds:.0f} s")
    raise SystemExit(losses > 0)


if __name__ == "__main__":
    main()
