"""Heads as regression losses: the data are what they are said to be, and a head learns them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks import supervised
from benchmarks.supervised import SupervisedConfig
from valuelearn import config
from valuelearn.config import ConfigError

STUDIES = Path(supervised.__file__).parent / "studies" / "supervised"


@pytest.mark.parametrize("name", supervised.PROBES)
def test_shipped_studies(name):
    assert config.load(SupervisedConfig, STUDIES / f"{name}.yaml").probe == name


def test_moving_targets():
    data = supervised.moving_target((0.0, 8.0), 3)
    assert data.inputs.shape == (1_024, 256) and 0 <= data.inputs.min() < data.inputs.max() <= 1
    np.testing.assert_array_equal(data.targets, data.test_targets)
    first, second = data.targets - np.array([[0.0], [8.0]])
    for wave in (first, second):
        assert np.abs(wave).max() <= 1 + 1e-6 and abs(wave.var() - 0.5) < 0.1  # A sine's at random phases.
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15  # A new function each time.
    spectrum = np.abs(np.fft.fft2(data.inputs.reshape(-1, 16, 16))).mean(0)
    assert spectrum[0, 1] / spectrum[0, 4] > 2  # Neighbouring pixels are alike.


def test_noisy_targets():
    data = supervised.noisy_targets((0.0, 1.0, 3.0), 3)
    assert abs(data.test_targets.std() - 3) < 1e-3 and (data.test_targets == data.test_targets[:1]).all()
    noise = data.targets - data.targets[0]
    np.testing.assert_allclose(noise.std(1), [0, 1, 3], rtol=0.05)
    np.testing.assert_allclose(noise[2], 3 * noise[1], atol=1e-5)


# The variance that there is to explain, and the share left: at most 0.72 and 0.35 over two seeds.
@pytest.mark.parametrize(
    ("probe", "variance", "share"), [("moving_target", 0.5, 0.9), ("noisy_targets", 9, 0.5)]
)
def test_heads_learn(probe, variance, share, tmp_path, capsys):
    methods = {
        head: {"head": head, "head_options": {"v_min": -12, "v_max": 12}} for head in ("mse", "hl_gauss")
    }
    study = SupervisedConfig.model_validate(
        {
            "title": "t",
            "probe": probe,
            "levels": (0, 0),
            "methods": methods,
            "hidden": (256,),
            "learning_rate": 1e-3,
            "updates_per_level": 400,
            "seeds": 3,
        }
    )
    supervised.run(study, tmp_path)
    assert "hl_gauss: mean squared error at 0" in capsys.readouterr().out
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"]) for row in rows] == [
        (method, seed) for method in methods for _ in range(2) for seed in "012"
    ]
    assert (tmp_path / "errors.png").stat().st_size > 10_000
    assert max(float(row["final_squared_error"]) for row in rows) < share * variance


def test_methods_are_compared_seed_by_seed():
    """A gain that every seed shares is certain, whatever the spread of the seeds."""
    spread = np.array([[1.0], [5.0], [9.0]])
    study = SupervisedConfig(title="t", probe="noisy_targets", levels=(2,), methods={"a": {"head": "mse"}})
    (line,) = supervised.differences(study, {"a": spread, "b": spread - 0.5})
    assert line == "b: error below that of a by, at 2: 0.5000 [0.5000, 0.5000]"


def test_readings_divide_a_level():
    with pytest.raises(ValueError, match="multiple of 20"):
        SupervisedConfig(title="t", probe="noisy_targets", levels=(0,), methods={}, updates_per_level=30)


def test_a_mistake_is_one_sentence(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("title: t\nprobe: moving_targets\nlevels: [0]\nmethods: {mse: {head: mse}}\n")
    with pytest.raises(ConfigError, match=r"study\.yaml, line 2: probe is .*moving_target"):
        config.load(SupervisedConfig, path)
