"""Train every agent twice, in two processes, and compare all of their states.

    python -m benchmarks.determinism [--agents dqn sac ...] [--steps 10_000]

Steps are agent steps, of agents that learn from a dataset updates. Every row of metrics carries fingerprints
of all arrays of the run's state; `valuelearn verify` compares them, and the final parameters.

Bar: no difference.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.kill import CONFIGS, ends_well, launch

_SMALL = "agent.network.hidden=[64, 64]"
_REPLAY = "agent.replay={capacity: 20_000, warmup_steps: 1_000}"
_OFFLINE = (_SMALL, "offline={dataset: DATASET, log_updates: 1_000, checkpoint_updates: 2_000, episodes: 4}")
RUNS: dict[str, tuple[str, ...]] = {
    "dqn": ("minatar/dqn_hl_gauss.yaml", _REPLAY),
    "dqn on the host": ("classic/dqn_cartpole.yaml", "env.id=gym/CartPole-v1", _REPLAY),
    "stock_dqn": ("grid/stock_dqn_cliff.yaml", _REPLAY),
    "pqn": ("minatar/pqn_hl_gauss.yaml",),
    "sac": ("classic/sac_pendulum.yaml", _SMALL, _REPLAY),
    "sac on the host": ("mujoco/sac.yaml", "env.id=mujoco/InvertedPendulum-v5", _SMALL, _REPLAY),
    "td3 on the host": ("mujoco/td3.yaml", "env.id=mujoco/InvertedPendulum-v5", _SMALL, _REPLAY),
    "bc": ("offline/bc.yaml", *_OFFLINE),
    "iql": ("offline/iql.yaml", *_OFFLINE),
    "cql": ("offline/cql.yaml", *_OFFLINE),
}


def _dataset(folder: Path) -> Path:
    """Random play of a pendulum."""
    config = CONFIGS / "datasets" / "pendulum.yaml"
    options = ("--quality", "random", "--out", folder)
    if not ends_well(launch("dataset", "make", config, "train.env_frames=10_000", *options)):
        raise SystemExit(1)
    return folder / "random.hdf5"


def same(name: str, steps: int, folder: Path) -> bool:
    """Whether two processes come to the same."""
    file, *overrides = RUNS[name]
    if file.startswith("offline/"):
        dataset = folder / "dataset"
        found = dataset / "random.hdf5" if dataset.exists() else _dataset(dataset)
        overrides = [text.replace("DATASET", str(found)) for text in overrides]
        overrides += ["env.id=classic/pendulum", f"offline.updates={steps}"]
    else:
        overrides += [f"train.env_frames={steps}", "train.log_frames=1_000"]
    runs = [folder / f"{name}-{index}" for index in range(2)]
    more = ("evaluation.episodes=0", "train.cpu_threads=1", "--run")
    processes = [launch("train", CONFIGS / file, *overrides, *more, run) for run in runs]
    if not all([ends_well(process) for process in processes]):
        return False
    verified = launch("verify", *runs)
    said, _ = verified.communicate()
    print(f"{name}: {said.decode().strip()}")
    return verified.returncode == 0


def main() -> None:
    """Run all and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--agents", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        good = [same(name, options.steps, Path(folder)) for name in options.agents]
    seconds = time.perf_counter() - start
    print(f"determinism: {sum(good)} of {len(good)} agents the same in two processes, {seconds:.0f} s")
    raise SystemExit(not all(good))


if __name__ == "__main__":
    main()
