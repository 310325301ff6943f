"""Lite R-ASPP (Howard et al. 2019, "Searching for MobileNetV3", section 6.4), as in torchvision."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import lookup
from jaxvision.layers import (
    Conv,
    Norm,
    as_backbone,
    batch_norm,
    conv_in_sequence,
    dtypes_of,
    norm_of,
)
from jaxvision.models.backbones.mobilenet_v3 import MOBILENETS_V3, NORM
from jaxvision.models.segmentation.fcn import without_pooled
from jaxvision.ops import global_avg_pool, resize_bilinear


class LRASPP(nn.Module):
    """The Lite R-ASPP network: a coarse map whose channels are gated, and logits of a finer one.

    The gates are computed from the means over the whole coarse map; the paper has means of large
    windows. The logits of both maps are added, and interpolated to the size of the images. The
    names are torchvision's: backbone_..., classifier_cbr_0, a 1x1 convolution, classifier_cbr_1,
    its norm, classifier_scale_1, the layer of the gates, classifier_low_classifier and
    classifier_high_classifier.

    Attributes:
      backbone: builds the module "backbone".
      low: level of the finer map.
      high: level of the coarse map.
      width: channels of the gated map.
      num_classes: K classes; None builds no head.
      norm: in the backbone.
      head_norm: norm of the head's convolution; None gives a convolution with a bias.

    Call:
      images f32[B, H, W, C], of any size that the backbone takes -> {"c{level}": the maps of the
      backbone, "logits": [B, H, W, K]}.

    Raises:
      InputError: the backbone has no such map.
    """

    backbone: Callable[..., nn.Module]
    low: int = 3
    high: int = 4
    width: int = 128
    num_classes: int | None = 21
    remat: bool = False
    norm: Norm | None = batch_norm
    head_norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        dtypes = dtypes_of(self)
        features = self.backbone(**as_backbone(self, self.backbone))(images, train=train)
        maps = without_pooled(features)
        if self.num_classes is None:
            return maps
        low, high = (
            lookup(features, f"c{level}", "map of the backbone") for level in (self.low, self.high)
        )
        norm = norm_of(self, train=train, field="head_norm")
        x = conv_in_sequence(high, self.width, 1, "classifier_cbr", norm=norm, **dtypes)
        gates = Conv(self.width, (1, 1), use_bias=False, name="classifier_scale_1", **dtypes)(
            global_avg_pool(high)[:, None, None]
        )
        x = resize_bilinear(x * nn.sigmoid(gates), low.shape[1:3])
        score = partial(Conv, self.num_classes, (1, 1), **dtypes)
        x = score(name="classifier_high_classifier")(x) + score(name="classifier_low_classifier")(
            low
        )
        maps["logits"] = resize_bilinear(x, images.shape[1:3])
        return maps


LRASPPS = {
    "lraspp_mobilenet_v3_large": partial(
        LRASPP,
        backbone=partial(MOBILENETS_V3["mobilenet_v3_large"], dilated=True, layout="segmentation"),
        norm=NORM,
    ),
}
