"""Updates of RAVL with two critics to five hundred, and the memory that they take."""

from benchmarks.speed import edac
from benchmarks.speed.turns import python_of

CRITICS = (2, 10, 50, 100, 500)
AT_LEAST = {10: edac.AT_LEAST, 50: 1.7}  # Times PyTorch's updates; of 50 in no more memory than its.
MOST_GIB = 8.0  # Of a hundred.


def compare(rounds: int) -> tuple[dict, bool]:
    """A table for each number of critics, and whether the bars are met."""
    python_of("torch")
    found = {critics: edac.beside_torch(rounds, critics) for critics in CRITICS}
    figures = "; ".join(
        f"{critics} critics ours {one.rates['ours']:.2f} updates/s in {one.peaks['ours']:.1f} GiB, "
        f"torch {one.rates['torch']:.2f} (1/{one.ratio:.2f}) in {one.peaks['torch']:.1f} GiB, "
        f"first updates within {one.apart:.0e}"
        for critics, one in found.items()
    )
    good = all(found[critics].ratio >= bar for critics, bar in AT_LEAST.items())
    good = good and found[50].peaks["ours"] <= found[50].peaks["torch"]
    good = good and found[100].peaks["ours"] <= MOST_GIB
    good = good and max(one.apart for one in found.values()) <= edac.SAME
    return {"figures": figures, "critics": {str(critics): one.table for critics, one in found.items()}}, good
