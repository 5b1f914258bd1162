"""Environments by name: `make("minatar/breakout", num_envs=64)`.

minatar/<game>, classic/<name>   gymnax, stepped inside the compiled loop (extra `fast`)
grid/<name>                      gridworlds, inside the compiled loop, and exact processes too
plane/edge_of_reach              a plane with a distant goal, inside the compiled loop
pong/<points>                    a small Pong, inside the compiled loop
probe/<name>                     tiny, with known returns, inside the compiled loop
atari/<game>                     ale-py's vector environment (extra `atari`)
mujoco/<gymnasium id>            gymnasium's robots, as in mujoco/Hopper-v5 (extra `mujoco`)
gym/<any gymnasium id>           a gymnasium vector environment
"""

from envs.perturbed import noisy_rewards, sticky
from envs.registry import AtariOptions, UnknownEnvironmentError, check, is_functional, make
from envs.stock import stocked

__all__ = [
    "AtariOptions",
    "UnknownEnvironmentError",
    "check",
    "is_functional",
    "make",
    "noisy_rewards",
    "sticky",
    "stocked",
]
