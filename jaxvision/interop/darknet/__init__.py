"""Builds the networks that Darknet's .cfg files describe, and reads and writes .weights files."""

from jaxvision.interop.darknet.description import Description, parse_cfg, read_cfg
from jaxvision.interop.darknet.heads import Head
from jaxvision.interop.darknet.layers import Size
from jaxvision.interop.darknet.modules import from_module, to_module
from jaxvision.interop.darknet.network import DarknetNetwork, darknet_norm
from jaxvision.interop.darknet.weights import (
    WeightsHeader,
    read_header,
    read_weights,
    write_weights,
)

__all__ = [
    "DarknetNetwork",
    "Description",
    "Head",
    "Size",
    "WeightsHeader",
    "darknet_norm",
    "from_module",
    "parse_cfg",
    "read_cfg",
    "read_header",
    "read_weights",
    "to_module",
    "write_weights",
]
