"""The kinds of layers that a Darknet description may have, by name."""

import dataclasses
from collections.abc import Sequence

from jaxvision.core import close_names
from jaxvision.interop.darknet import heads, layers
from jaxvision.interop.darknet.sections import Section

LAYERS: dict[str, type[layers.Layer]] = {
    "avgpool": layers.Avgpool,
    "connected": layers.Connected,
    "convolutional": layers.Convolutional,
    "cost": layers.Cost,
    "crop": layers.Crop,
    "detection": heads.Detection,
    "dropout": layers.Dropout,
    "local": layers.Local,
    "maxpool": layers.Maxpool,
    "region": heads.Region,
    "reorg": layers.Reorg,
    "route": layers.Route,
    "shortcut": layers.Shortcut,
    "softmax": layers.Softmax,
    "upsample": layers.Upsample,
    "yolo": heads.Yolo,
}
ALIASES = {
    "avg": "avgpool",
    "conn": "connected",
    "conv": "convolutional",
    "max": "maxpool",
    "soft": "softmax",
}
# Layers of Darknet or of a fork that are not supported.
UNSUPPORTED = (
    "Gaussian_yolo",
    "activation",
    "batchnorm",
    "crnn",
    "deconv",
    "deconvolutional",
    "gru",
    "iseg",
    "l2norm",
    "logistic",
    "lrn",
    "local_avgpool",
    "lstm",
    "normalization",
    "reorg3d",
    "rnn",
    "sam",
    "scale_channels",
)


def read_layers(sections: Sequence[Section]) -> tuple[layers.Layer, ...]:
    """Creates the layers that the sections after [net] describe.

    Raises:
      InputError: a section or an option is wrong or not supported, or the input of a layer is a
        layer that ends its branch.
    """
    result: list[layers.Layer] = []
    for index, section in enumerate(sections):
        kind = ALIASES.get(section.kind, section.kind)
        if kind in UNSUPPORTED:
            raise section.error("is a layer of Darknet or a fork that is not supported")
        if kind not in LAYERS:
            hint = close_names(kind, [*LAYERS, *ALIASES])
            raise section.error(f"is an unknown layer: {hint}")
        layer = LAYERS[kind].read(dataclasses.replace(section, kind=kind), index)
        for number in layer.inputs:
            if number >= 0 and isinstance(result[number], heads.End):
                ended = result[number].section
                raise section.error(
                    f"has the [{ended.kind}] of line {ended.line} as input, which ends its branch: "
                    "start another branch with [route]"
                )
        for once in (heads.Detection, layers.Softmax):
            if isinstance(layer, once) and any(isinstance(other, once) for other in result):
                raise section.error("occurs twice: only one is supported")
        result.append(layer)
    return tuple(result)
