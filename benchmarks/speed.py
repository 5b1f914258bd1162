"""Speed against other frameworks, on one machine in one run.

    python -m benchmarks.speed atari | heads | classic | seeds | dp [--rounds 3]

Each framework runs in a virtual environment of its own, made here on first use. Programs take
turns, so that a machine that slows down slows all; medians are compared. `heads` times one update
with each value head, `seeds` training with one seed and with ten at once. `dp` times a sweep of
distributional value iteration beside numpy in loops over states, actions and outcomes, which
projects returns by np.add.at or by a product with a matrix; both must arrive at our laws. The table
goes to `benchmarks/results/speed/` as JSON, too.

Bars: `atari` at least 2.5 times Stable-Baselines3's agent steps per second (Breakout, batch 32, an
update every 4 steps, real frames); `classic` at least 8 times Stable-Baselines3 and 20 times SBX
(CartPole, one update of batch 128 per step); `heads` HL-Gauss within 1.05 times squared error;
`seeds` ten within 4 times one; `dp` at 1000 states, 201 stocks and 201 returns 10 times numpy with
np.add.at, in at most 8 GiB.
"""

import argparse
import json
import operator
import os
import platform
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents import experiment
from agents.experiment import ExperimentConfig
from benchmarks.peers import ours_dqn
from valuelearn import config, heads, loop
from valuelearn.types import FunctionalEnv

HERE = Path(__file__).parent
ENVIRONMENTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "valuelearn" / "peers"
PEERS = {
    "sb3": ("torch == 2.13.0", "stable-baselines3 >= 2.7", "ale-py", "opencv-python-headless"),
    "sbx": ("torch == 2.13.0", "sbx-rl >= 0.20", "ale-py", "opencv-python-headless"),
}
# What every framework is given alike; the steps are timed, a tenth as many go before.
TASKS: dict[str, dict] = {
    "atari": {
        "game": "BreakoutNoFrameskip-v4",
        "num_envs": 8,
        "update_period_steps": 4,
        "batch_size": 32,
        "learning_rate": 6.25e-5,
        "capacity": 50_000,
        "warmup_steps": 2_000,
        "steps": {"ours": 6_000, "sb3": 4_000},
        "target_period_steps": 8_000,
    },
    "classic": {
        "num_envs": 1,
        "update_period_steps": 1,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "hidden": [64, 64],
        "capacity": 50_000,
        "warmup_steps": 1_000,
        "steps": {"ours": 100_000, "sb3": 5_000, "sbx": 3_000},
        "target_period_steps": 500,
    },
}
AT_LEAST = {"atari": {"sb3": 2.5}, "classic": {"sb3": 8.0, "sbx": 20.0}}
AT_MOST = {"hl_gauss": 1.05}
UPDATES = 16  # In one compiled loop.
SEEDS = 10
SEEDS_AT_MOST = 4.0
CHUNK = 16_384  # Agent steps of each seed.
DP_TASK: dict[str, Any] = {
    # States, stocks and returns; the last is judged.
    "sizes": [[100, 51, 51], [1000, 51, 51], [100, 201, 51], [100, 51, 201], [1000, 201, 201]],
    "sweeps": 2,
    "gamma": 0.95,
    "rewards": [-2, -1, 0, 1, 2],
    "reach": 40,  # Of stocks and returns: the largest reward / (1 - gamma).
    "actions": [2, 4],
    "outcomes": 2,
    "seed": 0,
}
DP_AT_LEAST = 10.0
DP_MOST_GIB = 8.0
DP_SAME = 1e-6


def python_of(peer: str) -> Path:
    """The interpreter of a framework's own environment, made where it is missing."""
    if peer not in PEERS:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"installing {peer} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[peer]], check=True)
        (folder / "installed").touch()
    return python


def measure(peer: str, problem: str, name: str, task: dict) -> dict:
    """What a framework's program prints."""
    program = HERE / "peers" / f"{peer}_{problem}.py"
    command = [python_of(peer), program, name, json.dumps(task)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)} if peer == "ours" else None
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed:\\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def frameworks(name: str, rounds: int) -> tuple[dict, bool]:
    """Agent steps per second of every framework, by turns, and whether the bars are met."""
    peers, task = ("ours", *AT_LEAST[name]), TASKS[name]
    for peer in peers:
        python_of(peer)
    runs: dict[str, list[dict]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            runs[peer].append(measure(peer, "dqn", name, task | {"steps": task["steps"][peer]}))
            print(f"{peer}: {runs[peer][-1]['agent_steps_per_second']:.0f} agent steps/s", file=sys.stderr)
    rates = {peer: [run["agent_steps_per_second"] for run in found] for peer, found in runs.items()}
    medians = {peer: statistics.median(found) for peer, found in rates.items()}
    ratios = {peer: medians["ours"] / medians[peer] for peer in AT_LEAST[name]}
    figures = ", ".join(
        f"{peer} {rate:,.0f} agent steps/s" + (f" (1/{ratios[peer]:.1f})" if peer in ratios else "")
        for peer, rate in medians.items()
    )
    table = {
        "figures": figures,
        "unit": "agent steps per second",
        "task": task,
        "runs": rates,
        "medians": medians,
        "ours_over": ratios,
        "versions": {peer: found[0]["versions"] for peer, found in runs.items()},
    }
    return table, all(ratios[peer] >= bar for peer, bar in AT_LEAST[name].items())


def one_update(head: str) -> Callable[[], float]:
    """A function that answers with the milliseconds of an update of the Nature network with that head."""
    built = experiment.make(ours_dqn.load("atari", TASKS["atari"], f"agent.head={head}"))
    agent, memory, spec = built.algorithm.agent, built.algorithm.memory, built.env.spec
    built.env.close()
    rollout = loop.empty_trajectory(spec, 256)
    pixels = jax.random.randint(jax.random.key(0), rollout.obs.shape, 0, 256).astype(spec.obs_dtype)
    step = rollout.step._replace(obs=pixels, next_obs=pixels, valid=jnp.ones_like(rollout.step.valid))
    experience = jax.jit(memory.add)(memory.init(), rollout._replace(obs=pixels, step=step))
    learner = jax.jit(agent.init)(jax.random.key(0), pixels[0])
    update = jax.jit(loop.updates_of(agent, memory), donate_argnums=(0, 1))
    learner, experience, _ = update(learner, experience, jax.random.key(0), UPDATES)

    def timed() -> float:
        nonlocal learner, experience
        start = time.perf_counter()
        learner, experience, _ = update(learner, experience, jax.random.key(0), UPDATES)
        jax.block_until_ready(learner.updates)
        return 1e3 * (time.perf_counter() - start) / UPDATES

    return timed


def by_turns(timers: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each timer answers, round after round."""
    runs: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timed in timers.items():
            runs[name].append(timed())
    return runs


def every_head(rounds: int) -> tuple[dict, bool]:
    """Milliseconds of an update with each head, by turns, and whether the bars are met."""
    runs = by_turns({head: one_update(head) for head in heads.NAMES}, 8 * rounds)
    medians = {head: statistics.median(found) for head, found in runs.items()}
    # Of neighbours in time, as the machine drifts.
    ratios = {
        head: statistics.median(map(operator.truediv, found, runs["mse"])) for head, found in runs.items()
    }
    figures = ", ".join(f"{head} {medians[head]:.1f} ms (x {ratios[head]:.2f})" for head in medians)
    table = {
        "figures": figures,
        "unit": "ms per update",
        "batch_size": TASKS["atari"]["batch_size"],
        "runs": runs,
    }
    good = all(ratios[head] <= bar for head, bar in AT_MOST.items())
    return table | {"medians": medians, "over_mse": ratios}, good


def one_chunk(name: str, seeds: int) -> Callable[[], float]:
    """A function that answers with the seconds of a chunk of a MinAtar config, so many seeds at once."""
    path = ours_dqn.CONFIGS / "minatar" / f"{name}.yaml"
    arguments = [f"train.log_frames={CHUNK}", f"train.seeds={seeds}"]
    built = experiment.make(config.load(ExperimentConfig, path, arguments))
    assert isinstance(built.env, FunctionalEnv)
    agent, memory = built.algorithm.agent, built.algorithm.memory
    chunks = loop.train_functional(agent, built.env, memory, built.schedule, range(seeds))
    while not next(chunks).metrics["updates"].all():  # Through the warm-up.
        pass

    def timed() -> float:
        start = time.perf_counter()
        next(chunks)
        return time.perf_counter() - start

    return timed


def many_seeds(rounds: int) -> tuple[dict, bool]:
    """Seconds of training with one seed and with several at once, and whether the bar is met."""
    names = ("pqn_hl_gauss", "dqn_hl_gauss")
    runs = {}
    for name in names:
        # Many first: they ask for the devices that the process then has.
        timers = {str(seeds): one_chunk(name, seeds) for seeds in (SEEDS, 1)}
        runs[name] = by_turns(timers, 3 * rounds)
    ratios = {
        name: statistics.median(map(operator.truediv, found[str(SEEDS)], found["1"]))
        for name, found in runs.items()
    }
    figures = ", ".join(f"{SEEDS} seeds of {name} in {ratios[name]:.1f} times one seed" for name in names)
    table = {
        "figures": figures,
        "unit": f"seconds per {CHUNK} agent steps of each seed",
        "runs": runs,
        "over_one_seed": ratios,
    }
    return table, all(ratio <= SEEDS_AT_MOST for ratio in ratios.values())


def dynamic_programming(rounds: int) -> tuple[dict, bool]:
    """Milliseconds of a sweep of laws beside numpy, by turns, and whether the bars are met."""
    runs: dict[str, list[dict]] = {"ours": [], "scatter": [], "matrix": []}
    for _ in range(rounds):
        for name, found in runs.items():
            found.append(measure("ours" if name == "ours" else "numpy", "dp", name, DP_TASK))
            print(f"{name}: {np.array(found[-1]['ms_per_sweep'], int)} ms per sweep", file=sys.stderr)
    times = {name: np.array([run["ms_per_sweep"] for run in found]) for name, found in runs.items()}
    medians = {name: np.median(found, axis=0) for name, found in times.items()}
    ratios = {name: medians[name] / medians["ours"] for name in ("scatter", "matrix")}
    laws = [[np.array(law) for law in found[0]["mean_laws"]] for found in runs.values()]
    apart = max(
        float(abs(law - ours).max()) for other in laws[1:] for law, ours in zip(other, laws[0], strict=True)
    )
    peak = max(run["peak_gib"] for run in runs["ours"])
    full = " x ".join(map(str, DP_TASK["sizes"][-1]))
    figures = (
        f"{full} ours {medians['ours'][-1]:,.0f} ms per sweep in {peak:.1f} GiB, "
        + ", ".join(
            f"numpy by {name} {medians[name][-1]:,.0f} ms ({ratios[name][-1]:.1f} times)" for name in ratios
        )
        + f"; laws within {apart:.0e}"
    )
    table = {
        "figures": figures,
        "unit": "ms per sweep, by size",
        "task": DP_TASK,
        "runs": {name: found.tolist() for name, found in times.items()},
        "medians": {name: found.tolist() for name, found in medians.items()},
        "over_ours": {name: found.tolist() for name, found in ratios.items()},
        "peak_gib": peak,
        "laws_apart": apart,
        "versions": {name: found[0]["versions"] for name, found in runs.items()},
    }
    good = ratios["scatter"][-1] >= DP_AT_LEAST and peak <= DP_MOST_GIB and apart <= DP_SAME
    return table, bool(good)


def main() -> None:
    """Make one table, and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("table", choices=("atari", "heads", "classic", "seeds", "dp"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    match options.table:
        case "heads":
            table, good = every_head(options.rounds)
        case "seeds":
            table, good = many_seeds(options.rounds)
        case "dp":
            table, good = dynamic_programming(options.rounds)
        case name:
            table, good = frameworks(name, options.rounds)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    file = HERE / "results" / "speed" / f"{options.table}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine, **table}, indent=1) + "\n")
    print(f"speed {options.table}: {table['figures']}: {'bars met' if good else 'a bar MISSED'}")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
