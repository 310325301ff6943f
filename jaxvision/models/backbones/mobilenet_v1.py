"""MobileNet (Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto & Adam 2017, "MobileNets:
efficient convolutional neural networks for mobile vision applications")."""

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
    dtypes_of,
    make_divisible,
    norm_of,
    run_block,
)
from jaxvision.ops import global_avg_pool


class Stage(NamedTuple):
    """Blocks with the same number of channels: rows of the paper's table 1."""

    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(64, 1, 1),
    Stage(128, 2, 2),
    Stage(256, 2, 2),
    Stage(512, 6, 2),
    Stage(1024, 2, 2),
)
STEM_CHANNELS = 32


class MobileNetV1(nn.Module):
    """The MobileNet network, with depthwise separable convolutions.

    A separable convolution has a 3x3 filter for each channel and then a 1x1 convolution. The last
    block has stride 1, which fits its size in the paper's table 1, and not the 2 printed there.
    Layers are named as in MobileNetV2: features_{block}_0 is the depthwise convolution,
    features_{block}_3 the other; the first layer is features_0_0.

    Attributes:
      stages: stages of blocks; the first block of a stage has its stride.
      width: multiplier of all channels, alpha in the paper.
      act: activation after each convolution.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 64], "c2": [B, H/4, W/4, 128],
      "c3": [B, H/8, W/8, 256], "c4": [B, H/16, W/16, 512], "c5": [B, H/32, W/32, 1024],
      "pooled": [B, 1024], "logits": [B, num_classes]}, with `width` times these channels; the maps
      are the outputs of the last block of each size. Sizes round up.
    """

    stages: tuple[Stage, ...] = STAGES
    width: float = 1.0
    num_classes: int | None = 1000
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        conv = partial(conv_in_sequence, norm=norm, act=self.act, **dtypes)

        def scaled(channels: int) -> int:
            return make_divisible(channels * self.width)

        def separable(x: Array, *, features: int, stride: int, name: str) -> Array:
            channels = x.shape[-1]
            x = conv(x, channels, 3, name, 0, stride=stride, groups=channels)
            return conv(x, features, 1, name, 3)

        x = conv(images, scaled(STEM_CHANNELS), 3, "features_0", 0, stride=2)
        maps, level, done = {}, 1, 0
        for channels, blocks, stride in self.stages:
            if stride > 1:
                maps[f"c{level}"] = x
                level += 1
            for block in range(blocks):
                done += 1
                how = {"stride": stride if block == 0 else 1, "name": f"features_{done}"}
                x = run_block(self, partial(separable, features=scaled(channels), **how), x)
        maps[f"c{level}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            dense = nn.Dense(self.num_classes, name="classifier", **dtypes)
            maps["logits"] = dense(maps["pooled"])
        return maps


MOBILENETS_V1 = {
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v1_0_75": partial(MobileNetV1, width=0.75),
    "mobilenet_v1_0_5": partial(MobileNetV1, width=0.5),
    "mobilenet_v1_0_25": partial(MobileNetV1, width=0.25),
}
