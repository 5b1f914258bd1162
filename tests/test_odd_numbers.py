"""Numbers that nobody would give on purpose: each is answered finitely or refused by its name."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.odd import COIN, NOTHING, ODD_NUMBERS, TABLE, few, told
from valuelearn import dp, ensembles, heads, objectives, projections, return_scale, stats, supports
from valuelearn import support_doctor as doctor
from valuelearn.dp.categorical import Lattice
from valuelearn.stocks import Stocks

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Numbers, with what is right in their place.
NUMBERS = {
    "quantile_midpoints": (projections.quantile_midpoints, {"num_quantiles": 3}),
    "locations": (supports.locations, {"v_min": -1.0, "v_max": 1.0, "num_bins": 5}),
    "edges": (supports.edges, {"v_min": -1.0, "v_max": 1.0, "num_bins": 5}),
    "two_hot": (
        lambda **options: heads.make("two_hot", num_bins=5, **options).encode(0.1),
        {"v_min": -1.0, "v_max": 1.0, "label_smoothing": 0.1},
    ),
    "hl_gauss": (
        lambda sigma_ratio: heads.make("hl_gauss", num_bins=5, sigma_ratio=sigma_ratio).encode(0.1),
        {"sigma_ratio": 0.75},
    ),
    "huber": (lambda delta: heads.make("huber", delta=delta).loss(np.ones(1), 0.1), {"delta": 1.0}),
    "qr": (
        lambda kappa: heads.make("qr", kappa=kappa, num_quantiles=2).loss(np.ones(2), np.zeros(2)),
        {"kappa": 1.0},
    ),
    "num_quantiles": (
        lambda num_quantiles: heads.make("qr", num_quantiles=num_quantiles),
        {"num_quantiles": 2},
    ),
    "num_fractions": (
        lambda num_fractions: heads.make("iqn", num_fractions=num_fractions),
        {"num_fractions": 2},
    ),
    "return_bounds": (doctor.return_bounds, {"reward_min": -1.0, "reward_max": 1.0, "gamma": 0.9}),
    "prescription": (
        lambda num_bins, gamma, sigma_ratio, reward_min, reward_max, n_step: doctor.prescription(
            doctor.Support(0.0, 0.0, num_bins, gamma, sigma_ratio), reward_min, reward_max, n_step
        ),
        {
            "num_bins": 9,
            "gamma": 0.9,
            "sigma_ratio": 0.75,
            "reward_min": -1.0,
            "reward_max": 1.0,
            "n_step": 3,
        },
    ),
    "ensemble": (lambda members: ensembles.ensemble(None, members), {"members": 2}),
    "subset": (lambda size: ensembles.subset(np.ones((3, 2)), size, jax.random.key(0)), {"size": 2}),
    "truncated": (lambda dropped: ensembles.truncated(np.ones((3, 2)), dropped), {"dropped": 1}),
    "scale": (
        lambda size: return_scale.scale(return_scale.scaled(NOTHING, 1, 0.9, 1.0).init().returns, size),
        {"size": 1.0},
    ),
    "scaled": (
        lambda num_envs, gamma, size: return_scale.scaled(NOTHING, num_envs, gamma, size),
        {"num_envs": 2, "gamma": 0.9, "size": 10.0},
    ),
    "interval": (
        lambda **more: stats.interval(stats.mean, np.eye(3), **more),
        {"level": 0.9, "replications": 20},
    ),
    "human_normalised": (stats.human_normalised, {"raw": 1.0, "random": 0.0, "human": 2.0}),
    "optimality_gap": (lambda target: stats.optimality_gap(np.eye(2), target), {"target": 1.0}),
    "stocks": (
        lambda **rule: Stocks(**rule).first(np.ones((1, 1))),
        {"gamma": 0.9, "dimensions": 1, "low": 0.0, "high": 1.0, "bound": 5.0},
    ),
    "cvar": (objectives.CVaR, {"tau": 0.5}),
    "mean_cvar": (objectives.MeanCVaR, {"tau": 0.5, "weight": 0.5}),
    "spectral": (objectives.Spectral, {"levels": [(0.5, 0.5), (1.0, 0.5)]}),
    "exponential": (objectives.Exponential, {"rate": 0.5}),
    "norm": (objectives.Norm, {"order": 2.0}),
    "process": (
        lambda gamma, horizon, start: dp.MDP.from_table(TABLE, gamma, horizon, start),
        {"gamma": 0.9, "horizon": 2, "start": 0},
    ),
    "solve": (
        lambda stock, start, points: dp.solve(COIN, objectives.TwoSlope(1, 2), stock, start, points).value,
        {"stock": 0.5, "start": 0, "points": 9},
    ),
    "best_actions": (
        lambda stocks: dp.best_actions(COIN, objectives.CVaR(0.5), stocks),
        {"stocks": [0.0, 1.0]},
    ),
    "execute": (lambda policy: dp.execute(COIN, policy), {"policy": [1, 0]}),
    "lattice": (
        lambda low, high, points: Lattice(low, high, points).grid(),
        {"low": -1.0, "high": 1.0, "points": 3},
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
@few
@given(data=st.data())
def test_numbers(name, data):
    call, good = NUMBERS[name]
    odd = {
        key: data.draw(ODD_NUMBERS) for key in data.draw(st.sets(st.sampled_from(sorted(good)), max_size=2))
    }
    try:
        found = call(**good | odd)
    except ValueError as refusal:
        assert odd
        told(str(refusal), [*good, *MEANT.get(name, ())])
    else:
        numbers = [one for one in jax.tree.leaves(found) if isinstance(one, float | np.ndarray | jax.Array)]
        assert all(np.isfinite(one).all() for one in numbers), found


MEANT = {
    "locations": ("points",),
    "edges": ("points",),
    "two_hot": ("points",),
    "return_bounds": ("rewards",),
    "prescription": ("rewards",),
    "execute": ("action",),
    "process": ("gamma", "state"),
    "stocks": ("uniform",),
}
