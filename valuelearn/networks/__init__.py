"""Networks as `Network(init, apply)`: the only place that knows flax."""

from valuelearn.networks.action_value import Precision, action_value
from valuelearn.networks.gaussian import gaussian, kernel_shares
from valuelearn.networks.layers import Conv, Dense, InitName, Padding
from valuelearn.networks.stock import StockInput
from valuelearn.networks.torsos import TorsoName
from valuelearn.networks.vectors import BlockName, vector

__all__ = [
    "BlockName",
    "Conv",
    "Dense",
    "InitName",
    "Padding",
    "Precision",
    "StockInput",
    "TorsoName",
    "action_value",
    "gaussian",
    "kernel_shares",
    "vector",
]
