"""The transition tables of gymnasium's toy-text environments."""

from collections.abc import Mapping
from typing import Any

import gymnasium

from envs.registry import UnknownEnvironmentError


def toy_text(env_id: str, options: Mapping[str, Any]) -> dict:
    """`{state: {action: [(probability, next state, reward, terminated)]}}` of an environment.

    Raises:
        UnknownEnvironmentError: for an environment that does not exist or has no table.
    """
    try:
        env = gymnasium.make(env_id, **options).unwrapped
    except Exception as error:  # Whatever an environment of others, or a module that is none, raises.
        raise UnknownEnvironmentError(f"gymnasium does not make {env_id}: {error}") from None
    table = getattr(env, "P", None)
    if not isinstance(table, dict):
        raise UnknownEnvironmentError(
            f"{env_id} has no table of transitions; FrozenLake, CliffWalking and Taxi have"
        )
    return table
