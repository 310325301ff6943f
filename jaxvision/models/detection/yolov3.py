"""YOLOv3 (Redmon & Farhadi 2018, "YOLOv3: an incremental improvement", section 2)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, as_backbone, batch_norm, run_block
from jaxvision.models.backbones.darknet import (
    TINY,
    Darknet53,
    NumberedConvs,
    PlainDarknet,
)
from jaxvision.ops import max_pool, resize_nearest


class Scale(NamedTuple):
    """The layers of one scale, on one of the maps of the backbone."""

    level: int  # the map is 2^level times smaller than the image
    lateral: int | None  # channels taken from the coarser scale; None for the coarsest scale
    convolutions: tuple[tuple[int, int], ...]  # (channels, side of the kernel)
    head: int | None  # channels of the 3x3 convolution before the predictions; None: there is none


def _scale(level: int, lateral: int | None, width: int) -> Scale:
    convolutions = (*((width, 1), (2 * width, 3)) * 2, (width, 1))
    return Scale(level, lateral, convolutions, 2 * width)


PYRAMID = (_scale(5, None, 512), _scale(4, 256, 256), _scale(3, 128, 128))
TINY_PYRAMID = (Scale(5, None, ((256, 1),), 512), Scale(4, 128, (), 256))


class YOLOv3(nn.Module):
    """The YOLOv3 network, which predicts boxes at several scales.

    The features of each scale are upsampled and concatenated with the map of the next finer one.

    Attributes:
      backbone: builds the module "backbone", whose maps of these scales are used.
      scales: from coarse to fine. Their convolutions are named conv1, conv2, ... in order.
      pooling: sides of the max poolings of spatial pyramid pooling. Their results are concatenated
        with the coarsest map after its third convolution, and a 1x1 convolution reduces them to the
        same channels. If empty, there is no such pooling.
      num_classes: C classes.
      num_anchors: A anchors for each scale.
      norm: after each convolution except the last; None gives convolutions with a bias.

    Call:
      images f32[N, H, W, 3], sides multiples of 32 -> {"logits{level}": [N, H / 2^level,
      W / 2^level, A, 5 + C]} for each scale, coarse to fine, an argument of
      `jaxvision.losses.yolov3_loss`.
    """

    backbone: Callable[..., nn.Module] = Darknet53
    scales: tuple[Scale, ...] = PYRAMID
    pooling: tuple[int, ...] = ()
    num_classes: int = 80
    num_anchors: int = 3
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        maps = self.backbone(**as_backbone(self, self.backbone))(images, train=train)
        conv = NumberedConvs(self, train=train)
        depth = 5 + self.num_classes

        def convolved(x: Array, *, convolutions: Sequence[tuple[int, int]], coarsest: bool):
            for number, (features, kernel_size) in enumerate(convolutions, start=1):
                x = conv(x, features, kernel_size)
                if self.pooling and coarsest and number == 3:
                    x = conv(spatial_pyramid(x, self.pooling), features, 1)
            return x

        x, outputs = None, {}
        for level, lateral, convolutions, head in self.scales:
            of_level = maps[f"c{level}"]
            if lateral is None:
                x = of_level
            else:
                x = resize_nearest(conv(x, lateral, 1), of_level.shape[1:3])
                x = jnp.concatenate([x, of_level], axis=-1)
            how = {"convolutions": convolutions, "coarsest": lateral is None}
            x = run_block(self, partial(convolved, **how), x)
            y = x if head is None else conv(x, head, 3)
            y = conv.linear(y, self.num_anchors * depth)
            outputs[f"logits{level}"] = y.reshape(*y.shape[:3], self.num_anchors, depth)
        return outputs


def spatial_pyramid(x: Array, sides: tuple[int, ...]) -> Array:
    """Concatenates the max poolings of a map over several windows, and the map itself.

    The largest window comes first and the map last.

    Args:
      x: f32[N, H, W, C].
      sides: odd sides of P windows.
    Returns:
      f32[N, H, W, (P + 1) C].
    Source: He et al. 2014 ("Spatial pyramid pooling in deep convolutional networks"), in the form
      that keeps the size of the map.
    """
    pooled = [max_pool(x, side, stride=1, padding=side // 2) for side in sorted(sides)]
    return jnp.concatenate([*reversed(pooled), x], axis=-1)


YOLOS_V3 = {
    "yolov3": YOLOv3,
    "yolov3_spp": partial(YOLOv3, pooling=(5, 9, 13)),
    "yolov3_tiny": partial(YOLOv3, backbone=partial(PlainDarknet, TINY), scales=TINY_PYRAMID),
}
