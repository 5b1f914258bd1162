"""Learning in rollouts of a model that are cut short: what they are, and the environment that makes them.

Model-based policy optimisation (Janner et al., 2019) is any agent of continuous actions here; RAVL (Sims et
al., 2024) is one whose critics are many, the lowest counting, and made unlike (`agent.num_critics`,
`agent.diversity`).
"""

from typing import Annotated

import jax
from pydantic import Field

from envs import edge_of_reach
from valuelearn.config import Misfit, Section
from valuelearn.types import FunctionalEnv, Transition

_PLANE = "plane/edge_of_reach"


class RolloutsConfig(Section):
    """Rollouts to learn from, in place of whole episodes of the environment, which then only evaluates."""

    steps: Annotated[int, Field(gt=0)] = 5
    """Steps after which a rollout is cut; what would have followed is bootstrapped."""
    patch: edge_of_reach.Patch = "none"
    """States whose true values are told where they would be bootstrapped from, in plane/edge_of_reach: none,
    those at the edge of reach, or as many random ones."""
    episodes: Annotated[int, Field(ge=0, le=65_536)] = 256
    """Whole episodes of the environment that the policy plays for each row of metrics; 0 for none."""

    def check(self, env_id: str) -> None:
        """Refuse an environment whose dynamics are not known.

        Raises:
            Misfit: naming the one whose are.
        """
        if env_id != _PLANE:
            raise Misfit("env.id", env_id, f"rollouts are made of {_PLANE} alone", "rollouts.steps")

    def at_edge(self, transition: Transition) -> jax.Array:
        """Whether transitions [B] bootstrap from a state that no rollout goes on from."""
        return edge_of_reach.at_edge(transition.next_obs, self.steps)

    def make(self, num_envs: int, gamma: float) -> FunctionalEnv:
        """So many rollouts at once."""
        env = edge_of_reach.make(num_envs, self.steps)
        return edge_of_reach.patched(env, self.steps, gamma, self.patch)
