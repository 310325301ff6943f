"""RetinaNet (Lin, Goyal, Girshick, He & Dollár 2017, "Focal loss for dense object detection",
section 4)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_range
from jaxvision.layers import Norm, batch_norm, dtypes_of, frozen_batch_norm, group_norm
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.models.detection.parts import (
    PRIOR_BIAS,
    TowerHead,
    by_anchor,
    extra_maps,
    pyramid_maps,
)


class RetinaNet(nn.Module):
    """The RetinaNet network: class and box of anchors on each map of a feature pyramid.

    All maps of the pyramid share two heads, one for classes and one for boxes. Layers have
    torchvision's names, such as backbone_body_conv1, backbone_fpn_inner_blocks_0_0 and
    head_classification_head_cls_logits. Weights of a classifier initialise the module
    "backbone_body", see `jaxvision.interop.transfer`.

    The table has the published networks, so `norm` of "retinanet_resnet50_fpn" is
    `frozen_batch_norm` with an epsilon of 0, as its weights of COCO need it. To fine-tune from
    weights of a classifier, set norm="frozen_batch_norm", whose epsilon is theirs; to train from
    random weights, norm="batch_norm". The second version and "retinanet" have batch norm.

    Attributes:
      backbone: builds the module "backbone_body".
      levels: names of its maps that the pyramid starts from, from fine to coarse.
      features: channels of the pyramid and of the heads.
      p6_from: "p5" if the first of the two extra maps of the pyramid is computed from the last
        output of the pyramid, "c5" if from the last of `levels`; None: no extra maps.
      depth: number of convolutions of each head before its last one.
      head_norm: norm in the heads; None gives convolutions with a bias.
      num_classes: K classes. Torchvision's weights have 91, the first of which is the background,
        a class like the others.
      num_anchors: A anchors for each cell.
      norm: in the backbone; the pyramid has none.

    Call:
      images f32[B, H, W, 3] -> for each map i of the pyramid, from fine to coarse,
      {"cls_logits{i}": [B, h, w, A, K], "bbox_regression{i}": [B, h, w, A, 4]}. With three levels
      and the extra maps there are five; their sizes are an eighth, a 16th, ... of the image,
      rounded up.

    Raises:
      InputError: the backbone lacks a map of `levels`.
      OptionError: `p6_from` is unknown, or `num_anchors` is below 1.
    """

    backbone: Callable[..., nn.Module] = RESNETS["resnet50"]
    levels: tuple[str, ...] = ("c3", "c4", "c5")
    features: int = 256
    p6_from: str | None = "p5"
    depth: int = 4
    head_norm: Norm | None = None
    num_classes: int = 91
    num_anchors: int = 9
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_range("num_anchors", self.num_anchors, least=1)
        shared = {"norm": self.head_norm, "axis_name": self.axis_name, **dtypes_of(self)}
        head = partial(TowerHead, depth=self.depth, remat=self.remat, **shared)
        classes = head(
            [("cls_logits", self.num_anchors * self.num_classes, PRIOR_BIAS)],
            name="head_classification_head",
        )
        boxes = head([("bbox_reg", self.num_anchors * 4, 0.0)], name="head_regression_head")
        outputs = {}
        maps = pyramid_maps(self, images, train=train, extra=extra_maps(self.p6_from))
        for number, x in enumerate(maps):
            logits = classes(x, train=train)["cls_logits"]
            deltas = boxes(x, train=train)["bbox_reg"]
            outputs[f"cls_logits{number}"] = by_anchor(logits, self.num_anchors)
            outputs[f"bbox_regression{number}"] = by_anchor(deltas, self.num_anchors)
        return outputs


RETINANETS = {
    "retinanet": RetinaNet,
    "retinanet_resnet50_fpn": partial(RetinaNet, norm=partial(frozen_batch_norm, epsilon=0.0)),
    "retinanet_resnet50_fpn_v2": partial(RetinaNet, p6_from="c5", head_norm=group_norm),
}
