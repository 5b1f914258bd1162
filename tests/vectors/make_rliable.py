"""Write `rliable.json`: what rliable (Agarwal et al., 2021) says of random score matrices.

    python -m venv /tmp/rliable && /tmp/rliable/bin/pip install rliable 'pandas<3'
    /tmp/rliable/bin/python tests/vectors/make_rliable.py

It has a virtual environment of its own, as what it needs cannot be imported beside pandas 3.
"""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import rliable.library
import rliable.metrics

REPLICATIONS = 2_000


def case(seed, runs, baseline_runs, tasks):
    """The matrices, and rliable's points and 95 % intervals, drawn after `numpy.random.seed(seed)`."""
    chance = np.random.default_rng(seed)
    scores = chance.normal(1.0, 0.5, (runs, tasks))
    baseline = chance.normal(0.8, 0.5, (baseline_runs, tasks))
    found = {}
    for name, data, function in (
        ("iqm", scores, rliable.metrics.aggregate_iqm),
        ("probability_of_improvement", (scores, baseline), rliable.metrics.probability_of_improvement),
    ):
        np.random.seed(seed)
        points, intervals = rliable.library.get_interval_estimates(
            {"x": data}, lambda *x, function=function: np.array([function(*x)]), reps=REPLICATIONS
        )
        found[name] = {"point": float(points["x"][0]), "interval": intervals["x"].ravel().tolist()}
    return {"seed": seed, "scores": scores.tolist(), "baseline": baseline.tolist(), **found}


shapes = [(0, 3, 3, 1), (1, 5, 4, 6), (2, 10, 10, 3)]
versions = {name: importlib.metadata.version(name) for name in ("rliable", "arch", "numpy", "scipy")}
table = {"versions": versions, "replications": REPLICATIONS, "cases": [case(*shape) for shape in shapes]}
(Path(__file__).parent / "rliable.json").write_text(json.dumps(table, indent=1) + "\n")
