"""Wrong configs, arguments and folders: one sentence that names the place and the mend, exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from valuelearn import cli

CONFIGS = Path(__file__).parent.parent / "agents" / "configs"
PQN, DQN = CONFIGS / "minatar" / "pqn_hl_gauss.yaml", CONFIGS / "minatar" / "dqn_hl_gauss.yaml"
ATARI = CONFIGS / "atari" / "dqn_mse.yaml"
SAC = CONFIGS / "mujoco" / "sac.yaml"

# What x.yaml holds -> what the sentence says.
FILES = {
    "unknown_key": ("agnet: {}", "x.yaml, line 1: unknown key 'agnet'; did you mean 'agent'?"),
    "deep_typo": (
        "agent:\n  name: dqn\n  head_options:\n    v_max: 3\n    v_mni: 1",
        "x.yaml, line 5: unknown key 'agent.head_options.v_mni'; did you mean 'v_min'?",
    ),
    "key_elsewhere": ("gamma: 0.9", "line 1: unknown key 'gamma'; did you mean 'agent.gamma'?"),
    "wrong_type": (
        "train:\n  seed: 1\n  seeds: two",
        'line 3: train.seeds is "two"; a whole number is wanted',
    ),
    "wrong_item": (
        "agent:\n  network:\n    hidden:\n    - 32\n    - x",
        'line 5: agent.network.hidden.1 is "x"; a whole number is wanted',
    ),
    "no_mapping": ("train: 3", "line 1: train is 3; a group of keys is wanted"),
    "not_finite": ("agent:\n  gamma: .nan", "line 2: agent.gamma is NaN; text, a finite number"),
    "bytes": ("train:\n  seed: !!binary aGVsbG8=", "line 2: train.seed is b'hello'; text, a finite number"),
    "out_of_range": ("train:\n  seed: -1", "line 2: train.seed is -1; at least 0 is wanted"),
    "empty_support": (
        "agent:\n  head_options:\n    v_min: 3\n    v_max: 2",
        "line 3: agent.head_options.v_min is 3.0; it must lie below v_max, which is 2.0",
    ),
    "nonlinear_objective": (
        "agent:\n  head: hl_gauss\n  objective: {name: cvar, tau: 0.1}",
        'line 3: agent.objective.name is "cvar"; cvar needs the return\'s whole law, but the head hl_gauss',
    ),
    "pqn_c51": ("agent:\n  name: pqn\n  head: c51", 'line 3: agent.head is "c51"; it learns a whole law'),
    "double_munchausen": (
        "agent:\n  munchausen: {}\n  double: true",
        "line 3: agent.double is true; it does not go with munchausen",
    ),
    "n_step_munchausen": (
        "agent:\n  munchausen: {}\n  replay:\n    n_step: 3",
        "line 4: agent.replay.n_step is 3; munchausen needs 1",
    ),
    "rollouts_of_atari": (
        "env: {id: classic/pendulum}\nagent: {name: sac}\nrollouts: {steps: 5}",
        'line 1: env.id is "classic/pendulum"; its dynamics are not known, as those of plane/edge_of',
    ),
    "no_rollouts": (
        "env: {id: plane/edge_of_reach}\nagent: {name: sac}\nrollouts: {steps: 0}",
        "line 3: rollouts.steps is 0; more than 0 is wanted",
    ),
    "sized_returns_in_the_plane": (
        "env: {id: plane/edge_of_reach}\nrollouts: {}\nagent: {name: sac, return_size: 5.0}",
        "line 3: agent.return_size is 5.0; values in rollouts are reported in units of returns; use",
    ),
    "sized_returns_of_a_model": (
        "env: {id: mujoco/Hopper-v5}\nrollouts: {model: x}\nagent: {name: sac, return_size: 5.0}",
        "line 3: agent.return_size is 5.0; values in rollouts are reported in units of returns; use",
    ),
    "penalty_of_nothing": (
        "env: {id: plane/edge_of_reach}\nagent: {name: sac}\nrollouts: {penalty: 1.0}",
        "line 3: rollouts.penalty is 1.0; it is of rollouts of a model; name one in rollouts.model",
    ),
    "true_robot": (
        "env: {id: mujoco/Hopper-v5}\nagent: {name: sac}\nrollouts: {model: x, truth: 0.5}",
        "line 3: rollouts.truth is 0.5; the true dynamics are known in plane/edge_of_reach alone",
    ),
    "truth_of_nothing": (
        "env: {id: plane/edge_of_reach}\nagent: {name: sac}\nrollouts: {truth: 0.5}",
        "line 3: rollouts.truth is 0.5; it is of rollouts of a model; name one in rollouts.model",
    ),
    "patched_robot": (
        "env: {id: mujoco/Hopper-v5}\nagent: {name: sac}\nrollouts: {model: x, patch: edge}",
        'line 3: rollouts.patch is "edge"; true values are known in rollouts of plane/edge_of_reach itself',
    ),
    "nobody_disagrees": (
        "env: {id: mujoco/Hopper-v5}\nagent: {name: sac, disagreement: {}}",
        'line 2: agent.disagreement is {"weight": 1.0, "draws": 10}; only members of a learnt model can',
    ),
    "conservative_in_the_plane": (
        "env: {id: plane/edge_of_reach}\nrollouts: {}\nagent:\n  name: sac\n  conservative: {}",
        "line 5: agent.conservative is",
    ),
    "calibrated_rollouts": (
        "env: {id: mujoco/Hopper-v5}\nrollouts: {model: x}\n"
        "agent:\n  conservative: {calibrated: true}\n  name: sac",
        "line 4: agent.conservative.calibrated is true; of rollouts it is not known what they would",
    ),
    "cloning_rollouts": (
        "env: {id: mujoco/Hopper-v5}\nrollouts: {model: x}\nagent: {name: bc}",
        'line 3: agent.name is "bc"; with these settings it learns from a dataset',
    ),
    "share_of_one": (
        "env: {id: mujoco/Hopper-v5}\nagent: {name: sac}\nrollouts: {model: x, real_share: 1.0}",
        "line 3: rollouts.real_share is 1.0; less than 1.0 is wanted",
    ),
    "share_of_nothing": (
        "env: {id: mujoco/Hopper-v5}\nagent: {name: sac, replay: {batch_size: 8}}\nrollouts: {model: x}",
        "line 2: rollouts.real_share is 0.05; of a batch of 8 that is 0; some of either kind are wanted",
    ),
    "dqn_in_rollouts": (
        "env: {id: mujoco/Hopper-v5}\nagent: {name: dqn}\nrollouts: {model: x}",
        'line 1: env.id is "mujoco/Hopper-v5"; its actions are continuous, which dqn does not choose',
    ),
    "counted_rollouts": (
        "env: {id: gym/CartPole-v1}\nagent: {name: dqn, network: {torso: mlp}}\nrollouts: {model: x}",
        'line 2: agent.name is "dqn"; agents of continuous actions learn in rollouts; sac does',
    ),
    "unsaved_sizes": (
        "env: {id: classic/pendulum}\nagent: {name: sac, return_size: 5.0}\ncheckpoint: {replay: false}",
        "line 3: checkpoint.replay is false; what agent.return_size has come to is saved with it; true is",
    ),
    "no_model": (
        "env: {id: mujoco/Hopper-v5}\nagent: {name: sac}\nrollouts: {model: x}",
        'line 3: rollouts.model is "x"; x: there is no model in it; valuelearn model fits one',
    ),
    "half_an_update": (
        "env: {id: classic/pendulum, num_envs: 3}\nagent: {name: sac, updates_per_step: 0.125}",
        "line 2: agent.updates_per_step is 0.125; env.num_envs x train.collect_steps = 3 x 4",
    ),
    "head_typo": ("agent:\n  head: hl_gaus", "line 2: agent.head is \"hl_gaus\"; did you mean 'hl_gauss'?"),
    "agent_name": (
        "agent:\n  name: qlearner",
        'line 2: agent.name is "qlearner"; one of dqn, stock_dqn, pqn, sac, td3, bc, iql is wanted',
    ),
    "other_agents_key": (
        "agent:\n  name: pqn\n  replay: {}",
        "line 3: unknown key 'agent.replay' of agent 'pqn'; it belongs to another agent.name",
    ),
    "bad_yaml": ("train:\n  seed: [1\nenv: {}", "x.yaml, line 3: not valid YAML: expected ',' or ']'"),
    "too_deep": ("[" * 5000, "x.yaml: not valid YAML: nested too deeply"),
    "duplicate_key": ("train: {}\ntrain: {}", "x.yaml, line 2: not valid YAML: found duplicate key train"),
    "list": ("- train", "x.yaml: a mapping of `key: value` is wanted"),
    "binary": (b"\x89PNG\xff", "x.yaml: a YAML file is wanted, and this is not UTF-8 text"),
    "nul": (b"train: \x00", "x.yaml: not valid YAML: unacceptable character"),
    "own_base": ("base: x.yaml", 'x.yaml, line 1: base is "x.yaml": this file is based on itself'),
    "no_base": ("env: {}\nbase: y.yaml", 'line 2: base is "y.yaml": there is no such file or folder'),
    "number_as_base": ("base: 3", "line 1: base is 3; the name of a file is wanted"),
    "reference": ("train:\n  seed: ${nowhere}", "line 2: train.seed: Interpolation key 'nowhere' not found"),
    "environment_kind": (
        "env:\n  id: atri/pong",
        "there is no kind of environment 'atri'; did you mean 'atari'?",
    ),
    "minatar_game": ("env: {id: minatar/pong}", "there is no minatar environment 'pong'; there are asterix,"),
}

# Arguments after `valuelearn` -> what the sentence says; x.yaml holds nothing.
ARGUMENTS = {
    "typo": (
        ["train", PQN, "agent.hed=mse"],
        "'agent.hed=mse': unknown key 'agent.hed' of agent 'pqn'; did you mean 'head'?",
    ),
    "type": (
        ["train", PQN, "train.env_frames=1e6"],
        "'train.env_frames=1e6': train.env_frames is 1000000.0; a whole number is wanted, such as 1000000",
    ),
    "text": (["train", PQN, "agent.gamma='0.9'"], 'agent.gamma is "0.9"; a number is wanted'),
    "vector_objective": (
        ["train", DQN, "agent.head=qr", "agent.objective.name=norm"],
        'agent.objective.name is "norm"; it is of vectors, and the return here is one number',
    ),
    "question": (
        ["train", DQN, "evaluation.objective.name=mean"],
        'evaluation.objective is "mean"; dqn cannot be asked for an objective; stock_dqn can',
    ),
    "stock_without_question": (
        ["train", CONFIGS / "grid" / "stock_dqn_coin.yaml", "evaluation.stock=1"],
        "evaluation.stock is 1.0; a stock to begin with goes with an objective; give one",
    ),
    "vector_rewards": (
        ["train", DQN, "env.id=grid/homeostasis", "agent.network.torso=mlp"],
        'env.id is "grid/homeostasis"; it pays 2 numbers a step, which only stock_dqn takes',
    ),
    "no_steps": (["train", DQN, "agent.replay.n_step=0"], "agent.replay.n_step is 0; more than 0 is wanted"),
    "gamma": (
        ["train", DQN, "agent.gamma=1"],
        "argument 'agent.gamma=1': agent.gamma is 1; less than 1.0 is wanted",
    ),
    "support": (
        ["train", PQN, "agent.head_options.v_max=-3"],
        "argument 'agent.head_options.v_max=-3': agent.head_options.v_min is -1.0",
    ),
    "not_installed": (["train", "x.yaml", "env.id=gym/HalfCheetah-v5"], 'env.id is "gym/HalfCheetah-v5"; '),
    "game": (
        ["train", ATARI, "env.id=atari/braekout"],
        "there is no Atari game 'braekout'; did you mean 'breakout'?",
    ),
    "gym_id": (
        ["train", PQN, "env.id=gym/CartPole"],
        "there is no gymnasium environment 'CartPole'; did you mean 'CartPole-v1'?",
    ),
    "continuous": (
        ["train", PQN, "env.id=gym/Pendulum-v1"],
        "its actions are continuous, which pqn does not choose; sac does",
    ),
    "discrete": (
        ["train", SAC, "env.id=classic/cartpole"],
        "its actions are discrete, which sac does not choose; dqn does",
    ),
    "robot": (
        ["train", SAC, "env.id=mujoco/Hoper-v5"],
        "there is no MuJoCo environment 'Hoper-v5'; did you mean 'Hopper-v5'?",
    ),
    "critic_fractions": (
        ["train", SAC, "agent.head=iqn"],
        'agent.head is "iqn"; its fractions do not enter these critics; use qr',
    ),
    "critics_in_targets": (
        ["train", SAC, "agent.target_critics=3"],
        "agent.target_critics is 3; at most num_critics = 2 is wanted",
    ),
    "noise_outside": (
        ["train", ATARI, "env.reward_noise=[0, 1]"],
        "atari/breakout runs outside the compiled loop, where rewards take no noise",
    ),
    "noise_upside_down": (
        ["train", PQN, "env.reward_noise=[1, 0]"],
        "env.reward_noise is [1.0, 0.0]; its lower end is wanted first",
    ),
    "sticky_gym": (
        ["train", PQN, "env.id=gym/CartPole-v1", "env.sticky_actions=0.1"],
        "env.sticky_actions is 0.1; gym/CartPole-v1 takes none; atari/ and environments",
    ),
    "idle_cartpole": (
        ["train", PQN, "env.id=classic/cartpole", "env.noop_max=30"],
        "env.noop_max is 30; classic/cartpole takes none; atari/ alone does",
    ),
    "limit_gym": (
        ["train", PQN, "env.id=gym/CartPole-v1", "env.max_episode_frames=100"],
        "env.max_episode_frames is 100; gym/CartPole-v1 takes none; atari/ alone does",
    ),
    "torso": (
        ["train", PQN, "env.id=gym/CartPole-v1"],
        'agent.network.torso is "minatar"; it reads images, but an observation has the shape (4,); use mlp',
    ),
    "padding": (
        ["train", DQN, "agent.network={torso: nature, padding: valid}"],
        "it reads images of at least 36 x 36, but these are 10 x 10",
    ),
    "no_value": (["train", PQN, "train.seed"], "argument 'train.seed': key=value is wanted"),
    "bad_value": (["train", PQN, "train.seed={"], "argument 'train.seed={': '{' is not a YAML value"),
    "empty_value": (
        ["train", PQN, "train.seed="],
        "argument 'train.seed=': train.seed is null; a whole number is wanted",
    ),
    "seeds": (
        ["train", ATARI, "train.seeds=4"],
        "train.seeds is 4; atari/breakout runs outside the compiled loop",
    ),
    "update_period": (
        ["train", DQN, "agent.update_period_steps=7"],
        "a divisor of env.num_envs x train.collect_steps = 16 x 4 is wanted",
    ),
    "minibatches": (
        ["train", PQN, "agent.minibatches=7"],
        "a divisor of env.num_envs x train.collect_steps = 128 x 32 is wanted",
    ),
    "warmup": (
        ["train", DQN, "agent.replay.warmup_steps=47"],
        "agent.replay.warmup_steps is 47; env.num_envs x (agent.replay.n_step + 2) = 48",
    ),
    "warmup_only": (
        ["train", DQN, "train.env_frames=4_000"],
        "agent.replay.warmup_steps is 5000; train.env_frames = 4000 are 4000 agent steps, so that nothing",
    ),
    "capacity": (
        ["train", DQN, "agent.replay.capacity=100"],
        "agent.replay.capacity is 100; capacity 100 gives each of 16 environments 6 rows",
    ),
    "memory": (
        ["train", ATARI, "agent.replay.capacity=1_000_000_000"],
        "agent.replay.capacity is 1000000000; the run would need 6586.",
    ),
    "networks": (
        ["train", DQN, "agent.network.hidden=[10_000_000, 1000]"],
        "agent.network.hidden is [10000000, 1000]; the run would need",
    ),
    "bins": (
        ["train", DQN, "agent.head_options.num_bins=1_000_000_000"],
        "agent.head_options.num_bins is 1000000000; at most 100000 is wanted",
    ),
    "no_frames": (
        ["train", ATARI, "env.num_envs=1", "train.env_frames=3"],
        "train.env_frames is 3; one step of atari/breakout takes 4 frames",
    ),
    "no_file": (
        ["train", PQN.with_name("pqn_hl_gaus.yaml")],
        f"there is no such file or folder; did you mean {PQN}?",
    ),
    "no_folder": (["train", CONFIGS / "minatr" / PQN.name], f"did you mean {PQN}?"),
    "folder": (["train", CONFIGS], "configs: a YAML file is wanted, and this is a folder"),
    "run_in_use": (
        ["train", PQN, "--run", CONFIGS],
        "configs: exists already; name another folder with --run",
    ),
    "run_under_file": (["train", PQN, "--run", "x.yaml/run"], "x.yaml is not a folder that can be written"),
    "evaluate_nothing": (["evaluate", "runs/x"], "runs/x: there is no such file or folder"),
    "evaluate_no_run": (["evaluate", CONFIGS], "configs: this is not a run folder: it has no config.yaml"),
    "plot_no_run": (["plot", CONFIGS], "configs: this is not a run folder: it has no config.yaml"),
    "unfitted": (["evaluate", CONFIGS, "--head", "qr"], "--head: they are of --fitted DATASET, which is not"),
    "episodes": (
        ["evaluate", CONFIGS, "episodes=1000"],
        "argument 'episodes=1000': how many are played is said by --episodes",
    ),
    "endless": (
        ["train", ATARI, "env.max_episode_frames=3_000_000_000"],
        "env.max_episode_frames is 3000000000; less than 2147483648",
    ),
    "fitted_video": (
        ["evaluate", CONFIGS, "--fitted", "x.hdf5", "--video", "x.gif"],
        "--video: --fitted asks a dataset, and draws nothing",
    ),
    "fitted_iqn": (
        ["evaluate", CONFIGS, "--fitted", "x.hdf5", "--head", "iqn"],
        "--head iqn: one of mse, huber, ",
    ),
    "plot_suffix": (
        ["plot", CONFIGS, "--out", "x.foo"],
        "x.foo: a name that ends in .png or .pdf or .svg is wanted",
    ),
}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """The sentence with which the command line refuses arguments, the rest being as it must be."""

    def refused(content, *arguments):
        (tmp_path / "x.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["valuelearn", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        assert (end.value.code, out, err.count("\n")) == (2, "", 1), (out, err)
        assert list(tmp_path.rglob("*")) == [tmp_path / "x.yaml"]
        return err

    return refused


@pytest.mark.parametrize("name", FILES)
def test_a_mistake_in_a_file(refused, name):
    content, sentence = FILES[name]
    found = refused(content, "train", "x.yaml")
    assert found.startswith("valuelearn: x.yaml")
    assert sentence in found


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_mistake_in_the_arguments(refused, name):
    arguments, sentence = ARGUMENTS[name]
    assert sentence in refused("", *arguments)


@pytest.mark.parametrize("video", ["x.gif", "x.mp4", "nowhere/x.gif"])
def test_a_video_that_cannot_be_made(refused, tmp_path_factory, video):
    run = tmp_path_factory.mktemp("run")
    kind = "minatar/breakout" if video == "x.gif" else "atari/breakout"
    (run / "config.yaml").write_text(f"env: {{id: {kind}}}")
    found = refused("", "evaluate", run, "--video", video)
    assert video in found
    assert ("cannot be drawn" in found, ".gif is wanted" in found, "not a folder" in found).count(True) == 1


def test_a_run_without_parameters(refused, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    (run / "config.yaml").write_text("agent: {network: {torso: minatar}}")
    assert "params: there are no saved parameters" in refused("", "evaluate", run)


@pytest.mark.parametrize("name", ["deep_typo", "nonlinear_objective"])
def test_no_traceback(tmp_path, name):
    content, sentence = FILES[name]
    (tmp_path / "x.yaml").write_text(content)
    command = [sys.executable, "-c", "import valuelearn.cli as c; c.main()", "train", "x.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert sentence in done.stderr
