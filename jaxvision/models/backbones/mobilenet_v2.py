"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018, "MobileNetV2: inverted residuals and
linear bottlenecks")."""

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
)
from jaxvision.ops import global_avg_pool


class Stage(NamedTuple):
    """A row of the paper's table 2."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


class MobileNetV2(nn.Module):
    """The MobileNetV2 network.

    Its inverted residual blocks expand the channels by a 1x1 convolution, filter each channel, and
    reduce them by another 1x1 convolution.

    Attributes:
      stages: rows of the paper's table 2.
      width: multiplier of all channels; it applies to the last convolution only if it is above 1.
      dropout: dropout rate of the pooled features in training.
      drop_path: rate of stochastic depth of the last block in training; block i of n has i / n of
        it.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 16], "c2": [B, H/4, W/4, 24],
      "c3": [B, H/8, W/8, 32], "c4": [B, H/16, W/16, 96], "c5": [B, H/32, W/32, 320],
      "pooled": [B, 1280], "logits": [B, num_classes]}; the maps are the outputs of the last block
      of each size. Sizes round up.
    """

    stages: tuple[Stage, ...] = STAGES
    width: float = 1.0
    num_classes: int | None = 1000
    dropout: float = 0.2
    drop_path: float = 0.0
    act: Callable[[Array], Array] = nn.relu6
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

        def inverted(
            x: Array, *, expansion: int, features: int, stride: int, drop: float, name: str
        ):
            y, part, inner = x, 0, x.shape[-1] * expansion
            if expansion > 1:
                y = conv(y, inner, 1, f"{name}_0", 0)
                part = 1
            y = conv(y, inner, 3, f"{name}_{part}", 0, stride=stride, groups=inner)
            y = conv(y, features, 1, name, part + 1, act=None)
            if stride > 1 or x.shape[-1] != features:
                return y
            return x + drop_path(y, drop, train=train)

        x = conv(images, make_divisible(STEM_CHANNELS * self.width), 3, "features_0", 0, stride=2)
        maps, level, done = {}, 1, 0
        for expansion, channels, blocks, stride in stages:
            if stride > 1:
                maps[f"c{level}"] = x
                level += 1
            how = {"expansion": expansion, "features": make_divisible(channels * self.width)}
            for _ in range(blocks):
                done += 1
                how["drop"] = self.drop_path * done / sum(stage.blocks for stage in stages)
                how["name"] = f"features_{done}_conv"
                x = run_block(self, partial(inverted, stride=stride, **how), x)
                stride = 1
        maps[f"c{level}"] = x
        head = make_divisible(HEAD_CHANNELS * max(1.0, self.width))
        x = conv(x, head, 1, f"features_{done + 1}", 0)
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            y = nn.Dropout(self.dropout, deterministic=not train)(maps["pooled"])
            init = nn.initializers.normal(0.01)
            dense = nn.Dense(self.num_classes, kernel_init=init, name="classifier_1", **dtypes)
            maps["logits"] = dense(y)
        return maps


MOBILENETS_V2 = {"mobilenet_v2": MobileNetV2}
