"""Environments that raise, that end the process, and that never answer."""

import os
import random
from pathlib import Path

from benchmarks.faults.ground import Ground, Outcome, checkpoints, finish, lost, refused
from benchmarks.kill import CONFIGS, launch

_MODULE = '''
"""An environment with a fault at some step of the process, as FAULT says: raise:300."""
import os, sys, time
import gymnasium, numpy as np

class Faulty(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        Faulty.count += 1
        self.steps += 1
        fault, _, at = os.environ.get("FAULT", "none:0").partition(":")
        if Faulty.count == int(at):
            match fault:
                case "raise": raise ZeroDivisionError("no way on")
                case "exit": sys.exit(0)
                case "die": os.abort()
                case "hang": time.sleep(10_000)
        obs = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return obs, float(action), False, self.steps == 20, {}

gymnasium.register("Faulty-v0", Faulty)
'''
_RUN = (
    CONFIGS / "classic" / "dqn_cartpole.yaml",
    "env={id: gym/valuelearn_faulty:Faulty-v0, num_envs: 2, patience_seconds: 4}",
    "agent.replay={capacity: 2_000, warmup_steps: 200}",
    "agent.network.hidden=[16]",
    "train={env_frames: 2_000, log_frames: 250, collect_steps: 4}",
    "checkpoint.every_frames=500",
    "evaluation.episodes=0",
)


def faulty(ground: Ground, chance: random.Random) -> Outcome:
    """One sentence that names it, or an end that no code survives; then it is mended, and the run goes on."""
    place = ground.place()
    (place / "valuelearn_faulty.py").write_text(_MODULE)
    folder, fault = place / "run", chance.choice(("raise", "exit", "die", "hang"))
    at = chance.randrange(1, 2_000)
    ended = finish(launch("train", *_RUN, "--run", folder, env=_env(place, f"{fault}:{at}")))
    if fault == "die":
        if ended.code >= 0:
            return lost("the process should have died", ended)
    else:
        found = refused(ended, "Faulty-v0")
        if found.verdict == "lost":
            return found._replace(told=f"{fault}: {found.told}")

    def alone(reference: Path) -> None:
        ended = finish(launch("train", *_RUN, "--run", reference, env=_env(place, "none:0")))
        assert ended.code == 0, ended.text

    had = len(checkpoints(folder))
    ended = finish(launch("resume", folder, env=_env(place, "none:0")))
    if ended.code or "Traceback" in ended.text:
        return lost(f"{fault}: the mended one did not go on from {had} checkpoints", ended)
    runs = (folder, ground.once("alone-faulty", alone))
    if len({(one / "metrics.csv").read_bytes() for one in runs}) > 1:
        return lost(f"{fault}: its metrics are not those of the run without a fault")
    return Outcome("went on", f"{fault}: the same metrics")


def _env(place: Path, fault: str) -> dict[str, str]:
    return {"PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}", "FAULT": fault}
