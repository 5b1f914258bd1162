"""Two processes in one folder, clocks that go backwards, and more memory than there is."""

import os
import random
import time

from benchmarks.faults.ground import (
    RUNS,
    Ground,
    Outcome,
    checkpoints,
    finish,
    kill,
    lost,
    refused,
    run,
    start,
)
from benchmarks.kill import CONFIGS, launch

# A stand-in: nothing here may set the machine's clock. Every process that finds this starts it.
_CLOCK = """
import random, time
real = time.time
def backwards(begun=real()):
    return begun - 3 * (real() - begun) - random.uniform(0, 100)
time.time = backwards
time.time_ns = lambda: int(1e9 * backwards())
"""
_TOO_LARGE = (
    "agent.replay.capacity=10_000_000_000",
    "agent.replay.batch_size=100_000_000",
    "agent.network.hidden=[200_000, 200_000]",
    "train.collect_steps=100_000_000",
    "env.num_envs=60_000 agent.replay.warmup_steps=180_000 agent.replay.capacity=3_000_000_000",
    "train.seeds=1_000 agent.replay.capacity=100_000_000",
    "agent.head=qr agent.head_options.num_quantiles=100_000",
    "agent.network.hidden=[100_000] agent.head_options.num_bins=100_000",
)


def two_processes(ground: Ground, chance: random.Random) -> Outcome:
    """Two processes take up one run: one is refused, and the other is not disturbed."""
    folder = ground.copy(ground.halfway("inside"))
    ground.alone("inside")
    first = start("inside", folder)
    time.sleep(chance.uniform(0, 1))
    second = start("inside", folder)
    ended = [finish(process) for process in (first, second)]
    good = [one for one in ended if one.code == 0]
    bad = [one for one in ended if one.code]
    if not good:
        return lost("neither came to the end", ended[0])
    for one in bad:
        if (found := refused(one, "another process writes to it")).verdict == "lost":
            return found
    return ground.ends_as_alone("inside", folder, bad[0].last if bad else "one after the other")


def clock(ground: Ground, chance: random.Random) -> Outcome:
    """The clock of the machine goes backwards, in leaps; killed and taken up again the run is the same."""
    place = ground.place()
    (place / "sitecustomize.py").write_text(_CLOCK)
    name = chance.choice(list(RUNS))
    ground.alone(name)
    env = {"PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}"}
    folder = place / "run"
    process = launch("train", *RUNS[name], "--run", folder, env=env)
    while process.poll() is None and not checkpoints(folder):
        time.sleep(0.01)
    kill(process)
    ended = finish(launch("resume", folder, env=env))
    return ground.ends_as_alone(name, folder) if ended.code == 0 else lost("it did not go on", ended)


def memory(ground: Ground, chance: random.Random) -> Outcome:
    """A config asks for more memory than there is: one sentence that says so."""
    folder = ground.place() / "run"
    asked = chance.choice(_TOO_LARGE)
    config = CONFIGS / "minatar" / "dqn_hl_gauss.yaml"
    ended = run("train", config, *_split(asked), "--run", folder)
    found = refused(ended, "memory" if "memory" in ended.last else "GiB")
    return found._replace(told=f"{asked}: {found.told}")


def _split(asked: str) -> list[str]:
    """The arguments of a line; a space within brackets does not part them."""
    return asked.replace(", ", ",").split(" ")
