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
from jaxvision.interop.darknet.word_tree import find_beside, read_class_map, read_word_tree

__all__ = [
    "DarknetNetwork",
    "Description",
    "Head",
    "Size",
    "WeightsHeader",
    "darknet_norm",
    "find_beside",
    "from_module",
    "parse_cfg",
    "read_cfg",
    "read_class_map",
    "read_header",
    "read_weights",
    "read_word_tree",
    "to_module",
    "write_weights",
]
