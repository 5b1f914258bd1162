"""SBX's SAC and TD3: Stable-Baselines3 with JAX."""

import sb3_actor_critic  # The file beside this one.

sb3_actor_critic.main("sbx-rl")
