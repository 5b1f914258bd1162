"""The page on a study, made from trials that were written and not trained."""

import html.parser
import re

import numpy as np
import pytest

from benchmarks import ablate, report, study
from benchmarks.study import StudyConfig
from valuelearn import config, logs

STUDY = """
title: Heads & <tasks>
config: {config}
overrides: {{train.env_frames: 100_000}}
axes:
  agent.head: [mse, two_hot, hl_gauss, c51]
  env.id: [minatar/breakout, minatar/asterix, minatar/freeway, gym/CartPole-v1]
baseline: {{agent.head: mse}}
seeds: {seeds}
"""
CONFIG = study.Path(study.__file__).parent.parent / "agents" / "configs" / "classic" / "dqn_cartpole.yaml"


def finished(folder, seeds, **changes):
    """A finished study, with curves that rise to what the head and the task say."""
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY.format(config=CONFIG, seeds=seeds))
    (folder / "command.txt").write_text("valuelearn ablate study.yaml\n")
    path = folder / "study.yaml"
    definition = config.load(StudyConfig, path)
    chance = np.random.default_rng(0)
    for index, trial in enumerate(study.trials(definition, path, folder, {})):
        logs.make_folder(trial.folder, config.dump(trial.load()))
        run = logs.RunFolder(trial.folder, ["valuelearn", "train"])
        train = trial.load().train
        for seed in range(train.seed, train.seed + train.seeds):
            top = 5 + index % 7 + chance.normal()
            for frames in np.linspace(5_000, 100_000, 20):
                episodes = 0 if frames == 20_000 else 10
                values = {
                    "episodes": episodes,
                    "updates": frames / 4,
                    "clipped_below": 0.0,
                    "clipped_above": 0.01,
                }
                rising = top * (1 - np.exp(-frames / 3e4)) + 0.3 * chance.normal()
                returns = {"episode_return": rising if episodes else float("nan")}
                run.metrics({"seed": seed, "env_frames": frames} | values | returns)
        rates = {"frames_per_second": 2e3, "updates_per_second": 400}
        run.timing({"env_frames": 1e5, "updates": 2e4, "wall_seconds": 50, "compile_seconds": 10, **rates})
        run.close()
        (trial.folder / "curve.png").touch()
    return folder


class Page(html.parser.HTMLParser):
    """What a page refers to, its words, and the tags that were not closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert tag != "img" or dict(attrs)["alt"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page(tmp_path):
    out = finished(tmp_path / "study", seeds=5)
    file = report.report(out)
    assert file == out / "report.html"
    page = Page(file.read_text())
    assert not page.open
    assert len(page.sources) == 4 + 3 and all(
        x.startswith("data:image/png;base64,iVBOR") for x in page.sources
    )
    text = " ".join(" ".join(page.words).split())
    assert "Heads & <tasks>" in text and "5 seeds on 4 tasks" in text
    # Four trials of 40 seconds of training on jitted tasks, five on the host; 25,000 updates a seed.
    assert f"{3 * 40 + 5 * 40:,}" in text and f"{4 * 5 * 25_000 / 320:,.0f}" in text
    assert "1.00%" in text and "valuelearn ablate study.yaml" in text and "jax: " in text
    for key in (
        "farebrother2024stop",
        "imani2018improving",
        "bellemare2017distributional",
        "agarwal2021deep",
    ):
        assert key in text
    assert "dabney2018implicit" not in text and "gallici2025simplifying" not in text
    row = re.search(r"<td>hl_gauss</td>.*", file.read_text())[0]
    assert len(re.findall(r"\d\.\d\d to \d\.\d\d", row)) == 2
    first = file.read_bytes()
    assert report.report(out).read_bytes() == first  # Nothing in it is left to chance.


def test_seeds_whose_rows_lie_apart(tmp_path):
    """One of them was stopped between two rows, and went on."""
    out = finished(tmp_path / "study", seeds=3)
    trial = out / "trials/agent.head=mse/gym-CartPole-v1/seed-1"
    table, rest = (trial / "metrics.csv").read_text().splitlines(), []
    place = table[0].split(",").index("env_frames")
    for line in table[3:]:
        cells = line.split(",")
        cells[place] = str(float(cells[place]) - 2_000)
        rest.append(",".join(cells))
    text = "\n".join([*table[:3], *rest, table[-1]]) + "\n"
    (trial / "metrics.csv").write_text(text)
    places, values = report._curves(ablate.load_finished(out).trials)["gym/CartPole-v1"]["mse"]
    assert values.shape == (3, len(places)) and np.isfinite(values).all()
    assert {18_000, 98_000, 100_000} & set(places) == {98_000, 100_000}  # At 20,000 no episode ended.
    assert report.report(out).is_file()


def test_two_seeds_have_no_interval(tmp_path):
    text = report.report(finished(tmp_path / "study", seeds=2)).read_text()
    assert "no interval: it needs 3 seeds or more" in text and " to " not in text.partition("Each task")[0]
    assert text.count("<img") == 4 + 2  # No probability of improvement.


def test_what_has_no_page(tmp_path):
    with pytest.raises(ablate.StudyError, match="this is not the folder of a study"):
        report.report(tmp_path)
    out = finished(tmp_path / "study", seeds=5)
    (out / "trials/agent.head=c51/minatar-freeway/seeds-0-to-4/curve.png").unlink()
    with pytest.raises(ablate.StudyError, match="1 trials are not finished; go on with: valuelearn ablate"):
        report.report(out)
