"""Curves beside published ones. (That training gives such curves is what the command is for.)"""

import csv
import sys

import numpy as np
import pytest

from agents import curves
from agents.experiment import ExperimentConfig
from benchmarks import reproduce
from valuelearn import cli, config, logs
from valuelearn.plots import Published

COMMAND = ("reproduce", "atari/breakout", "--agent", "dqn_mse", "--million-frames", "3")


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line to an exit code; gives what it printed."""

    def call(*arguments, code):
        monkeypatch.setattr(sys, "argv", ["valuelearn", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == code
        return "".join(capsys.readouterr())

    return call


def finished(folder, *per_million, seed=0):
    """A finished run of the command's, with these training returns in its million frames."""
    path = reproduce._CONFIGS / "dqn_mse.yaml"
    arguments = ["env.id=atari/breakout", "train.env_frames=3_000_000", f"train.seed={seed}"]
    logs.make_folder(folder, config.dump(config.load(ExperimentConfig, path, arguments)))
    run = logs.RunFolder(folder, [])
    for million, episode_return in enumerate(per_million, 1):
        frames = million * 1e6
        counts = {"updates": 1, "episodes": 5, "episode_return": episode_return}
        run.metrics({"seed": seed, "env_frames": frames, **counts})
    run.close()
    (folder / "curve.png").touch()
    return folder


def test_the_range_is_widened_by_a_share_of_the_mean():
    published = Published(np.array([1e6, 2e6, 3e6]), *np.array([[1.0, -10, 4], [0.5, -11, 3], [2, -9, 5]]))
    found = reproduce.compare({1: 99.0, 2: -13.5, 3: 5.9, 4: 0.0}, published, 0.2)
    assert [row.million for row in found] == [1, 2, 3]  # The fourth is not published.
    assert [row.judged for row in found] == [False, True, True]
    assert [row.outside for row in found[1:]] == [0.5, pytest.approx(0.1)]  # -11 - 2 and 5 + 0.8.
    inside = reproduce.compare({2: -12.9, 3: 2.3}, published, 0.2)
    assert [row.outside for row in inside] == [0, 0]


def test_every_published_curve_has_a_config_that_reproduces_it():
    with curves._REFERENCE.open() as file:
        games = {row["game"] for row in csv.DictReader(file)}
    from ale_py import roms

    ids = [f"atari/{rom}" for rom in roms.get_all_rom_ids() if rom.replace("_", "") in games]
    assert len(games) == len(ids) == 60
    for name, agent in reproduce.AGENTS.items():
        config.load(ExperimentConfig, reproduce._CONFIGS / agent.config, ["env.id=atari/pong"])
        for env_id in ids:
            assert len(reproduce.published_of(env_id, name).frames) == 199


def test_the_verdict(call, tmp_path):
    """Published at 2 and 3 million frames: 6.36 to 6.63 and 14.76 to 15.58."""
    good = finished(tmp_path / "good", 0.0, 7.0, 15.0)
    said = call(*COMMAND, "--run", good, code=0)
    assert "reproduced: 2 of 2" in said and "published range widened by 20%" in said
    assert (good / "reproduction.png").stat().st_size > 10_000
    # The run is taken as it is; only the judgement is made again.
    said = call(*COMMAND, "--run", good, "--tolerance", 0.01, code=1)
    assert "NOT reproduced: 1 of 2" in said and "0.30 outside" in said


def test_what_cannot_be_compared(call, tmp_path):
    other = finished(tmp_path / "other", 1.0, seed=1)
    for arguments, reason in (
        (("atari/breakot", "--agent", "iqn"), "atari/breakot: there is no published curve of it"),
        (("minatar/breakout", "--agent", "iqn"), "minatar/breakout: there is no published curve of it"),
        (("atari/pong", "--agent", "qr"), "--agent qr: did you mean 'qr_dqn'?"),
        ((*COMMAND[1:], "--run", other), "it holds another run; name another folder with --run"),
    ):
        said = call("reproduce", *arguments, code=2)
        assert said.count("\n") == 1 and reason in said
