"""EfficientNet (Tan & Le 2019, "EfficientNet: rethinking model scaling for convolutional neural
networks") and EfficientNetV2 (Tan & Le 2021, "EfficientNetV2: smaller models and faster
training")."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import (
    Norm,
    batch_norm,
    conv_in_sequence,
    drop_path,
    dtypes_of,
    make_divisible,
    norm_of,
    run_block,
    squeeze_excite,
)
from jaxvision.ops import global_avg_pool


class Stage(NamedTuple):
    """A row of the first paper's table 1 or of the second's table 4.

    Blocks are MBConv or, if `fused`, Fused-MBConv, in which one convolution expands and filters,
    without squeeze-and-excitation.
    """

    kernel_size: int
    expansion: int
    channels: int
    blocks: int
    stride: int
    fused: bool = False


B0 = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(5, 6, 40, 2, 2),
    Stage(3, 6, 80, 3, 2),
    Stage(5, 6, 112, 3, 1),
    Stage(5, 6, 192, 4, 2),
    Stage(3, 6, 320, 1, 1),
)
V2_S = (
    Stage(3, 1, 24, 2, 1, fused=True),
    Stage(3, 4, 48, 4, 2, fused=True),
    Stage(3, 4, 64, 4, 2, fused=True),
    Stage(3, 4, 128, 6, 2),
    Stage(3, 6, 160, 9, 1),
    Stage(3, 6, 256, 15, 2),
)
V2_M = (
    Stage(3, 1, 24, 3, 1, fused=True),
    Stage(3, 4, 48, 5, 2, fused=True),
    Stage(3, 4, 80, 5, 2, fused=True),
    Stage(3, 4, 160, 7, 2),
    Stage(3, 6, 176, 14, 1),
    Stage(3, 6, 304, 18, 2),
    Stage(3, 6, 512, 5, 1),
)
V2_L = (
    Stage(3, 1, 32, 4, 1, fused=True),
    Stage(3, 4, 64, 7, 2, fused=True),
    Stage(3, 4, 96, 7, 2, fused=True),
    Stage(3, 4, 192, 10, 2),
    Stage(3, 6, 224, 19, 1),
    Stage(3, 6, 384, 25, 2),
    Stage(3, 6, 640, 7, 1),
)
HEAD_CHANNELS, SQUEEZE_REDUCTION = 1280, 4
B0_RESOLUTION = 224


class Scaling(NamedTuple):
    """The scaling of a network: the fields `depth` and `width`, and the side of its images."""

    depth: float
    width: float
    resolution: int


def compound_scaling(
    phi: float, *, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15
) -> Scaling:
    """Computes the scaling that makes B0 about 2^phi times as costly.

    The cost of convolutions grows with depth, width squared and resolution squared. The published
    B1 to B7 do not follow this exactly: they are within a tenth of it at a phi of 0.5, 1, 2, 3.5,
    4.5, 5.5 and 6.5. (The paper does not state their phi.)

    Args:
      phi: any number; 0 does not scale.
      alpha: growth of the depth.
      beta: growth of the width.
      gamma: growth of the resolution; alpha beta^2 gamma^2 is about 2.
    Returns:
      depth alpha^phi, width beta^phi, resolution gamma^phi 224 in whole pixels.
    Source: Tan & Le 2019, equation 3; the default alpha, beta and gamma are those of their search.
    """
    return Scaling(alpha**phi, beta**phi, round(B0_RESOLUTION * gamma**phi))


class EfficientNet(nn.Module):
    """The EfficientNet and EfficientNetV2 networks, which are scaled in width and depth.

    They have inverted residual blocks with squeeze-and-excitation. As in torchvision and in the
    implementation of the authors, it has a quarter of the channels before a block expands them.
    Layers are named as in torchvision.

    Attributes:
      stages: rows of the papers' tables.
      stem: channels of the first convolution.
      width: multiplier of all channels.
      depth: multiplier of the number of blocks of each stage, which rounds up.
      dropout: dropout rate of the pooled features in training.
      drop_path: rate of stochastic depth in training; block i of n has (i - 1) / n of it, as in the
        implementation of the authors.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 16], "c2": [B, H/4, W/4, 24],
      "c3": [B, H/8, W/8, 40], "c4": [B, H/16, W/16, 112], "c5": [B, H/32, W/32, 320],
      "pooled": [B, 1280], "logits": [B, num_classes]}, with the channels of B0; the maps are the
      outputs of the last block of each size. Sizes round up.
    """

    stages: tuple[Stage, ...]
    stem: int = 32
    width: float = 1.0
    depth: float = 1.0
    num_classes: int | None = 1000
    dropout: float = 0.2
    drop_path: float = 0.2
    act: Callable[[Array], Array] = nn.silu
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        stages = [Stage(*row) for row in self.stages]  # the caller may give plain tuples
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        conv = partial(conv_in_sequence, norm=norm, act=self.act, **dtypes)

        def scaled(channels: int):
            return make_divisible(channels * self.width)

        def fused(x: Array, *, stage: Stage, stride: int, name: str):
            features, inner = scaled(stage.channels), x.shape[-1] * stage.expansion
            if stage.expansion == 1:
                return conv(x, features, stage.kernel_size, f"{name}_0", stride=stride)
            y = conv(x, inner, stage.kernel_size, f"{name}_0", stride=stride)
            return conv(y, features, 1, f"{name}_1", act=None)

        def separable(x: Array, *, stage: Stage, stride: int, name: str):
            y, part, inner = x, 0, x.shape[-1] * stage.expansion
            if stage.expansion > 1:
                y = conv(y, inner, 1, f"{name}_0")
                part = 1
            filters = {"stride": stride, "groups": inner}
            y = conv(y, inner, stage.kernel_size, f"{name}_{part}", **filters)
            squeezed = x.shape[-1] // SQUEEZE_REDUCTION
            y = squeeze_excite(y, squeezed, name=f"{name}_{part + 1}", act=self.act, **dtypes)
            return conv(y, scaled(stage.channels), 1, f"{name}_{part + 2}", act=None)

        def residual(x: Array, *, stage: Stage, stride: int, drop: float, name: str):
            branch = fused if stage.fused else separable
            y = branch(x, stage=stage, stride=stride, name=name)
            if stride > 1 or x.shape[-1] != y.shape[-1]:
                return y
            return x + drop_path(y, drop, train=train)

        x = conv(images, scaled(self.stem), 3, "features_0", stride=2)
        counts = [math.ceil(stage.blocks * self.depth) for stage in stages]
        maps, level, done = {}, 1, 0
        for place, (stage, blocks) in enumerate(zip(stages, counts, strict=True), start=1):
            if stage.stride > 1:
                maps[f"c{level}"] = x
                level += 1
            for block in range(blocks):
                how = {"stride": stage.stride if block == 0 else 1}
                how["drop"] = self.drop_path * done / sum(counts)
                how["name"] = f"features_{place}_{block}_block"
                x = run_block(self, partial(residual, stage=stage, **how), x)
                done += 1
        maps[f"c{level}"] = x
        x = conv(x, scaled(HEAD_CHANNELS), 1, f"features_{len(counts) + 1}")
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            y = nn.Dropout(self.dropout, deterministic=not train)(maps["pooled"])
            init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
            dense = nn.Dense(self.num_classes, kernel_init=init, name="classifier_1", **dtypes)
            maps["logits"] = dense(y)
        return maps


B5_NORM = partial(batch_norm, epsilon=1e-3, momentum=0.99)
V2_NORM = partial(batch_norm, epsilon=1e-3)

EFFICIENTNETS = {
    "efficientnet_b0": partial(EfficientNet, stages=B0),
    "efficientnet_b1": partial(EfficientNet, stages=B0, depth=1.1),
    "efficientnet_b2": partial(EfficientNet, stages=B0, width=1.1, depth=1.2, dropout=0.3),
    "efficientnet_b3": partial(EfficientNet, stages=B0, width=1.2, depth=1.4, dropout=0.3),
    "efficientnet_b4": partial(EfficientNet, stages=B0, width=1.4, depth=1.8, dropout=0.4),
    "efficientnet_b5": partial(
        EfficientNet, stages=B0, width=1.6, depth=2.2, dropout=0.4, norm=B5_NORM
    ),
    "efficientnet_b6": partial(
        EfficientNet, stages=B0, width=1.8, depth=2.6, dropout=0.5, norm=B5_NORM
    ),
    "efficientnet_b7": partial(
        EfficientNet, stages=B0, width=2.0, depth=3.1, dropout=0.5, norm=B5_NORM
    ),
    "efficientnet_v2_s": partial(EfficientNet, stages=V2_S, stem=24, norm=V2_NORM),
    "efficientnet_v2_m": partial(EfficientNet, stages=V2_M, stem=24, dropout=0.3, norm=V2_NORM),
    "efficientnet_v2_l": partial(EfficientNet, stages=V2_L, dropout=0.4, norm=V2_NORM),
}
