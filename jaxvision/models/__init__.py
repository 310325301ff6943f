"""Floor 3: the networks, and the table of their names."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn

from jaxvision.core import InputError, close_names, lookup, merge
from jaxvision.layers import NORMS
from jaxvision.models.backbones.alexnet import ALEXNETS
from jaxvision.models.backbones.alexnet_2012 import ALEXNETS_2012
from jaxvision.models.backbones.convnext import CONVNEXTS
from jaxvision.models.backbones.darknet import DARKNETS, PLAIN_DARKNETS
from jaxvision.models.backbones.densenet import DENSENETS
from jaxvision.models.backbones.efficientnet import EFFICIENTNETS
from jaxvision.models.backbones.googlenet import GOOGLENETS
from jaxvision.models.backbones.inception_resnet import INCEPTION_RESNETS
from jaxvision.models.backbones.inception_v3 import INCEPTIONS_V3
from jaxvision.models.backbones.inception_v4 import INCEPTIONS_V4
from jaxvision.models.backbones.lenet import LENETS
from jaxvision.models.backbones.maxvit import MAXVITS
from jaxvision.models.backbones.mnasnet import MNASNETS
from jaxvision.models.backbones.mobilenet_v1 import MOBILENETS_V1
from jaxvision.models.backbones.mobilenet_v2 import MOBILENETS_V2
from jaxvision.models.backbones.mobilenet_v3 import MOBILENETS_V3
from jaxvision.models.backbones.nasnet import NASNETS
from jaxvision.models.backbones.nin import NINS
from jaxvision.models.backbones.preact_resnet import PREACT_RESNETS
from jaxvision.models.backbones.regnet import REGNETS
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.models.backbones.resnet_cifar import RESNETS_CIFAR
from jaxvision.models.backbones.shufflenet_v1 import SHUFFLENETS_V1
from jaxvision.models.backbones.shufflenet_v2 import SHUFFLENETS_V2
from jaxvision.models.backbones.squeezenet import SQUEEZENETS
from jaxvision.models.backbones.swin import SWINS
from jaxvision.models.backbones.vgg import VGGS
from jaxvision.models.backbones.vit import VITS
from jaxvision.models.backbones.xception import XCEPTIONS
from jaxvision.models.backbones.zfnet import ZFNETS
from jaxvision.models.compiling import compiler_options
from jaxvision.models.detection.yolov1 import YOLOS_V1
from jaxvision.models.detection.yolov2 import YOLOS_V2
from jaxvision.models.detection.yolov3 import YOLOS_V3
from jaxvision.models.merging import merge_batch_norm
from jaxvision.models.published import input_figures, input_size
from jaxvision.models.restoration.dncnn import DNCNNS
from jaxvision.models.restoration.srcnn import ESPCNS, SRCNNS
from jaxvision.models.segmentation.deconvnet import DECONVNETS
from jaxvision.models.segmentation.fcn import FCNS
from jaxvision.models.segmentation.resunet import RESUNETS
from jaxvision.models.segmentation.unet import UNETS
from jaxvision.models.summary import Summary, summarize

__all__ = [
    "BACKBONES",
    "CLASSIFIERS",
    "DETECTORS",
    "MODELS",
    "RESTORERS",
    "SEGMENTERS",
    "Summary",
    "compiler_options",
    "create_model",
    "input_figures",
    "input_size",
    "merge_batch_norm",
    "summarize",
]

CLASSIFIERS: dict[str, Callable[..., nn.Module]] = merge(
    ALEXNETS,
    ALEXNETS_2012,
    CONVNEXTS,
    DARKNETS,
    DENSENETS,
    EFFICIENTNETS,
    GOOGLENETS,
    INCEPTIONS_V3,
    INCEPTIONS_V4,
    INCEPTION_RESNETS,
    LENETS,
    MAXVITS,
    MNASNETS,
    MOBILENETS_V1,
    MOBILENETS_V2,
    MOBILENETS_V3,
    NASNETS,
    NINS,
    PREACT_RESNETS,
    REGNETS,
    RESNETS,
    RESNETS_CIFAR,
    SHUFFLENETS_V1,
    SHUFFLENETS_V2,
    SQUEEZENETS,
    SWINS,
    VGGS,
    VITS,
    XCEPTIONS,
    ZFNETS,
)
"""Networks that give `logits` of an image, and the maps before them."""

DETECTORS: dict[str, Callable[..., nn.Module]] = merge(YOLOS_V1, YOLOS_V2, YOLOS_V3)
"""Networks that give what the losses of detectors take."""

RESTORERS: dict[str, Callable[..., nn.Module]] = merge(DNCNNS, ESPCNS, SRCNNS)
"""Networks that give an `image`, as many channels as it had."""

SEGMENTERS: dict[str, Callable[..., nn.Module]] = merge(DECONVNETS, FCNS, RESUNETS, UNETS)
"""Networks that give `logits` of each pixel."""

MODELS = merge(CLASSIFIERS, DETECTORS, RESTORERS, SEGMENTERS)
"""Name -> what builds the module. Every network has the fields `norm`, `axis_name`, `dtype` and
`param_dtype`; all but the restorers, which know no classes, have `num_classes`."""

BACKBONES = merge(CLASSIFIERS, PLAIN_DARKNETS)
"""What the field `backbone` of a detector or a U-Net may be called in a config."""


def create_model(name: str, **fields: Any) -> nn.Module:
    """The network called `name`, with its fields set.

    Args:
      name: a key of `MODELS`, such as "lenet5".
      **fields: fields of the module, such as `num_classes=10`. `norm` may be a key of `NORMS`, and
        `backbone` a key of `BACKBONES`, or a mapping of such a `name` and fields of the backbone.
    Returns:
      A linen module: `__call__(images, *, train) -> dict[str, Array]`.
    Raises:
      InputError: unknown name or field; the message lists the close ones.
    """
    return _build(MODELS, "model", name, fields)()


def _build(
    table: dict[str, Callable[..., nn.Module]], kind: str, name: str, fields: dict[str, Any]
) -> Callable[..., nn.Module]:
    build = lookup(table, name, kind)
    known = inspect.signature(build).parameters.keys() - {"parent", "name"}
    for field in fields:
        if field not in known:
            raise InputError(f"{name} has no field {field!r}: {close_names(field, known)}")
    norm, backbone = fields.get("norm"), fields.get("backbone")
    if isinstance(norm, str):
        fields = {**fields, "norm": lookup(NORMS, norm, "norm")}
    if isinstance(backbone, str):
        backbone = {"name": backbone}
    if isinstance(backbone, Mapping):
        if "name" not in backbone:
            raise InputError(f"the backbone of {name} has no name: {close_names('', BACKBONES)}")
        others = {key: value for key, value in backbone.items() if key != "name"}
        fields = {**fields, "backbone": _build(BACKBONES, "backbone", backbone["name"], others)}
    return partial(build, **fields)
