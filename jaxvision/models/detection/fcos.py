"""FCOS (Tian, Shen, Chen & He 2019, "FCOS: fully convolutional one-stage object detection",
section 3)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, batch_norm, dtypes_of, frozen_batch_norm, group_norm
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.models.detection.parts import PRIOR_BIAS, TowerHead, extra_maps, pyramid_maps


class FCOS(nn.Module):
    """The FCOS network: class, box and centre-ness of each cell of a feature pyramid.

    It has no anchors: a cell predicts the distances to the four sides of its box. As in torchvision
    they are positive by a ReLU, and centre-ness is computed beside the box. Layers have
    torchvision's names, see `jaxvision.models.detection.retinanet.RetinaNet`, and weights of a
    classifier initialise the module "backbone_body". The norm of "fcos_resnet50_fpn" is
    `frozen_batch_norm`, as its weights of COCO need it; to train from random weights, set
    norm="batch_norm", which "fcos" has.

    Attributes:
      backbone: builds the module "backbone_body".
      levels: names of its maps that the pyramid starts from, from fine to coarse.
      features: channels of the pyramid and of the heads.
      p6_from: as for RetinaNet.
      depth: number of convolutions of each head before its last ones.
      head_norm: norm in the heads, whose convolutions always have a bias.
      num_classes: K classes. Torchvision's weights have 91, the first of which is the background,
        a class like the others.
      norm: in the backbone; the pyramid has none.

    Call:
      images f32[B, H, W, 3] -> for each map i of the pyramid, from fine to coarse,
      {"cls_logits{i}": [B, h, w, K], "bbox_regression{i}": [B, h, w, 4], the distances to left,
      top, right and bottom in nominal strides, "bbox_ctrness{i}": [B, h, w], a logit}.

    Raises:
      InputError: the backbone lacks a map of `levels`.
      OptionError: `p6_from` is unknown.
    """

    backbone: Callable[..., nn.Module] = RESNETS["resnet50"]
    levels: tuple[str, ...] = ("c3", "c4", "c5")
    features: int = 256
    p6_from: str | None = "p5"
    depth: int = 4
    head_norm: Norm | None = group_norm
    num_classes: int = 91
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        shared = {"norm": self.head_norm, "axis_name": self.axis_name, **dtypes_of(self)}
        tower = {"depth": self.depth, "nested": False, "use_bias": True, "remat": self.remat}
        head = partial(TowerHead, **tower, **shared)
        classes = head(
            [("cls_logits", self.num_classes, PRIOR_BIAS)], name="head_classification_head"
        )
        boxes = head([("bbox_reg", 4, 0.0), ("bbox_ctrness", 1, 0.0)], name="head_regression_head")
        outputs = {}
        maps = pyramid_maps(self, images, train=train, extra=extra_maps(self.p6_from))
        for number, x in enumerate(maps):
            of_boxes = boxes(x, train=train)
            outputs[f"cls_logits{number}"] = classes(x, train=train)["cls_logits"]
            outputs[f"bbox_regression{number}"] = nn.relu(of_boxes["bbox_reg"])
            outputs[f"bbox_ctrness{number}"] = of_boxes["bbox_ctrness"][..., 0]
        return outputs


FCOSES = {
    "fcos": FCOS,
    "fcos_resnet50_fpn": partial(FCOS, norm=frozen_batch_norm),
}
