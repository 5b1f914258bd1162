"""Updates of RAVL with ten and with a hundred critics, and the memory that they take."""

from benchmarks.speed import edac
from benchmarks.speed.turns import python_of

MOST_GIB = 8.0  # Of a hundred.


def compare(rounds: int) -> tuple[dict, bool]:
    """Both tables, and whether the bars are met."""
    python_of("torch")
    ten, hundred = (edac.beside_torch(rounds, critics) for critics in (10, 100))
    figures = "; ".join(
        f"{critics} critics ours {found.rates['ours']:.2f} updates/s in {found.peaks['ours']:.1f} GiB, "
        f"torch {found.rates['torch']:.2f} (1/{found.ratio:.2f}) in {found.peaks['torch']:.1f} GiB, "
        f"first updates within {found.apart:.0e}"
        for critics, found in (("10", ten), ("100", hundred))
    )
    good = ten.ratio >= edac.AT_LEAST and hundred.peaks["ours"] <= MOST_GIB
    good = good and max(ten.apart, hundred.apart) <= edac.SAME
    return {"figures": figures, "critics": {"10": ten.table, "100": hundred.table}}, good
