"""d3rlpy's offline agents."""

import importlib.metadata
import json
import resource
import sys
import time

import d3rlpy
from d3rlpy.algos import (
    BCConfig,
    CalQLConfig,
    CQLConfig,
    IQLConfig,
    ReBRACConfig,
    SACConfig,
    TD3PlusBCConfig,
)
from offline_task import recorded  # The file beside this one.


def configured(name: str, task: dict) -> d3rlpy.base.LearnableConfig:
    """The agent with the networks, batches and critics of ours."""
    plain, normed = (
        d3rlpy.models.encoders.VectorEncoderFactory(task["hidden"], use_layer_norm=norm)
        for norm in (False, True)
    )
    networks = {"actor_encoder_factory": plain, "critic_encoder_factory": plain}
    # With the weight of CQL's term fixed, as ours is.
    conservative = {**networks, "alpha_learning_rate": 0.0, "n_action_samples": 10}
    scaled = {"observation_scaler": d3rlpy.preprocessing.StandardObservationScaler()}
    size = {"batch_size": task["batch_size"]}
    return {
        "bc": lambda: BCConfig(encoder_factory=plain, **scaled, **size),
        "td3_bc": lambda: TD3PlusBCConfig(**networks, **scaled, **size),
        "iql": lambda: IQLConfig(**networks, value_encoder_factory=plain, **scaled, **size),
        "cql": lambda: CQLConfig(**conservative, **size),
        "cal_ql": lambda: CalQLConfig(**conservative, **size),
        "rebrac": lambda: ReBRACConfig(**networks | {"critic_encoder_factory": normed}, **size),
        "sac_n": lambda: SACConfig(**networks, n_critics=10, **size),
    }[name]()


def main() -> None:
    """Warm up, then time updates."""
    name, task = sys.argv[1], json.loads(sys.argv[2])
    d3rlpy.seed(0)
    found = recorded(task)
    dataset = d3rlpy.dataset.MDPDataset(
        found["obs"], found["action"], found["reward"], 0 * found["reward"], found["last"].astype(float)
    )
    agent = configured(name, task).create()
    silent = {"show_progress": False, "logger_adapter": d3rlpy.logging.NoopAdapterFactory()}

    def fit(updates: int) -> float:
        """Seconds of so many."""
        start = time.perf_counter()
        agent.fit(dataset, n_steps=updates, n_steps_per_epoch=updates, save_interval=2, **silent)
        return time.perf_counter() - start

    fit(task["updates"] // 10)
    rate = task["updates"] / fit(task["updates"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    versions = {package: importlib.metadata.version(package) for package in ("d3rlpy", "torch")}
    print(json.dumps({"updates_per_second": rate, "peak_gib": peak, "versions": versions}))


if __name__ == "__main__":
    main()
