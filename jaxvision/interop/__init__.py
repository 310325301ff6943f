"""Floor 4: weights from and to other libraries, and the networks that their files describe."""

from jaxvision.interop.darknet import (
    DarknetNetwork,
    Description,
    Head,
    WeightsHeader,
    darknet_norm,
    from_module,
    parse_cfg,
    read_cfg,
    read_header,
    read_weights,
    to_module,
    write_weights,
)
from jaxvision.interop.torchvision import from_state_dict

__all__ = [
    "DarknetNetwork",
    "Description",
    "Head",
    "WeightsHeader",
    "darknet_norm",
    "from_module",
    "from_state_dict",
    "parse_cfg",
    "read_cfg",
    "read_header",
    "read_weights",
    "to_module",
    "write_weights",
]
