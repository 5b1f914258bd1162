"""Files that are not what was written: bits that flipped, ends that are gone."""

import random
import shutil
from pathlib import Path

import jax
import numpy as np

from benchmarks.faults.ground import DATASETS, Ground, Outcome, checkpoints, lost, refused, run
from envs import datasets


def _harm(file: Path, chance: random.Random) -> str:
    """Change a file in some way; says in which."""
    data = bytearray(file.read_bytes())
    way = chance.choice(("a bit", "a bit", "cut", "empty", "gone", "other"))
    match way:
        case "a bit" if data:
            at = chance.randrange(8 * len(data))
            data[at // 8] ^= 1 << at % 8
            file.write_bytes(data)
            return f"bit {at} of {file.name} flipped"
        case "cut" if data:
            size = chance.randrange(len(data))
            file.write_bytes(data[:size])
            return f"{file.name} cut to {size} bytes"
        case "other" if data:
            file.write_bytes(chance.randbytes(len(data)))
            return f"{file.name} overwritten"
        case "gone":
            file.unlink()
            return f"{file.name} gone"
    file.write_bytes(b"")
    return f"{file.name} empty"


def checkpoint(ground: Ground, chance: random.Random) -> Outcome:
    """A file of the newest checkpoint is damaged: said, and the one before it is taken."""
    folder = ground.copy(ground.halfway("inside"))
    ground.alone("inside")
    newest = checkpoints(folder)[-1]
    file = chance.choice([path for path in sorted(newest.rglob("*")) if path.is_file()])
    listed = (newest / "sha256.json").exists()  # Otherwise what is not an array or a note may go unseen.
    harmed = _harm(file, chance)
    if listed and harmed != "sha256.json gone":
        ended = run("resume", folder)
        if f"{newest.name}: this checkpoint is damaged" not in ended.text and file.name not in ended.text:
            return lost(f"{harmed}, and nothing was said", ended)
    return ground.ends_as_alone("inside", folder, harmed)


def all_checkpoints(ground: Ground, chance: random.Random) -> Outcome:
    """All checkpoints are damaged: nothing is made up, and one sentence says so."""
    folder = ground.copy(ground.halfway("inside"))
    for place in checkpoints(folder):
        largest = max(
            (path for path in place.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
        )
        data = bytearray(largest.read_bytes())
        data[chance.randrange(len(data))] ^= 1
        largest.write_bytes(data)
    return refused(run("resume", folder), str(folder))


def dataset(ground: Ground, chance: random.Random) -> Outcome:
    """A dataset is damaged: refused, or what is read is what was written."""

    def make(out: Path) -> None:
        ended = run("dataset", "make", *DATASETS, "--quality", "random", "--rows", "400", "--out", out)
        assert ended.code == 0, ended.text

    reference = ground.once("dataset", make) / "random.hdf5"
    file = ground.place() / "random.hdf5"
    shutil.copy(reference, file)
    harmed = _harm(file, chance)
    ended = run("dataset", "info", file)
    if ended.code == 0:
        read, written = datasets.load(file), datasets.load(reference)
        same = (
            jax.tree.all(jax.tree.map(np.array_equal, read[:-1], written[:-1]))
            and read.notes == written.notes
        )
        return Outcome("went on", harmed) if same else lost(f"{harmed}: read, and not as it was", ended)
    found = refused(ended, str(file))
    return found._replace(told=f"{harmed}: {found.told}")


def table(ground: Ground, chance: random.Random) -> Outcome:
    """A table of a run is damaged: refused where it is read, or as good as before."""
    name, command = chance.choice(
        (
            ("metrics.csv", "plot"),
            ("metrics.csv", "resume"),
            ("fingerprints.csv", "verify"),
            ("fingerprints.csv", "resume"),
            ("timing.csv", "resume"),
            ("versions.json", "resume"),
        )
    )
    whole = ground.alone("inside")
    folder = ground.copy(ground.halfway("inside") if command == "resume" else whole)
    harmed = _harm(folder / name, chance)
    more: dict[str, tuple[str | Path, ...]] = {"verify": (whole,), "plot": ("--out", folder / "out.png")}
    ended = run(command, folder, *more.get(command, ()))
    if ended.code == 0 and command == "resume":  # What was damaged came after the checkpoint.
        found = ground.ends_as_alone("inside", folder)
        names = ("metrics.csv", "fingerprints.csv")
        if any((folder / one).read_bytes() != (whole / one).read_bytes() for one in names):
            found = lost("other tables", ended)
    else:
        found = refused(ended, str(folder))
    return found._replace(told=f"{harmed}: {found.told}")
