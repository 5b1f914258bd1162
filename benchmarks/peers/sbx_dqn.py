"""SBX's DQN: Stable-Baselines3 with JAX."""

import sb3_dqn  # The file beside this one.

sb3_dqn.main("sbx-rl")
