"""Change one operator, number or branch of the library at a time, and see whether its tests notice.

    pip install -e '.[mutation]'
    python -m benchmarks.mutation [--sample 300] [--seed 0] [--jobs 2] [--out FILE.csv]

What cosmic-ray can change in heads, projections, backups, objectives and solvers is counted, and a random
sample of that many changes is made, each in a copy of the tree, where the tests named below are run until one
fails. Operators on bits are left out: here they stand in annotations and between masks, and put in the place
of others they are type errors, mostly. Of a change with which the tests do not end in twice their time and a
minute it counts that they noticed. The sample is that of the seed and of the code as it stands.

Bar: 85 % are noticed. Those that are not are listed, the ones without any effect among them.
"""

import argparse
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

import cosmic_ray.ast
import cosmic_ray.plugins
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parent.parent
BAR = 0.85
_COPIED = ("valuelearn", "agents", "envs", "benchmarks", "tests", "setup.cfg")
# For each part of the library the modules of tests that are about it.
TESTS = {
    "backups": "vectors heads",
    "projections": "projections vectors heads odd_arrays",
    "heads": "heads vectors projections mistakes odd_arrays",
    "objectives": "objectives dp_vectors stock dp odd_arrays",
    "dp": "dp_vectors dp dp_grid dp_categorical dp_quantile odd_arrays",
}
_OF_BITS = ("LShift", "RShift", "BitOr", "BitAnd", "BitXor", "Invert")


class Mutant(NamedTuple):
    """One change of one file."""

    module: str  # Relative to the root.
    operator: str  # Cosmic-ray's name of the kind of change.
    occurrence: int  # Among the places in the file where it can be made.
    line: int

    @property
    def part(self) -> str:
        """The key of `TESTS`."""
        return Path(self.module).relative_to("valuelearn").parts[0].removesuffix(".py")

    def code(self) -> str:
        """The changed file."""
        operator = cosmic_ray.plugins.get_operator(self.operator)()
        return mutate_code((ROOT / self.module).read_text(), operator, self.occurrence)

    def shown(self) -> str:
        """The changed line."""
        return self.code().splitlines()[self.line - 1].strip()


def mutants() -> Iterator[Mutant]:
    """All changes that can be made."""
    library = ROOT / "valuelearn"
    for part in TESTS:
        module = library / f"{part}.py"
        for path in [module] if module.exists() else sorted((library / part).glob("*.py")):
            tree = cosmic_ray.ast.get_ast_from_path(path)
            for name in sorted(cosmic_ray.plugins.operator_names()):
                operator = cosmic_ray.plugins.get_operator(name)
                if operator.arguments() or any(bits in name for bits in _OF_BITS):
                    continue
                places = (
                    start
                    for node in cosmic_ray.ast.ast_nodes(tree)
                    for start, _ in operator().mutation_positions(node)
                )
                for occurrence, (line, _) in enumerate(places):
                    yield Mutant(str(path.relative_to(ROOT)), name, occurrence, line)


def _copy(folder: Path) -> Path:
    without = shutil.ignore_patterns("__pycache__", "results")
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=without)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def complaint(mutant: Mutant, copy: Path, patience: float | None = None) -> str | None:
    """What the tests of its part say against a copy of the tree, in so many seconds; none if they pass."""
    own = Path(mutant.module).stem  # The tests of this very module first.
    names = sorted(TESTS[mutant.part].split(), key=lambda name: name not in (own, f"dp_{own}"))
    files = [f"tests/test_{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files]
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",  # Of a change within a second of the last, Python would not know.
        # Of its own: an entry that another process has half written is a warning, which fails a test.
        "JAX_COMPILATION_CACHE_DIR": str(copy / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end within {patience:.0f} s"
    if done.returncode == 5:
        raise SystemExit(f"no tests in {files}")
    return f"{done.stdout}{done.stderr}exit code {done.returncode}" if done.returncode else None


def main() -> None:
    """Make a sample of changes and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a CSV file of all changes that were made")
    options = parser.parse_args()
    everything = list(mutants())
    sample = random.Random(options.seed).sample(everything, min(options.sample, len(everything)))
    print(f"{len(everything)} changes can be made; {len(sample)} are, with seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        copies: Queue[Path] = Queue()
        for index in range(options.jobs):
            copies.put(_copy(Path(folder) / str(index)))

        def unchanged(mutant: Mutant) -> float:
            copy, start = copies.get(), time.perf_counter()
            said, seconds = complaint(mutant, copy), time.perf_counter() - start
            copies.put(copy)
            if said:
                raise SystemExit(f"the tests of {mutant.part} fail as they are:\n{said}")
            print(f"{mutant.part}: tests take {seconds:.0f} s", flush=True)
            return 60 + 2 * seconds

        def noticed(mutant: Mutant) -> bool:
            copy = copies.get()
            (copy / mutant.module).write_text(mutant.code())
            said = complaint(mutant, copy, patience[mutant.part])
            shutil.copy(ROOT / mutant.module, copy / mutant.module)
            copies.put(copy)
            lines = said.splitlines() if said else ["NOT NOTICED"]
            verdict = next((line for line in lines if line.startswith("FAILED")), lines[-1])
            print(f"{mutant.module}:{mutant.line}: {mutant.shown()}: {verdict}", flush=True)
            return said is not None

        one = {mutant.part: mutant for mutant in sample}
        with ThreadPoolExecutor(options.jobs) as pool:
            patience = dict(zip(one, pool.map(unchanged, one.values()), strict=True))
            found = list(pool.map(noticed, sample))
    if options.out:
        with options.out.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow((*Mutant._fields, "changed_line", "noticed"))
            rows.writerows(
                (*mutant, mutant.shown(), int(seen)) for mutant, seen in zip(sample, found, strict=True)
            )
    for part in TESTS:
        seen = [seen for mutant, seen in zip(sample, found, strict=True) if mutant.part == part]
        print(f"{part}: {sum(seen)} of {len(seen)}")
    share = sum(found) / len(found)
    print(f"mutation: {sum(found)} of {len(found)} changes noticed, {share:.1%} (bar {BAR:.0%})")
    raise SystemExit(share < BAR)


if __name__ == "__main__":
    main()
