"""Run folders, their metrics, and the pictures drawn from them."""

import csv
import json
import os

import imageio.v3 as imageio
import numpy as np
import pytest

from agents import curves
from valuelearn import logs, plots
from valuelearn.logs import METRICS, Offsets, RunFolder, RunFolderError, read_metrics
from valuelearn.progress import Progress

NAN = float("nan")


def row(seed=0, frames=0.0, episodes=0.0, episode_return=NAN, loss=0.1):
    return {"seed": seed, "env_frames": frames, "updates": 3.0, "episodes": episodes} | {
        "episode_return": episode_return,
        "loss": loss,
    }


@pytest.fixture
def run(tmp_path):
    """A function that writes a run of these rows, and gives its folder."""

    def run(*rows, name="run"):
        logs.make_folder(tmp_path / name, "train: {}\n")
        folder = RunFolder(tmp_path / name, ["valuelearn", "train"])
        for values in rows:
            folder.metrics(values)
        folder.timing({"env_frames": 1, "wall_seconds": 2.0})
        folder.close()
        return folder.path

    return run


def test_metrics_survive_a_round_trip(run):
    rows = [
        row(0, 10.0, 2.0, 1 / 3, NAN),
        row(1, 10.0, 0.0, NAN, float("inf")),
        row(0, 20.0, 1.0, -1e-30, 0.1),
    ]
    folder = run(*rows)
    found = read_metrics(folder)
    assert tuple(found) == METRICS
    for name in rows[0]:
        np.testing.assert_array_equal(found[name], [values[name] for values in rows])
    assert np.isnan(found["grad_norm"]).all()
    text = (folder / "metrics.csv").read_text()
    assert "nan" not in text
    assert list(csv.reader(text.splitlines()))[1] == ["0", "10.0", "3.0", "2.0", repr(1 / 3), *[""] * 9]
    (sitting,) = json.loads((folder / "versions.json").read_text())
    assert sitting.keys() > {"from", "command", "jax", "git", "device"}
    assert (folder / "config.yaml").read_text() == "train: {}\n"


HEADER = ",".join(METRICS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", None),
        (HEADER, None),
        (f"{HEADER}\n0,1,2,3,4,5,6,7,8,9,10,11,nine", "line 2: grad_norm is 'nine'; a number is wanted"),
        (f"{HEADER}\n0,1,2,3,,,,,,,,,\n0,1,2", "line 3: episodes is None; a number is wanted"),
        (f"{HEADER}\n0,,2,3,,,,,,,,,", "line 2: env_frames is ''; a number is wanted"),
        ("seed,env_frames\n0,1", "line 2: updates is None; a number is wanted"),
        (b"\x89PNG\xff", "metrics.csv: this is not a table of metrics"),
    ],
)
def test_a_broken_table_is_refused(tmp_path, text, sentence):
    (tmp_path / "metrics.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    if sentence is None:
        assert not len(read_metrics(tmp_path)["seed"])
        with pytest.raises(RunFolderError, match="no row has been written yet"):
            plots.curves([("x", [tmp_path])], tmp_path / "x.png", {})
        return
    with pytest.raises(RunFolderError) as error:
        read_metrics(tmp_path)
    assert sentence in str(error.value)
    with pytest.raises(RunFolderError, match=r"this is not a run folder \(metrics.csv: No such file"):
        read_metrics(tmp_path / "none")


def test_per_million_frames():
    # Rows end a few frames late; the last million is not whole, and the fourth saw no episode end.
    rows = [
        row(0, 0.5e6, 1, 10.0), row(1, 0.5e6, 0),
        row(0, 1.0e6 + 32, 3, 20.0), row(1, 1.0e6 + 32, 4, 5.0),
        row(0, 2.0e6 + 64, 2, 7.0), row(1, 2.0e6 + 64, 2, 9.0),
        row(0, 3.0e6 + 96, 0), row(1, 3.0e6 + 96, 0),
        row(0, 3.5e6, 9, 1.0), row(1, 3.5e6, 9, 1.0),
    ]  # fmt: skip
    metrics = {name: np.array([values[name] for values in rows]) for name in rows[0]}
    assert logs.per_million_frames(metrics) == {1: (10 + 3 * 20 + 4 * 5) / 8, 2: 8.0}
    # What ended in the rows whose middle lies there, of either seed.
    assert logs.training_return(metrics, 0.5e6, 1.6e6) == (3 * 20 + 4 * 5 + 2 * 7 + 2 * 9) / 11
    assert np.isnan(logs.training_return(metrics, 2e6, 3e6))
    assert np.isnan(logs.training_return(metrics, 1.2e6, 1.8e6))  # Its rows tell of a million frames.
    assert logs.per_million_frames({name: column[:0] for name, column in metrics.items()}) == {}


def test_progress_prints_plain_lines_where_there_is_no_terminal(capsys):
    progress = Progress(2_000)
    summary = {"updates": 5.0, "episode_return": NAN}
    first = progress.chunk(1_000, summary, compile_seconds=0.0)
    progress.chunk(
        2_000,
        summary | {"episode_return": 1.5, "loss": 0.25, "clipped_below": 0.1, "clipped_above": 0.0},
        3.0,
    )
    progress.close()
    out, err = capsys.readouterr()
    one, two = err.splitlines()
    assert out == ""
    assert one.startswith("frames 1,000  updates 5  return -  loss -  clipped -  frames/s ")
    assert "return 1.5  loss 0.25  clipped 10.0%" in two
    assert two.endswith("compile 3s")
    assert first.keys() == set(logs.TIMING)
    assert first["frames_per_second"] == pytest.approx(1_000 / first["wall_seconds"])


def test_a_folder_in_use_or_out_of_reach(tmp_path, run):
    used = run(row())
    for path, sentence in (
        (used, "exists already; name another folder with --run"),
        (used / "config.yaml", "exists already"),
        (used / "config.yaml" / "x", "config.yaml is not a folder that can be written"),
    ):
        with pytest.raises(RunFolderError, match=sentence):
            logs.make_folder(path, "")
    (tmp_path / "empty").mkdir()
    logs.make_folder(tmp_path / "empty", "")


def test_a_table_goes_on_from_where_the_run_was_saved(run):
    """Rows that were written after the checkpoint go, and each sitting is noted."""
    path = run(row(0, 10.0), row(0, 20.0))
    first = RunFolder(path, ["first"])
    first.metrics(row(0, 10.0))
    written = first.written()
    first.metrics(row(0, 20.0))
    first.metrics(row(0, 30.0))
    first.close()
    second = RunFolder(path, ["second"], Offsets(written, come=10))
    second.metrics(row(0, 20.0, loss=9.0))
    second.close()
    found = read_metrics(path)
    assert found["env_frames"].tolist() == [10.0, 20.0] and found["loss"].tolist() == [0.1, 9.0]
    sittings = json.loads((path / "versions.json").read_text())
    assert [(s["command"], s["from"]) for s in sittings] == [(["first"], 0), (["second"], 10)]
    for kept, match in (
        (logs.Written(10_000, ""), r"metrics.csv: it has \d+ bytes, and had 10000"),
        (logs.Written(90, "0"), "metrics.csv: it is damaged: its first 90 bytes are not as written"),
    ):
        with pytest.raises(RunFolderError, match=match):
            RunFolder(path, [], Offsets({"metrics": kept}, come=10))


def test_a_finished_run_is_sealed(run):
    path = run(row(0, 10.0), row(0, 20.0))
    logs.seal(path)
    assert read_metrics(path)["env_frames"].tolist() == [10.0, 20.0]
    data = (path / "metrics.csv").read_bytes()
    (path / "metrics.csv").write_bytes(data.replace(b"20", b"21"))
    with pytest.raises(
        RunFolderError, match=r"metrics.csv: it is not as the run wrote it.*without sha256.json"
    ):
        read_metrics(path)
    (path / "sha256.json").write_text("[1]")
    with pytest.raises(RunFolderError, match=r"sha256.json: this is not the list"):
        read_metrics(path)
    RunFolder(path, [], Offsets()).close()  # A run that goes on is not finished.
    assert not (path / "sha256.json").exists()


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    with (
        logs.held(tmp_path),
        pytest.raises(RunFolderError, match=rf"another process writes to it \(process {os.getpid()} on "),
    ):
        logs.held(tmp_path).__enter__()
    with logs.held(tmp_path):
        pass


def test_no_git_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert logs.versions()["git"] == "unknown"


NAMES = {"title": "title", "xlabel": "frames", "ylabel": "return"}


def test_curves(run, tmp_path):
    frames = np.arange(1, 60) * 1e5
    rows = [
        row(seed, frame, *((0, NAN) if frame < 2e6 else (2, seed + frame)))
        for frame in frames
        for seed in (0, 1)
    ]
    cut_off = rows[:-1]  # The second seed lacks its last row.
    reference = curves.published("atari/breakout", "dqn_adam_mse")
    for name, kinds, published in (
        ("a", rows, None),
        ("b", cut_off, reference),
        ("c", [row(0, 9.0)], reference),
    ):
        plots.curves([(name, [run(*kinds, name=name)])], tmp_path / f"{name}.png", NAMES, published)
        assert imageio.imread(tmp_path / f"{name}.png").shape == (630, 1050, 4)
    # Runs of one curve, the last of which has come less far and was saved between two rows.
    one, two = run(*rows, name="one"), run(row(2, 3e5, 4, 1.0), row(2, 3.3e5, 4, 2.0), name="two")
    plots.curves([("both", [one, two]), ("one", [one])], tmp_path / "d.png", NAMES, reference)
    assert imageio.imread(tmp_path / "d.png").shape == (630, 1050, 4)


@pytest.mark.parametrize("name", ["x.foo", "nowhere/x.png"])
def test_a_file_that_cannot_be_written(tmp_path, name):
    with pytest.raises(RunFolderError, match=r"is wanted|is not a folder that can be written"):
        logs.check_new_file(tmp_path / name, (".png",))
