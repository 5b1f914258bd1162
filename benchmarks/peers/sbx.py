"""SBX's DQN: Stable-Baselines3 with JAX."""

import sb3  # The file beside this one.

sb3.main("sbx-rl")
