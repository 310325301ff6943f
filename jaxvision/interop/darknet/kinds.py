"""The kinds of layers that a Darknet description may have, by name."""

import collections
import dataclasses
from collections.abc import Sequence

from jaxvision.core import close_names
from jaxvision.interop.darknet import heads, layers, weighted
from jaxvision.interop.darknet.sections import Section

LAYERS: dict[str, type[layers.Layer]] = {
    "Gaussian_yolo": heads.GaussianYolo,
    "avgpool": layers.Avgpool,
    "batchnorm": weighted.Batchnorm,
    "connected": weighted.Connected,
    "contrastive": layers.Cost,
    "convolutional": weighted.Convolutional,
    "cost": layers.Cost,
    "crop": layers.Crop,
    "detection": heads.Detection,
    "dropout": layers.Dropout,
    "local": weighted.Local,
    "local_avgpool": layers.LocalAvgpool,
    "maxpool": layers.Maxpool,
    "region": heads.Region,
    "reorg": layers.Reorg,
    "reorg3d": layers.Reorg3d,
    "route": layers.Route,
    "sam": layers.Sam,
    "scale_channels": layers.ScaleChannels,
    "shortcut": layers.Shortcut,
    "softmax": layers.Softmax,
    "upsample": layers.Upsample,
    "yolo": heads.Yolo,
}
ALIASES = {
    "avg": "avgpool",
    "conn": "connected",
    "conv": "convolutional",
    "local_avg": "local_avgpool",
    "max": "maxpool",
    "soft": "softmax",
}
RECURRENT = ("conv_lstm", "crnn", "gru", "history", "lstm", "rnn")
# Further layers of Darknet or of AlexeyAB's fork that are not supported.
UNSUPPORTED = (
    "activation",
    "deconv",
    "deconvolutional",
    "empty",
    "implicit",
    "iseg",
    "l2norm",
    "logistic",
    "lrn",
    "normalization",
    "silence",
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
        if kind in RECURRENT:
            raise section.error("is a recurrent layer: networks with one are not supported")
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
    _leave_out_sigmoids(result)
    return tuple(result)


def _leave_out_sigmoids(layers_: list[layers.Layer]) -> None:
    """Makes the input of each [yolo] with new_coords logits, where nothing else needs it.

    The head of the module takes the sigmoid itself, so that a loss has the logits.
    """
    used = collections.Counter(number for layer in layers_ for number in layer.inputs)
    for index, layer in enumerate(layers_):
        if not (isinstance(layer, heads.Yolo) and layer.new_coords):
            continue
        (number,) = layer.inputs
        before = layers_[number]
        if used[number] == 1 and getattr(before, "activation", None) == "logistic":
            layers_[number] = dataclasses.replace(before, activation="linear")
            layers_[index] = dataclasses.replace(layer, logistic_before=True)
