"""SBX's SAC: Stable-Baselines3 with JAX."""

import sb3_sac  # The file beside this one.

sb3_sac.main("sbx-rl")
