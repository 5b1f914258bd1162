"""Action-value networks, actors and critics as `Network(init, apply)`: the only place that knows flax."""

from valuelearn.networks.action_value import action_value
from valuelearn.networks.continuous import actor, critic
from valuelearn.networks.layers import Conv, Dense, InitName, Padding
from valuelearn.networks.stock import StockInput
from valuelearn.networks.torsos import TorsoName

__all__ = [
    "Conv",
    "Dense",
    "InitName",
    "Padding",
    "StockInput",
    "TorsoName",
    "action_value",
    "actor",
    "critic",
]
