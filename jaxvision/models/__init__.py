"""The networks, and the table of their names (layer 3).

Every network is a Flax linen module. `__call__(images, *, train)` takes images f32[B, H, W, C] and
returns a dict of named arrays. Backbones and classifiers return feature maps "c{level}", which are
about 2^level times smaller than the images, "pooled" features and, with a classifier, "logits".

These fields mean the same in every network that has them. The docstring of a network lists one of
them only if there is more to say:

  num_classes: number of classes; None builds no classifier.
  act: activation function.
  dropout: dropout rate in training.
  drop_path: rate of stochastic depth in training, see `jaxvision.layers.drop_path`.
  remat: whether to compute blocks, also those of a backbone, a second time in the backward pass,
    which saves memory.
  norm: the norm after each convolution, a `jaxvision.layers.Norm`; None gives convolutions with a
    bias instead.
  axis_name: mapped axis over whose devices batch norm averages its statistics; None: no axis.
  dtype: dtype of the computation; None: that of the images and the parameters.
  param_dtype: dtype of the parameters.

Training needs a key for "dropout" if one of the rates of dropout or stochastic depth is above 0.
"""

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
from jaxvision.models.backbones.cspdarknet import CSP_DARKNETS, TINY_CSP_DARKNETS
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
from jaxvision.models.backbones.resnet9 import RESNETS_9
from jaxvision.models.backbones.resnet_cifar import RESNETS_CIFAR
from jaxvision.models.backbones.senet import SENETS
from jaxvision.models.backbones.shufflenet_v1 import SHUFFLENETS_V1
from jaxvision.models.backbones.shufflenet_v2 import SHUFFLENETS_V2
from jaxvision.models.backbones.squeezenet import SQUEEZENETS
from jaxvision.models.backbones.swin import SWINS
from jaxvision.models.backbones.vgg import VGGS
from jaxvision.models.backbones.vit import VITS
from jaxvision.models.backbones.xception import XCEPTIONS
from jaxvision.models.backbones.zfnet import ZFNETS
from jaxvision.models.compiling import compiler_options
from jaxvision.models.detection.faster_rcnn import (
    FAST_RCNNS,
    FASTER_RCNNS,
    KEYPOINT_RCNNS,
    MASK_RCNNS,
    RPNS,
)
from jaxvision.models.detection.fcos import FCOSES
from jaxvision.models.detection.localizer import LOCALIZERS
from jaxvision.models.detection.rcnn_heads import HEADS
from jaxvision.models.detection.retinanet import RETINANETS
from jaxvision.models.detection.ssd import SSDS
from jaxvision.models.detection.yolov1 import YOLOS_V1
from jaxvision.models.detection.yolov2 import YOLO9000S, YOLOS_V2
from jaxvision.models.detection.yolov3 import YOLOS_V3
from jaxvision.models.detection.yolov4 import YOLOS_V4
from jaxvision.models.feature_info import FeatureInfo, feature_info
from jaxvision.models.fusing import fuse_conv_bn
from jaxvision.models.published import input_figures, input_resizing, input_size
from jaxvision.models.restoration.dncnn import DNCNNS
from jaxvision.models.restoration.srcnn import ESPCNS, SRCNNS
from jaxvision.models.segmentation.deconvnet import DECONVNETS
from jaxvision.models.segmentation.deeplabv3 import DEEPLABS_V3
from jaxvision.models.segmentation.fcn import FCNS
from jaxvision.models.segmentation.lraspp import LRASPPS
from jaxvision.models.segmentation.resunet import RESUNETS
from jaxvision.models.segmentation.unet import UNETS
from jaxvision.models.summary import Summary, summarize

__all__ = [
    "BACKBONES",
    "CLASSIFIERS",
    "DETECTORS",
    "HEADS",
    "MODELS",
    "RESTORERS",
    "SEGMENTERS",
    "FeatureInfo",
    "Summary",
    "compiler_options",
    "create_model",
    "feature_info",
    "fuse_conv_bn",
    "input_figures",
    "input_resizing",
    "input_size",
    "summarize",
]

CLASSIFIERS: dict[str, Callable[..., nn.Module]] = merge(
    ALEXNETS,
    ALEXNETS_2012,
    CONVNEXTS,
    CSP_DARKNETS,
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
    RESNETS_9,
    RESNETS_CIFAR,
    SENETS,
    SHUFFLENETS_V1,
    SHUFFLENETS_V2,
    SQUEEZENETS,
    SWINS,
    VGGS,
    VITS,
    XCEPTIONS,
    ZFNETS,
)
"""Networks that return `logits` of an image, and the maps before them."""

DETECTORS: dict[str, Callable[..., nn.Module]] = merge(
    FAST_RCNNS,
    FASTER_RCNNS,
    FCOSES,
    KEYPOINT_RCNNS,
    LOCALIZERS,
    MASK_RCNNS,
    RETINANETS,
    RPNS,
    SSDS,
    YOLOS_V1,
    YOLOS_V2,
    YOLO9000S,
    YOLOS_V3,
    YOLOS_V4,
)
"""Networks that return the arguments of the losses of detectors."""

RESTORERS: dict[str, Callable[..., nn.Module]] = merge(DNCNNS, ESPCNS, SRCNNS)
"""Networks that return an `image` with the channels of the given one."""

SEGMENTERS: dict[str, Callable[..., nn.Module]] = merge(
    DECONVNETS, DEEPLABS_V3, FCNS, LRASPPS, RESUNETS, UNETS
)
"""Networks that return `logits` of each pixel."""

MODELS = merge(CLASSIFIERS, DETECTORS, RESTORERS, SEGMENTERS)
"""Name -> function that builds the module. Every network has the fields `remat`, `norm`,
`axis_name`, `dtype` and `param_dtype`. All except the restorers, which have no classes, have
`num_classes`."""

BACKBONES = merge(CLASSIFIERS, PLAIN_DARKNETS, TINY_CSP_DARKNETS)
"""Values of the field `backbone` of a detector or a U-Net by name."""

_PARTS = {"backbone": BACKBONES, **dict.fromkeys(("box_head", "keypoint_head", "mask_head"), HEADS)}
"""Fields of networks that are modules -> their tables."""


def create_model(name: str, **fields: Any) -> nn.Module:
    """Builds the network with this name and sets its fields.

    Args:
      name: a key of `MODELS`, such as "lenet5".
      **fields: fields of the module, such as `num_classes=10`. `norm` and `head_norm` may
        be keys of `NORMS`. `backbone` may be a key of `BACKBONES`, or a mapping with such a key as
        `name` and fields of the backbone; `box_head`, `mask_head` and `keypoint_head` likewise, of
        `HEADS`.
    Returns:
      a linen module: `__call__(images, *, train) -> dict[str, Array]`.
    Raises:
      InputError: the name or a field is unknown; the message lists similar ones.
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
    for field in ("norm", "head_norm"):
        if isinstance(norm := fields.get(field), str):
            fields = {**fields, field: lookup(NORMS, norm, field)}
    for field, parts in _PARTS.items():
        part = fields.get(field)
        if isinstance(part, str):
            part = {"name": part}
        if isinstance(part, Mapping):
            if "name" not in part:
                raise InputError(f"the {field} of {name} has no name: {close_names('', parts)}")
            others = {key: value for key, value in part.items() if key != "name"}
            fields = {**fields, field: _build(parts, field, part["name"], others)}
    return partial(build, **fields)
