"""Converts weights from and to other libraries, and builds networks of Darknet files (layer 4)."""

from jaxvision.interop.darknet import (
    DarknetNetwork,
    Description,
    Head,
    WeightsHeader,
    darknet_norm,
    find_beside,
    from_module,
    parse_cfg,
    read_cfg,
    read_class_map,
    read_header,
    read_weights,
    read_word_tree,
    to_module,
    write_weights,
)
from jaxvision.interop.hub import download_weights
from jaxvision.interop.key_rules import KeyRules
from jaxvision.interop.pretrained import (
    Pretrained,
    PublishedWeights,
    find_published,
    is_weights_name,
    load_pretrained,
    published_state_dict,
    published_weights,
)
from jaxvision.interop.state_files import SUFFIXES, read_state_dict, write_state_dict
from jaxvision.interop.torchvision import from_state_dict, named_alike, to_state_dict
from jaxvision.interop.transfer import Transfer, transfer
from jaxvision.interop.variables import (
    class_count,
    is_variables,
    load_weights,
    restore_variables,
    save_variables,
    variable_shapes,
)

__all__ = [
    "SUFFIXES",
    "DarknetNetwork",
    "Description",
    "Head",
    "KeyRules",
    "Pretrained",
    "PublishedWeights",
    "Transfer",
    "WeightsHeader",
    "class_count",
    "darknet_norm",
    "download_weights",
    "find_beside",
    "find_published",
    "from_module",
    "from_state_dict",
    "is_variables",
    "is_weights_name",
    "load_pretrained",
    "load_weights",
    "named_alike",
    "parse_cfg",
    "published_state_dict",
    "published_weights",
    "read_cfg",
    "read_class_map",
    "read_header",
    "read_state_dict",
    "read_weights",
    "read_word_tree",
    "restore_variables",
    "save_variables",
    "to_module",
    "to_state_dict",
    "transfer",
    "variable_shapes",
    "write_state_dict",
    "write_weights",
]
