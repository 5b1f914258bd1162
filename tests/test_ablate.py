"""Studies: what their trials are, that they start equal, that they go on, and what is said of them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from agents import experiment
from benchmarks import ablate, scores, study
from benchmarks.scores import Score
from benchmarks.study import StudyConfig
from valuelearn import config, stats
from valuelearn.errors import UserError

STUDIES = Path(study.__file__).parent / "studies"
CARTPOLE = Path(experiment.__file__).parent / "configs" / "classic" / "dqn_cartpole.yaml"
PQN = CARTPOLE.parent.parent / "minatar" / "pqn_hl_gauss.yaml"
TINY = f"""
title: Two heads on a probe
config: {CARTPOLE}
overrides:
  train: {{env_frames: 4_000, log_frames: 200, collect_steps: 8}}
  evaluation.episodes: 0
  agent.network: {{torso: mlp, hidden: [8], last_scale: 0}}
  agent.replay: {{capacity: 1_000, warmup_steps: 200, batch_size: 8}}
axes:
  agent.head: [mse, hl_gauss]
  env.id: [probe/termination]
baseline: {{agent.head: mse}}
seeds: 3
"""


@pytest.fixture
def tiny(tmp_path):
    """The file of a study of two short trials."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def load(path, *arguments):
    return config.load(StudyConfig, path, arguments)


def test_the_trials(tiny, tmp_path):
    """Seeds run at once in the compiled loop and one by one outside it; methods are products of axes."""
    axes = "axes={agent.head: [mse, c51], agent.gamma: [0.9, 0.99], env.id: [probe/action, gym/CartPole-v1]}"
    found = load(tiny, axes, "seeds=2", "first_seed=7")
    trials = study.trials(found, tiny, tmp_path / "out", {})
    assert len(found.methods()) == 4 and len(trials) == 4 * (1 + 2)
    first, second = trials[:2]
    assert first.folder == tmp_path / "out/trials/agent.head=mse,agent.gamma=0.9/probe-action/seeds-7-to-8"
    assert second.folder.name == "seed-7" and second.task == "gym/CartPole-v1"
    for trial, seeds in ((first, 2), (second, 1)):
        cfg = trial.load()
        assert (cfg.train.seed, cfg.train.seeds, cfg.env.id) == (7, seeds, trial.task)
        assert (cfg.agent.gamma, cfg.train.env_frames) == (0.9, 4_000)
    c51 = found.methods()[2]
    assert dict(c51) == {"agent.head": '"c51"', "agent.gamma": "0.9"}
    assert dict(found.baseline_of(c51)) == {"agent.head": '"mse"', "agent.gamma": "0.9"}
    assert found.baseline_of(found.methods()[0]) is None


def test_tuning_has_seeds_of_its_own(tiny, tmp_path):
    found = load(tiny, "tuning={values: [1e-3, 1e-4], seeds: 2}")
    grid = study.tuning_trials(found, tiny, tmp_path)
    assert len(grid) == 4 and {trial.load().train.seed for trial in grid} == {1_000}
    assert [trial.load().agent.optimizer.learning_rate for trial in grid[:2]] == [1e-3, 1e-4]
    best = dict.fromkeys(found.methods(), grid[1].tuned)
    assert all(
        t.load().agent.optimizer.learning_rate == 1e-4 for t in study.trials(found, tiny, tmp_path, best)
    )


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("seeds=0", "argument 'seeds=0': seeds is 0; more than 0 is wanted"),
        ("baseline={agent.head: c51}", "with one of its values"),
        ("baseline={env.id: probe/action}", "a key of axes other than env.id is wanted"),
        ("axes={train.seed: [1, 2]}", "seeds are the study's to set"),
        ("tuning={values: [1, 2], first_seed: 2}", "both tuned on and reported"),
        ("axes={agent.head: [mse, hl_gaus]}", "tiny.yaml: argument 'agent.head=\"hl_gaus\"': agent.head is"),
        ("overrides={agent.gama: 0.5}", "did you mean 'gamma'?"),
        ("axes={agent.head: [mse, mse]}", "two values of an axis are equal"),
        ("config=nowhere.yaml", "there is no such file or folder"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(tiny, tmp_path, argument, reason):
    with pytest.raises(UserError) as error:
        ablate.ablate(tiny, [argument], tmp_path / "out", 1, [], print)
    assert reason in str(error.value)
    assert not (tmp_path / "out").exists()


def before_the_head(params):
    """Parameters that all heads have alike."""
    if "critics" in params:
        *hidden, _ = sorted(params["critics"]["params"].items())
        return dict(hidden)
    return {k: v for k, v in params["params"].items() if "Torso" in k}


OF_HEADS = [path for path in sorted(STUDIES.glob("*.yaml")) if "agent.head" in path.read_text()]


@pytest.mark.parametrize("path", OF_HEADS, ids=lambda path: path.stem)
def test_heads_of_a_shipped_study_start_equal(path, tmp_path):
    """With the same torso, and with the value zero everywhere."""
    trials = study.trials(load(path), path, tmp_path, {})
    torsos = []
    for trial in [trial for trial in trials if trial.task == trials[0].task]:
        cfg = trial.load()
        spec = cfg.env.make(num_envs=1).spec
        agent = experiment.make_algorithm(cfg, spec).agent
        obs = jax.random.bernoulli(jax.random.key(0), shape=(1, *spec.obs_shape)).astype(spec.obs_dtype)
        state = agent.init(jax.random.key(1), obs)
        if agent.value is not None:
            value = agent.value(state, obs)
        else:
            head = cfg.agent.head_options.make(cfg.agent.head)
            value = head.value(cfg.agent.network.make(spec.num_actions, head).apply(state.params, obs))
        np.testing.assert_allclose(value, 0, atol=1e-5)
        torsos.append(before_the_head(state.params))
    assert len(torsos) >= 2 and jax.tree.leaves(torsos[0])
    for torso in torsos[1:]:
        jax.tree.map(np.testing.assert_array_equal, torsos[0], torso)


def rows(file):
    """The scores but for the seconds, which no seed determines."""
    with file.open(newline="") as table:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(table)]


def test_a_killed_study_goes_on_and_comes_to_the_same(tiny, tmp_path, capfd):
    said = []
    ablate.ablate(tiny, [], tmp_path / "whole", 2, ["valuelearn", "ablate"], said.append)
    assert "3 seeds x 1 tasks" in said[-4] and "better than mse with probability" in said[-2]
    assert said[-1].startswith("so few seeds give an interval that reaches from the lowest to the highest")
    whole = rows(tmp_path / "whole/scores.csv")
    assert [(r["agent.head"], r["seed"]) for r in whole] == [
        (h, str(s)) for h in ("mse", "hl_gauss") for s in range(3)
    ]
    assert all(float(r["final_return"]) == 1 for r in whole)  # What the probe's episodes bring.

    out = tmp_path / "killed"
    command = [sys.executable, "-m", "valuelearn", "ablate", tiny, "--out", out]
    process = subprocess.Popen(command, start_new_session=True)
    second = out / "trials/agent.head=hl_gauss/probe-termination/seeds-0-to-2"
    while not (second / "timing.csv").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    size = -1  # The trial dies with the study.
    while size != (size := (second / "metrics.csv").stat().st_size):
        time.sleep(1.0)
    assert not (second / "curve.png").exists()
    before = (out / "trials/agent.head=mse/probe-termination/seeds-0-to-2/curve.png").stat().st_mtime_ns
    ablate.ablate(tiny, [], out, 1, [], said.append)
    assert rows(out / "scores.csv") == whole
    first = out / "trials/agent.head=mse/probe-termination/seeds-0-to-2"
    assert (first / "curve.png").stat().st_mtime_ns == before  # What was finished is kept.
    with pytest.raises(ablate.StudyError, match="it holds another run, as the study was changed"):
        ablate.ablate(tiny, ["overrides={agent.gamma: 0.5}"], out, 1, [], print)


def processes(*words):
    """Those whose command line has all the words: the parent of each."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # It has ended.
            continue
        if all(word in command for word in words):
            found[int(folder.name)] = parent
    # What a process starts has its command line until it becomes another program.
    return {pid: parent for pid, parent in found.items() if parent not in found}


def test_a_lost_ray_worker_costs_nothing_but_time(tiny, tmp_path):
    """Two workers; the one that trains HL-Gauss is killed once it has written something."""
    pytest.importorskip("ray")
    longer = "overrides.train.env_frames=20_000"  # Not to be over before the kill.
    ablate.ablate(tiny, [longer], tmp_path / "alone", 2, [], print)
    out = tmp_path / "ray"
    trial = out / "trials/agent.head=hl_gauss/probe-termination/seeds-0-to-2"
    # A process of its own: Ray forks, for which there must be no JAX in it yet.
    command = [sys.executable, "-m", "valuelearn", "ablate", tiny, longer, "cluster=ray", "--out", out]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (trial / "timing.csv").exists():
        assert study.poll() is None
        time.sleep(0.05)
    (worker,) = processes("benchmarks.trial", str(trial)).values()
    os.kill(worker, signal.SIGKILL)
    assert study.wait() == 0
    sittings = json.loads((trial / "versions.json").read_text())
    assert sittings[-1]["command"][1] == "resume"  # What another worker did.
    assert rows(out / "scores.csv") == rows(tmp_path / "alone/scores.csv")


def test_a_trial_that_fails(tiny, tmp_path):
    """A trial's last words are those of the study; the other one is run nevertheless."""
    blocked = tmp_path / "out/trials/agent.head=mse/probe-termination/seeds-0-to-2"
    blocked.mkdir(parents=True)
    (blocked / "something").touch()
    with pytest.raises(ablate.StudyError, match=r"1 of 2 trials failed.*exists already"):
        ablate.ablate(tiny, [], tmp_path / "out", 1, [], print)
    assert (tmp_path / "out/trials/agent.head=hl_gauss/probe-termination/seeds-0-to-2/curve.png").exists()


def table(returns, tasks):
    """Scores of methods a, b, ...: returns[method][seed][task]."""
    return [
        Score((("m", json.dumps(name)),), (), task, seed, float(value), 0.0, float("nan"), 9, 1.0)
        for name, method in returns.items()
        for seed, row in enumerate(method)
        for task, value in zip(tasks, row, strict=True)
    ]


def compared(**values):
    return StudyConfig(title="t", config="c", axes={"m": ("a", "b")}, baseline={"m": "a"}, **values)


def test_units():
    returns = {"a": [[1, 10], [3, 30]], "b": [[4, 40], [4, 40]]}
    a, b = compared().methods()
    unit, found = scores.normalised(compared(), table(returns, ["x", "y"]))
    assert unit == "return divided by the absolute mean of a"
    np.testing.assert_allclose(found[b], [[2, 2], [2, 2]])
    unit, found = scores.normalised(
        compared(), table({k: np.array(v)[:, :1] for k, v in returns.items()}, ["x"])
    )
    assert unit == "return" and found[a].tolist() == [[1], [3]]
    games = ["atari/pong", "atari/space_invaders"]
    unit, found = scores.normalised(compared(), table({"a": [[-20.7, 148.0]], "b": [[14.6, 1668.7]]}, games))
    assert unit == "human-normalised return"
    np.testing.assert_allclose([found[a][0], found[b][0]], [[0, 0], [1, 1]], atol=1e-6)
    with pytest.raises(UserError, match="y: the mean return of a is 0 there"):
        scores.normalised(compared(), table({"a": [[1, 0]], "b": [[1, 1]]}, ["x", "y"]))


def test_the_summary():
    chance = np.random.default_rng(0)
    returns = {"a": chance.normal(1, 0.1, (5, 1)), "b": chance.normal(2, 0.1, (5, 1))}
    title, first, second = scores.summary(compared(), table(returns, ["x"]))
    assert title == "t: final return, 5 seeds x 1 tasks, interquartile mean and 95 % interval"
    wanted = stats.interval(stats.interquartile_mean, returns["a"])
    assert first == f"a  {wanted.point:8.3f}  [{wanted.low:.3f}, {wanted.high:.3f}]"
    assert second.endswith("better than a with probability 1.00 [1.00, 1.00]")
    *_, first, second, last = scores.summary(compared(), table({k: v[:2] for k, v in returns.items()}, ["x"]))
    assert "[" not in first + second and last.startswith("no interval: it needs 3 seeds or more")


def test_the_best_of_a_grid():
    """By the middle over tasks and seeds, each task in its own unit."""
    both = []
    for value, returns in {
        "1": [[1, 100], [1, 100]],
        "2": [[3, 90], [3, 90]],
        "3": [[2, 120], [2, 90]],
    }.items():
        both += [s._replace(tuned=(("k", value),)) for s in table({"a": returns}, ["x", "y"])]
    assert scores.best(both) == {(("m", '"a"'),): (("k", "2"),)}


def test_whole_configs_on_named_tasks(tmp_path):
    """Methods are configs, tasks differ in several keys; a dataset's seeds run at once."""
    offline = CARTPOLE.parent.parent / "offline"
    path = tmp_path / "offline.yaml"
    path.write_text(f"""
title: Agents on a dataset
overrides: {{offline.updates: 10}}
axes: {{config: [{offline}/bc.yaml, {offline}/iql.yaml]}}
tasks:
  near: {{env.id: mujoco/Hopper-v5, offline.dataset: near.hdf5}}
  far: {{env.id: mujoco/HalfCheetah-v5, offline.dataset: far.hdf5}}
baseline: {{config: {offline}/bc.yaml}}
seeds: 3
""")
    found = load(path)
    trials = study.trials(found, path, tmp_path / "out", {})
    assert [trial.folder.relative_to(tmp_path / "out/trials") for trial in trials] == [
        Path(f"config={name}/{task}/seeds-0-to-2") for name in ("bc", "iql") for task in ("near", "far")
    ]
    last = trials[-1].load()
    assert (last.agent.name, last.env.id, last.offline.dataset) == (
        "iql",
        "mujoco/HalfCheetah-v5",
        "far.hdf5",
    )
    assert last.offline.updates == 10 and scores.name(trials[-1].method) == "iql"
    assert found.baseline_of(trials[-1].method) == trials[0].method


def test_methods_are_compared_on_the_same_tasks(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(f"{{title: t, axes: {{config: [{CARTPOLE}, {PQN}]}}}}")
    with pytest.raises(UserError, match="on different tasks, classic/cartpole and minatar/breakout; name"):
        study.trials(load(path), path, tmp_path / "out", {})


def test_a_baseline_is_the_value_that_the_axis_has():
    found = StudyConfig(title="t", config="c", axes={"m": (0, 0.5)}, baseline={"m": 0.0})
    base, other = found.methods()
    assert found.baseline_of(other) == base and found.baseline_of(base) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("config=null", "a config for all trials, or an axis of them, is wanted"),
        ("tasks={one: {env.id: probe/action}}", "they are named here or by env.id, not both"),
        ("tasks={'..': {agent.gamma: 0.9}}", "a task's name is a folder's"),
    ],
)
def test_studies_that_do_not_say_what_is_compared(tiny, change, sentence):
    with pytest.raises(UserError, match=sentence):
        load(tiny, change)
