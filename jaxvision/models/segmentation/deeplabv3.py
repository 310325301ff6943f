"""DeepLabv3 (Chen, Papandreou, Schroff & Adam 2017, "Rethinking atrous convolution for semantic
image segmentation"), as in torchvision."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_range, lookup
from jaxvision.layers import (
    Conv,
    Norm,
    as_backbone,
    batch_norm,
    conv_in_sequence,
    dtypes_of,
    norm_of,
    run_block,
)
from jaxvision.models.backbones.mobilenet_v3 import MOBILENETS_V3, NORM
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.models.segmentation.fcn import fcn_head, without_pooled
from jaxvision.ops import global_avg_pool, resize_bilinear


class DeepLabV3(nn.Module):
    """The DeepLabv3 network: atrous spatial pyramid pooling on a map of a dilated backbone.

    The logits are interpolated to the size of the images. The names are torchvision's:
    backbone_..., classifier_0_..., see `atrous_spatial_pyramid`, classifier_1, a 3x3 convolution,
    classifier_2, its norm, classifier_4, a 1x1 convolution, and aux_classifier_..., see `fcn_head`.

    Attributes:
      backbone: builds the module "backbone", whose map c{level} is used. Those with dilation are
        the ResNets, with `replace_stride_with_dilation`, and MobileNetV3, with `dilated`.
      level: level of that map.
      rates: dilations of the 3x3 convolutions. In the paper they are 6, 12 and 18 if the map has a
        stride of 16, and twice as much for a stride of 8; torchvision has the latter for both.
      width: channels of the layers of the classifier.
      aux: whether to build a second head, that of FCN on the map before, for a second loss in
        training.
      dropout: dropout rate after the pyramid, in training; torchvision's 0.5, none in the paper.
      dropout_aux: dropout rate of the second head, in training.
      num_classes: K classes; None builds no head.
      norm: in the backbone.
      head_norm: norm after each convolution of the heads except the last; None gives convolutions
        with a bias.
      remat: also computes the pyramid a second time.

    Call:
      images f32[B, H, W, C], of any size that the backbone takes -> {"c{level}": the maps of the
      backbone, "logits": [B, H, W, K], "aux": [B, H, W, K]}.

    Raises:
      InputError: the backbone has no such map, or a rate is below 1.
    """

    backbone: Callable[..., nn.Module]
    level: int = 5
    rates: tuple[int, ...] = (12, 24, 36)
    width: int = 256
    aux: bool = False
    dropout: float = 0.5
    dropout_aux: float = 0.1
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
        for rate in self.rates:
            check_range("rates", rate, least=1)
        dtypes, size = dtypes_of(self), images.shape[1:3]
        options = {"norm": norm_of(self, train=train, field="head_norm"), **dtypes}

        def pyramid(x: Array) -> Array:
            where = {"rates": self.rates, "name": "classifier_0"}
            return atrous_spatial_pyramid(x, self.width, **where, **options)

        features = self.backbone(**as_backbone(self, self.backbone))(images, train=train)
        maps = without_pooled(features)
        if self.num_classes is None:
            return maps
        x = run_block(self, pyramid, lookup(features, f"c{self.level}", "map of the backbone"))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = conv_in_sequence(x, self.width, 3, "classifier", 1, **options)
        x = Conv(self.num_classes, (1, 1), name="classifier_4", **dtypes)(x)
        maps["logits"] = resize_bilinear(x, size)
        if self.aux:
            x = lookup(features, f"c{self.level - 1}", "map of the backbone")
            how = {"name": "aux_classifier", "dropout": self.dropout_aux, "train": train}
            maps["aux"] = resize_bilinear(fcn_head(x, self.num_classes, **how, **options), size)
        return maps


def atrous_spatial_pyramid(
    x: Array, features: int, *, rates: Sequence[int], name: str, **options: Any
) -> Array:
    """Applies atrous spatial pyramid pooling: convolutions of several dilations side by side.

    The branches are a 1x1 convolution, a 3x3 convolution of each dilation, and a 1x1 convolution of
    the means over the whole map; a 1x1 convolution combines them. Each has a norm and a ReLU. The
    layers are {name}_convs_{branch}_0 and _1, of the last branch _1 and _2, and {name}_project_0
    and _1, as in torchvision.

    Args:
      x: [B, H, W, C].
      features: channels of each branch and of the result.
      rates: dilations of the 3x3 convolutions.
      name: prefix of the names of the layers.
      **options: `norm` and further options of `conv_norm_act`.
    Returns:
      [B, H, W, features].
    Source: Chen et al. 2017, section 3.3 and figure 5.
    """
    conv = partial(conv_in_sequence, **options)
    branches = [conv(x, features, 1, f"{name}_convs_0")]
    for branch, rate in enumerate(rates, start=1):
        branches.append(conv(x, features, 3, f"{name}_convs_{branch}", dilation=rate))
    pooled = global_avg_pool(x)[:, None, None]
    pooled = conv(pooled, features, 1, f"{name}_convs_{len(branches)}", 1)
    branches.append(jnp.broadcast_to(pooled, branches[0].shape))
    return conv(jnp.concatenate(branches, axis=-1), features, 1, f"{name}_project")


_DILATED = {"replace_stride_with_dilation": (False, True, True)}

DEEPLABS_V3 = {
    "deeplabv3_resnet50": partial(DeepLabV3, backbone=partial(RESNETS["resnet50"], **_DILATED)),
    "deeplabv3_resnet101": partial(DeepLabV3, backbone=partial(RESNETS["resnet101"], **_DILATED)),
    "deeplabv3_mobilenet_v3_large": partial(
        DeepLabV3,
        backbone=partial(MOBILENETS_V3["mobilenet_v3_large"], dilated=True, layout="segmentation"),
        level=4,
        norm=NORM,
    ),
}
