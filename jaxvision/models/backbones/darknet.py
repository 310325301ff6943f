"""The backbones of YOLO: Extraction (Redmon et al. 2016, "You only look once", section 2.2),
Darknet-19 (Redmon & Farhadi 2017, "YOLO9000", table 6) and Darknet-53 (Redmon & Farhadi 2018,
"YOLOv3", table 1)."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import (
    Conv,
    Norm,
    batch_norm,
    conv_norm_act,
    dtypes_of,
    norm_of,
    run_block,
)
from jaxvision.ops import global_avg_pool, max_pool

leaky_relu = partial(nn.leaky_relu, negative_slope=0.1)


class Stage(NamedTuple):
    """Convolutions at one resolution, each given as (output channels, side of the kernel).

    A 2x2 max pooling precedes each stage except the first. It has stride 1 between two stages of
    the same level.
    """

    level: int  # the map is 2^level times smaller than the image
    convolutions: tuple[tuple[int, int], ...]


def _repeated(wide: int, narrow: int, times: int) -> tuple[tuple[int, int], ...]:
    """Returns `times` 3x3 convolutions, with 1x1 convolutions to fewer channels between them."""
    return (((wide, 3), (narrow, 1)) * times)[:-1]


EXTRACTION = (
    Stage(1, ((64, 7),)),
    Stage(2, ((192, 3),)),
    Stage(3, ((128, 1), (256, 3), (256, 1), (512, 3))),
    Stage(4, (*((256, 1), (512, 3)) * 4, (512, 1), (1024, 3))),
    Stage(5, ((512, 1), (1024, 3)) * 2),
)
DARKNET_19 = (
    Stage(0, ((32, 3),)),
    Stage(1, ((64, 3),)),
    Stage(2, _repeated(128, 64, 2)),
    Stage(3, _repeated(256, 128, 2)),
    Stage(4, _repeated(512, 256, 3)),
    Stage(5, _repeated(1024, 512, 3)),
)


TINY = (
    Stage(0, ((16, 3),)),
    Stage(1, ((32, 3),)),
    Stage(2, ((64, 3),)),
    Stage(3, ((128, 3),)),
    Stage(4, ((256, 3),)),
    Stage(5, ((512, 3),)),
    Stage(5, ((1024, 3),)),
)
"""The backbone of the tiny YOLOv2 and YOLOv3."""


class PlainDarknet(nn.Module):
    """A Darknet without shortcuts: stages of convolutions with max poolings between them.

    Convolutions are named conv1, conv2, ... and their norms bn1, bn2, ... in order. If the first
    stage is at level 1, its convolution has stride 2.

    Attributes:
      stages: stages of the network.
      classifier: "conv", a 1x1 convolution before the average pooling (Darknet-19), or "fc", a
        fully connected layer after it (Extraction).
      norm: after each convolution; None gives convolutions with a bias, as in YOLOv1's paper.

    Call:
      images f32[B, H, W, C] -> {"c{level}": [B, H / 2^level, W / 2^level, channels], the last map
      of each level, "pooled": [B, channels], "logits": [B, num_classes]}. Sizes round up at a
      stride of 2 and down at a pooling, so give sides that are multiples of 32.
    """

    stages: tuple[Stage, ...]
    classifier: str = "conv"
    num_classes: int | None = 1000
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        conv = NumberedConvs(self, train=train)

        def convolved(x: Array, *, convolutions: Sequence[tuple[int, int]], stride: int) -> Array:
            for features, kernel_size in convolutions:
                x = conv(x, features, kernel_size, stride=stride)
            return x

        maps, x, before = {}, images, None
        for level, convolutions in self.stages:
            if before is not None:
                x = max_pool(x, 2) if level > before else _same_max_pool(x)
            how = {"convolutions": convolutions, "stride": 1 if maps or not level else 2}
            x = run_block(self, partial(convolved, **how), x)
            maps[f"c{level}"], before = x, level
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            if self.classifier == "conv":
                maps["logits"] = global_avg_pool(conv.linear(x, self.num_classes))
            else:
                maps["logits"] = dense(self, self.num_classes, "fc")(maps["pooled"])
        return maps


def _same_max_pool(x: Array) -> Array:
    """Applies a 2x2 max pooling with stride 1 that keeps the size: it pads right and below."""
    padding = ((0, 0), (0, 1), (0, 1), (0, 0))
    return max_pool(jnp.pad(x, padding, constant_values=-jnp.inf), 2, stride=1)


class Darknet53(nn.Module):
    """The Darknet-53 network: residual blocks of a 1x1 and a 3x3 convolution.

    A 3x3 convolution of stride 2 precedes each stage. Convolutions are named conv1 to conv52 and
    their norms bn1 to bn52, in order.

    Attributes:
      blocks: number of blocks of each of the five stages.
      widths: channels of the first convolution and of each stage.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 64], "c2": [B, H/4, W/4, 128],
      "c3": [B, H/8, W/8, 256], "c4": [B, H/16, W/16, 512], "c5": [B, H/32, W/32, 1024],
      "pooled": [B, 1024], "logits": [B, num_classes]}, sizes rounded up.
    """

    blocks: tuple[int, ...] = (1, 2, 8, 8, 4)
    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    num_classes: int | None = 1000
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        conv = NumberedConvs(self, train=train)

        def block(x: Array, *, width: int) -> Array:
            return x + conv(conv(x, width // 2, 1), width, 3)

        x = conv(images, self.widths[0], 3)
        maps = {}
        stages = zip(self.blocks, self.widths[1:], strict=True)
        for level, (blocks, width) in enumerate(stages, start=1):
            x = conv(x, width, 3, stride=2)
            for _ in range(blocks):
                x = run_block(self, partial(block, width=width), x)
            maps[f"c{level}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            maps["logits"] = dense(self, self.num_classes, "fc")(maps["pooled"])
        return maps


class NumberedConvs:
    """Creates the convolutions of a module, named conv1, conv2, ... with norms bn1, bn2, ...

    Args:
      module: a module with the fields `norm`, `axis_name`, `dtype` and `param_dtype`.
      train: whether norms use the statistics of the batch.
      act: activation after each norm.
    """

    def __init__(self, module: Any, *, train: bool, act: Callable[[Array], Array] = leaky_relu):
        self._dtypes, self._norm = dtypes_of(module), norm_of(module, train=train)
        self._act = act
        self._numbers = itertools.count(1)

    def __call__(self, x: Array, features: int, kernel_size: int, *, stride: int = 1) -> Array:
        """Applies convolution, norm and activation: [B, H, W, C] -> [B, H/stride, W/stride, D]."""
        number = next(self._numbers)
        return conv_norm_act(
            x,
            features,
            kernel_size,
            name=f"conv{number}",
            norm_name=f"bn{number}",
            norm=self._norm,
            stride=stride,
            act=self._act,
            **self._dtypes,
        )

    def linear(self, x: Array, features: int) -> Array:
        """Applies a 1x1 convolution with a bias: [B, H, W, C] -> [B, H, W, features]."""
        return Conv(features, (1, 1), name=f"conv{next(self._numbers)}", **self._dtypes)(x)


def dense(module: Any, features: int, name: str) -> nn.Dense:
    """Creates a fully connected layer with the dtypes of a module."""
    return nn.Dense(features, name=name, **dtypes_of(module))


PLAIN_DARKNETS = {
    "plain_darknet": PlainDarknet,
    "tiny_darknet": partial(PlainDarknet, stages=TINY),
}
"""Backbones that are not classifiers: one with stages of your own, and that of the tiny YOLOs."""

DARKNETS = {
    "darknet19": partial(PlainDarknet, stages=DARKNET_19),
    "darknet53": Darknet53,
    "extraction": partial(PlainDarknet, stages=EXTRACTION, classifier="fc"),
}
