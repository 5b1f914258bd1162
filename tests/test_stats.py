"""Statistics against reference values, other formulas of the same thing, and known sampling laws."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from valuelearn import stats

VECTORS = json.loads((Path(__file__).parent / "vectors" / "hl_gauss.json").read_text())["statistics"]
RLIABLE = json.loads((Path(__file__).parent / "vectors" / "rliable.json").read_text())
HUMAN = Path(__file__).parent.parent / "benchmarks" / "reference" / "atari_random_human.csv"
X, Y = (np.asarray(VECTORS[name]) for name in ("scores_runs_x_tasks", "scores_y"))
POINTS = {
    "iqm": stats.interquartile_mean,
    "mean": stats.mean,
    "median_of_task_means": stats.median,
    "optimality_gap": stats.optimality_gap,
}


@pytest.mark.parametrize("name", POINTS)
def test_reference_values(name):
    np.testing.assert_allclose(POINTS[name](X), VECTORS[name], rtol=1e-12)


def test_reference_probability_of_improvement():
    found = stats.probability_of_improvement(X, Y)
    np.testing.assert_allclose(found, VECTORS["probability_of_improvement_x_over_y"], rtol=1e-12)
    np.testing.assert_allclose(found + stats.probability_of_improvement(Y, X), 1)
    assert stats.probability_of_improvement(X, X) == 0.5


@pytest.mark.parametrize("case", VECTORS["human_normalised"], ids=lambda case: case["game"])
def test_reference_human_normalised_scores(case):
    with HUMAN.open() as file:
        bounds = {row["game"]: (float(row["random"]), float(row["human"])) for row in csv.DictReader(file)}
    found = stats.human_normalised(case["raw"], *bounds[case["game"]])
    np.testing.assert_allclose(found, case["value"], rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (3, 4), (10, 7)])
def test_against_scipy(shape):
    chance = np.random.default_rng(0)
    x, y = chance.normal(size=shape).round(1), chance.normal(size=(5, shape[1])).round(1)
    np.testing.assert_allclose(
        stats.interquartile_mean(x), scipy.stats.trim_mean(x, 0.25, axis=None), rtol=1e-12
    )
    shares = [
        scipy.stats.mannwhitneyu(x[:, task], y[:, task]).statistic / (len(x) * len(y))
        for task in range(shape[1])
    ]
    np.testing.assert_allclose(stats.probability_of_improvement(x, y), np.mean(shares), rtol=1e-12)


def redrawn(matrices, replications):
    """The matrices with the runs that rliable draws: one choice a matrix and replication, in this order."""
    drawn = [[] for _ in matrices]
    for _ in range(replications):
        for batch, matrix in zip(drawn, matrices, strict=True):
            index = np.random.choice(len(matrix), matrix.shape, replace=True)
            batch.append(np.take_along_axis(matrix, index, 0))
    return [np.stack(batch) for batch in drawn]


@pytest.mark.parametrize("case", RLIABLE["cases"], ids=lambda case: f"seed {case['seed']}")
def test_against_rliable(case):
    """With its draws to rounding; with ours within three standard errors of the ends of its intervals."""
    scores, baseline = np.asarray(case["scores"]), np.asarray(case["baseline"])
    for name, statistic, matrices in (
        ("iqm", stats.interquartile_mean, (scores,)),
        ("probability_of_improvement", stats.probability_of_improvement, (scores, baseline)),
    ):
        wanted = case[name]
        np.testing.assert_allclose(statistic(*matrices), wanted["point"], rtol=1e-12)
        np.random.seed(case["seed"])
        values = statistic(*redrawn(matrices, RLIABLE["replications"]))
        np.testing.assert_allclose(np.quantile(values, [0.025, 0.975]), wanted["interval"], rtol=1e-12)
        ours = stats.interval(statistic, *matrices)
        # A quantile's standard error is that of its level, over the density there.
        for end, theirs, level in (
            (ours.low, wanted["interval"][0], 0.025),
            (ours.high, wanted["interval"][1], 0.975),
        ):
            error = 3 * (level * (1 - level) / RLIABLE["replications"]) ** 0.5
            low, high = np.quantile(values, [max(level - error, 0), min(level + error, 1)])
            assert low <= end <= high, (name, theirs)


def test_a_batch_is_its_parts():
    batch = np.random.default_rng(0).normal(size=(6, 5, 3))
    for statistic in POINTS.values():
        np.testing.assert_allclose(statistic(batch), [statistic(x) for x in batch], rtol=1e-12)
    thresholds = np.linspace(-1, 1, 4)
    found = stats.performance_profile(batch, thresholds)
    assert found.shape == (6, 4)
    np.testing.assert_allclose(found[2], [(batch[2] > threshold).mean() for threshold in thresholds])


def test_runs_are_resampled_within_each_task():
    """No score leaves its task, and over tasks the draws are independent."""
    x = np.arange(12.0).reshape(4, 3)
    ((batch,),) = stats.resampled((x,), 500, np.random.default_rng(0))
    assert batch.shape == (500, 4, 3)
    for task in range(3):
        assert set(np.unique(batch[..., task])) == set(x[:, task])
    assert np.abs(np.corrcoef(batch.reshape(-1, 3).T) - np.eye(3)).max() < 0.1


def test_an_interval_covers_as_often_as_it_says():
    """95 % intervals of a mean of 20 x 2 normal scores: the percentile bootstrap covers 91 to 95 %."""
    chance = np.random.default_rng(0)
    found = [
        stats.interval(stats.mean, chance.normal(size=(20, 2)), replications=400, seed=index)
        for index in range(400)
    ]
    covered = np.mean([low <= 0 <= high for _, low, high in found])
    assert 0.89 < covered < 0.97
    assert all(low <= point <= high for point, low, high in found)


def test_an_interval_of_a_difference():
    def gain(first, second):
        return stats.interquartile_mean(first) - stats.interquartile_mean(second)

    chance = np.random.default_rng(0)
    x, y = chance.normal(1.0, 0.1, (10, 4)), chance.normal(0.5, 0.1, (8, 4))
    point, low, high = stats.interval(gain, x, y, replications=2_000)
    assert low < point < high and low > 0.4 and high < 0.6
    assert stats.interval(gain, x, y, replications=2_000) == (point, low, high)  # The seed is given.


def test_two_runs_give_no_interval():
    with pytest.raises(stats.TooFewRunsError, match="needs 3 runs or more of each task, and there are 2"):
        stats.interval(stats.mean, X, Y[:2])


def test_area_under_a_curve():
    frames = np.asarray([0.0, 1.0, 3.0])
    np.testing.assert_allclose(stats.area_under_curve(frames, np.asarray([[2, 2, 2], [0, 1, 3]])), [2, 1.5])
