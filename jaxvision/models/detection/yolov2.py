"""YOLOv2 (Redmon & Farhadi 2017, "YOLO9000: better, faster, stronger", section 2)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_choice
from jaxvision.layers import Norm, as_backbone, batch_norm, run_block
from jaxvision.models.backbones.darknet import (
    DARKNET_19,
    TINY,
    NumberedConvs,
    PlainDarknet,
)
from jaxvision.ops import ORDERS, space_to_depth


class YOLOv2(nn.Module):
    """The YOLOv2 network, which predicts a box for each anchor in each cell of a grid.

    Attributes:
      backbone: builds the module "backbone". Its map c{level} is used, and its map c{level - 1} by
        the passthrough.
      level: level of the predictions; their map is 2^level times smaller than the image.
      convolutions: channels of the 3x3 convolutions conv1, conv2, ... after the backbone; (): there
        are none.
      passthrough: channels to which a 1x1 convolution reduces the map of level - 1. Its 2x2 blocks
        then become channels, which are concatenated with the others before the last of
        `convolutions`. None builds no passthrough.
      reorg_order: order of these channels, see `jaxvision.ops.space_to_depth`; "darknet" for
        weights that were trained with Darknet.
      num_classes: C classes.
      num_anchors: A anchors.
      norm: after each convolution except the last; None gives convolutions with a bias.

    Call:
      images f32[N, H, W, 3], sides multiples of 2^level (32) -> {"logits": [N, H/32, W/32, A,
      5 + C]}, an argument of `jaxvision.losses.yolov2_loss`.
    """

    backbone: Callable[..., nn.Module] = partial(PlainDarknet, DARKNET_19)
    level: int = 5
    convolutions: tuple[int, ...] = (1024, 1024, 1024)
    passthrough: int | None = 64
    reorg_order: str = "space_first"
    num_classes: int = 20
    num_anchors: int = 5
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_choice("reorg_order", self.reorg_order, ORDERS)
        maps = self.backbone(**as_backbone(self, self.backbone))(images, train=train)
        conv = NumberedConvs(self, train=train)

        def convolved(x: Array, *, channels: Sequence[int]) -> Array:
            for features in channels:
                x = conv(x, features, 3)
            return x

        x = maps[f"c{self.level}"]
        x = run_block(self, partial(convolved, channels=self.convolutions[:-1]), x)
        if self.passthrough is not None:
            fine = conv(maps[f"c{self.level - 1}"], self.passthrough, 1)
            x = jnp.concatenate([space_to_depth(fine, 2, order=self.reorg_order), x], axis=-1)
        x = run_block(self, partial(convolved, channels=self.convolutions[-1:]), x)
        x = conv.linear(x, self.num_anchors * (5 + self.num_classes))
        return {"logits": x.reshape(*x.shape[:3], self.num_anchors, 5 + self.num_classes)}


YOLOS_V2 = {
    "yolov2": YOLOv2,
    "yolov2_tiny": partial(
        YOLOv2, backbone=partial(PlainDarknet, TINY), convolutions=(1024,), passthrough=None
    ),
}

YOLO9000S = {
    "yolo9000": partial(YOLOv2, convolutions=(), passthrough=None, num_classes=9418, num_anchors=3),
}
"""Section 4 of the paper: a class for each node of a tree."""
