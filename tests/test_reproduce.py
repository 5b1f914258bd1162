"""Curves beside published ones. (That training gives such curves is what the command is for.)"""

import csv

import numpy as np
import pytest

from agents import curves
from agents.experiment_config import ExperimentConfig
from benchmarks import reproduce, reproduce_atari, reproduce_robots
from envs import datasets
from valuelearn import config, logs, plots

COMMAND = ("reproduce", "atari/breakout", "--agent", "dqn_mse", "--million-frames", "3")
ROBOT = ("reproduce", "mujoco/Hopper-v5", "--agent", "sac", "--steps", "100_000")


def finished(folder, kind, returns, *arguments, every_frames=1_000_000, seed=0):
    """A finished run of that config, with these training returns in its rows."""
    frames = f"train.env_frames={len(returns) * every_frames}"
    wanted = config.load(
        ExperimentConfig, reproduce._CONFIGS / kind, [frames, f"train.seed={seed}", *arguments]
    )
    logs.make_folder(folder, config.dump(wanted))
    run = logs.RunFolder(folder, [])
    for index, episode_return in enumerate(returns, 1):
        counts = {"updates": 1, "episodes": 5, "episode_return": float(episode_return)}
        run.metrics({"seed": seed, "env_frames": float(index * every_frames), **counts})
    run.close()
    (folder / "curve.png").touch()
    return folder


def breakout(folder, *per_million, seed=0):
    return finished(folder, "atari/dqn_mse.yaml", per_million, "env.id=atari/breakout", seed=seed)


def recorded(lengths, returns, cut=()):
    """Experience in episodes of these lengths and returns, of which some were cut."""
    ends = np.cumsum(lengths)
    last, reward = np.zeros(ends[-1], bool), np.zeros(ends[-1], np.float32)
    last[ends - 1], reward[ends - 1] = True, returns
    truncated = last.copy()
    truncated[ends[list(cut)] - 1] = False
    obs, action = np.zeros((len(last), 11), np.float32), np.zeros((len(last), 3), np.float32)
    return datasets.Dataset(obs, action, reward, np.ones_like(reward), truncated, last, obs)


def hopper(folder, seed, *returns, kind="mujoco/sac.yaml"):
    """A run of 100,000 steps in episodes of 500, with these returns around its 50,000th and at its last."""
    arguments = ("env.id=mujoco/Hopper-v5", "train.cpu_threads=1", "checkpoint.experience=true")
    run = finished(folder / f"seed_{seed}", kind, np.zeros(20), *arguments, every_frames=5_000, seed=seed)
    of_episodes = np.zeros(200)
    of_episodes[[*range(90, 110)]], of_episodes[190:] = returns
    datasets.save(recorded(np.full(200, 500), of_episodes), run / "experience.hdf5")
    return run


def test_the_range_is_widened_by_a_share_of_the_mean():
    columns = np.array([[5e5, 1.5e6, 2.5e6], [1, -10, 4], [0.5, -11, 3], [2, -9, 5]])
    published = plots.Published("", *columns)
    found = reproduce_atari.compare({1: 99.0, 2: -13.5, 3: 5.9, 4: 0.0}, published, 0.2)
    assert [row.million for row in found] == [1, 2, 3]  # The fourth is not published.
    assert [row.judged for row in found] == [False, True, True]
    assert [row.outside for row in found[1:]] == [0.5, pytest.approx(0.1)]  # -11 - 2 and 5 + 0.8.
    inside = reproduce_atari.compare({2: -12.9, 3: 2.3}, published, 0.2)
    assert [row.outside for row in inside] == [0, 0]


def test_iterations_are_those_of_the_published():
    found = reproduce_robots.iterations(
        recorded([600, 500, 1_000, 400, 700, 999, 1, 30], [1, 2, 5, 9, 4, 6, 8, 7], cut=[3])
    )
    # The last one made too few steps; the cut episode is known by its length alone.
    assert found.env_steps.tolist() == [0, 1_100, 2_100, 3_200]
    assert found.mean_return.tolist() == [1.5, 5, 4, 7]
    only_cut = reproduce_robots.iterations(recorded([1_000, 1_000], [3, 3], cut=[0]))
    np.testing.assert_array_equal(only_cut.mean_return, [np.nan, 3])


def test_what_a_robot_is_judged_by():
    steps = np.arange(0, 210_000, 10_000.0)
    published = plots.Published("", steps, steps, steps - 7_000, steps + 7_000)
    index = np.arange(150)
    short = reproduce_robots.Iterations(1_200 * index, 1_000.0 * index - 10_000)
    whole = reproduce_robots.Iterations(1_000 * np.arange(160), 1_000.0 * np.arange(160))
    found = reproduce_robots.compare([short, whole], published)
    assert [(row.step, row.made, row.mean, row.std) for row in found] == [
        (50_000, 55_000, 50_000, 7_000),
        (100_000, 110_000, 100_000, 7_000),
        (150_000, 163_900, 150_000, 7_000),  # The 149th is the last of one that all came to.
    ]
    assert found[0].ours == 49_500 - 5_000 and found[2].ours == (147_000 - 10_000 + 149_500) / 2
    assert [row.good for row in reproduce_robots.compare([short], published)] == [False] * 3
    never = reproduce_robots.Iterations(whole.env_steps, np.full(160, np.nan))
    assert not any(row.good for row in reproduce_robots.compare([never, whole], published))


def test_every_published_curve_has_a_config_that_reproduces_it():
    with (curves._REFERENCE / "atari_dopamine.csv").open() as file:
        games = {row["game"] for row in csv.DictReader(file)}
    from ale_py import roms

    ids = [f"atari/{rom}" for rom in roms.get_all_rom_ids() if rom.replace("_", "") in games]
    assert len(games) == len(ids) == 60
    for name in reproduce.AGENTS["atari"]:
        for env_id in ids:
            assert len(reproduce.target(env_id, name).curve.frames) == 199
        config.load(ExperimentConfig, reproduce.target(env_id, name).config, ["env.id=atari/pong"])
    for robot in ("Ant", "HalfCheetah", "Hopper", "Humanoid", "Walker2d"):
        found = reproduce.target(f"mujoco/{robot}-v5", "sac")
        assert len(found.curve.frames) == 320 and f"{robot}-v2 (older physics)" in found.curve.label
        config.load(ExperimentConfig, found.config, [f"env.id={found.env_id}"])


def test_the_published_curve():
    game = curves.published("atari/breakout", "dqn_adam_mse")
    np.testing.assert_array_equal(game.frames[:3], [5e5, 1.5e6, 2.5e6])
    np.testing.assert_array_equal(game.mean[:3], [1.791, 6.519, 15.229])
    assert (game.low <= game.mean).all() and (game.mean <= game.high).all()
    robot = curves.published("mujoco/Hopper-v5", "sac")
    np.testing.assert_array_equal(robot.frames[:3], [0, 1e4, 2e4])
    np.testing.assert_allclose([robot.mean[1], robot.low[1], robot.high[1]], [36.794, 31.887, 41.701])
    for env_id in ("atari/no_game", "mujoco/Pusher-v5", "classic/pendulum"):
        assert curves.published(env_id, "sac") is None


def test_what_a_run_is_drawn_beside(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plots, "curves", lambda groups, file, *names: drawn.append((groups, *names)))
    robot, game = hopper(tmp_path, 0, 0, 0), breakout(tmp_path / "game", 0.0)
    again = breakout(tmp_path / "again", 0.0, seed=1)
    recorded = finished(tmp_path / "recorded", "offline/iql.yaml", [0.0])  # Its clock counts updates.
    imagined = finished(tmp_path / "imagined", "rollouts/sac.yaml", [0.0])
    for runs in ([robot], [game, again], [robot, game], [recorded], [imagined]):
        curves.plot(runs, tmp_path / "x.png")
    groups, names, published = zip(*drawn, strict=True)
    assert groups[1] == [("game and 1 more", [game, again])]
    assert [len(group) for _, group in groups[2]] == [1, 1]
    assert [one["xlabel"] for one in names[2:]] == ["environment frames", "updates", "steps of rollouts"]
    assert [one["ylabel"] for one in names[2:]] == ["training return", *["return of the policy"] * 2]
    with pytest.raises(
        logs.RunFolderError, match=r"imagined: its curve shows .* over steps of rollouts, and"
    ):
        curves.plot([game, imagined], tmp_path / "x.png")
    titles = tuple(one["title"] for one in names)
    assert titles[:2] == ("mujoco/Hopper-v5; published: v2, with older physics", "atari/breakout")
    assert titles[2] == "atari/breakout, mujoco/Hopper-v5" and titles[3].startswith("mujoco/")
    assert "SAC" in published[0].label and "DQN (Adam, MSE)" in published[1].label
    assert published[2:] == (None, None, None)


def test_the_verdict(call, tmp_path):
    """Published at 2 and 3 million frames: 6.36 to 6.63 and 14.76 to 15.58."""
    good = breakout(tmp_path / "good", 0.0, 7.0, 15.0)
    said = call(*COMMAND, "--run", good, code=0)
    assert "reproduced: 2 of 2" in said and "published range widened by 20%" in said
    assert (good / "reproduction.png").stat().st_size > 10_000
    # The run is taken as it is; only the judgement is made again.
    said = call(*COMMAND, "--run", good, "--tolerance", 0.01, code=1)
    assert "NOT reproduced: 1 of 2" in said and "0.30 outside" in said


def test_the_verdict_on_a_robot(call, tmp_path):
    """Published at 50,000 and 100,000 steps: 1,150.1 ± 621.1 and 2,337.2 ± 928.4."""
    folder = tmp_path / "runs"
    hopper(folder, 4, 500, 1400)
    # Runs that datasets are made from save more, and are the same runs.
    hopper(folder, 5, 600, 1430, kind="datasets/mujoco.yaml")
    out = tmp_path / "new" / "results"
    said = call(*ROBOT, "--seed", 4, "--seeds", 2, "--run", folder, "--out", out, code=0)
    assert "50,000     50,000     550.00    1150.13     621.12  reached" in said
    assert "reproduced: 2 of 2 judged points reach the published mean less one standard deviation" in said
    assert (out / "Hopper-v5_sac.png").stat().st_size > 10_000
    with (out / "Hopper-v5_sac.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200 and rows[-1] == {
        "seed": "5", "iteration": "99", "env_steps": "99000", "mean_return": "1430.000"
    }  # fmt: skip
    said = call(*ROBOT, "--seed", 4, "--seeds", 1, "--run", folder, code=1)
    assert "NOT reproduced: 0 of 2" in said and "29.02 short" in said and "8.88 short" in said
    assert (folder / "Hopper-v5_sac.csv").exists()


def test_a_robots_run_without_its_episodes_is_refused_before_any_is_trained(call, tmp_path):
    finished(tmp_path / "seed_1", "mujoco/sac.yaml", [0.0], "env.id=mujoco/Hopper-v5", seed=1)
    said = call(*ROBOT, "--run", tmp_path, code=2)
    assert (
        said.count("\n") == 1
        and f"{tmp_path / 'seed_1'}: it was made with checkpoint.experience=false" in said
    )
    assert not (tmp_path / "seed_0").exists()


def test_missing_runs_are_trained_and_unfinished_ones_taken_up(monkeypatch, tmp_path):
    from agents import training

    did = []
    monkeypatch.setattr(training, "train", lambda cfg, folder, *_: did.append((folder.name, cfg.train.seed)))
    monkeypatch.setattr(training, "resume", lambda folder, *_: did.append(folder.name))
    hopper(tmp_path, 1, 0, 0)
    wanted = reproduce.target("mujoco/Hopper-v5", "sac")
    runs = {seed: tmp_path / f"seed_{seed}" for seed in range(3)}
    reproduce.train(wanted, 100_000, runs, [], print)
    assert did == [("seed_0", 0), "seed_1", ("seed_2", 2)]


def test_a_folder_with_another_run_is_refused_before_any_is_trained(call, tmp_path):
    hopper(tmp_path, 1, 0, 0, kind="mujoco/td3.yaml")
    said = call(*ROBOT, "--run", tmp_path, code=2)
    assert said.count("\n") == 1 and f"{tmp_path / 'seed_1'}: it holds another run" in said
    assert not (tmp_path / "seed_0").exists()


def test_what_cannot_be_compared(call, tmp_path):
    other = breakout(tmp_path / "other", 1.0, seed=1)
    for arguments, reason in (
        (("atari/breakot", "--agent", "iqn"), "atari/breakot: there is no published curve of it"),
        (("minatar/breakout", "--agent", "iqn"), "minatar/breakout: there is no published curve of it"),
        (("atari/pong", "--agent", "qr"), "--agent qr: did you mean 'qr_dqn'?"),
        (("mujoco/Hopper-v5", "--agent", "iqn"), "--agent iqn: known here: sac"),
        (("mujoco/Pusher-v5", "--agent", "sac"), "mujoco/Pusher-v5: there is no published curve of it"),
        ((*COMMAND[1:], "--steps", 50_000), "--steps: Atari's games take --million-frames"),
        ((*ROBOT[1:], "--tolerance", 0.1), "--tolerance: robots take --steps and --seeds"),
        ((*ROBOT[1:], "--out", other / "config.yaml"), "config.yaml: cannot be made (File exists)"),
        ((*COMMAND[1:], "--run", other), "it holds another run; name another folder with --run"),
    ):
        said = call("reproduce", *arguments, code=2)
        assert said.count("\n") == 1 and reason in said
