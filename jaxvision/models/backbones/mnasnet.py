"""MnasNet (Tan, Chen, Pang, Vasudevan, Sandler, Howard & Le 2019, "MnasNet: platform-aware neural
architecture search for mobile")."""

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
    """A sequence of inverted residual blocks."""

    kernel_size: int
    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(3, 3, 24, 3, 2),
    Stage(5, 3, 40, 3, 2),
    Stage(5, 6, 80, 3, 2),
    Stage(3, 6, 96, 2, 1),
    Stage(5, 6, 192, 4, 2),
    Stage(3, 6, 320, 1, 1),
)
"""MnasNet-B1, the result of the search without squeeze-and-excitation."""

STEM_CHANNELS, SEPARABLE_CHANNELS, HEAD_CHANNELS = 32, 16, 1280


class MNASNet(nn.Module):
    """The MnasNet network.

    A separable convolution precedes inverted residual blocks with 3x3 and 5x5 filters.

    Attributes:
      stages: stages of blocks.
      width: multiplier of all channels except those of the last convolution.
      dropout: dropout rate of the pooled features in training.
      drop_path: rate of stochastic depth of the last block in training; block i of n has i / n of
        it.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 16], "c2": [B, H/4, W/4, 24],
      "c3": [B, H/8, W/8, 40], "c4": [B, H/16, W/16, 96], "c5": [B, H/32, W/32, 320],
      "pooled": [B, 1280], "logits": [B, num_classes]}, with `width` times these channels in the
      maps. The maps are the outputs of the last block of each size. Sizes round up.
    """

    stages: tuple[Stage, ...] = STAGES
    width: float = 1.0
    num_classes: int | None = 1000
    dropout: float = 0.2
    drop_path: float = 0.0
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = partial(batch_norm, momentum=0.9997)
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

        def inverted(x: Array, *, stage: Stage, stride: int, drop: float, name: str):
            features, inner = scaled(stage.channels), x.shape[-1] * stage.expansion
            y = conv(x, inner, 1, name, 0)
            y = conv(y, inner, stage.kernel_size, name, 3, stride=stride, groups=inner)
            y = conv(y, features, 1, name, 6, act=None)
            if stride > 1 or x.shape[-1] != features:
                return y
            return x + drop_path(y, drop, train=train)

        stem = scaled(STEM_CHANNELS)
        x = conv(images, stem, 3, "layers", 0, stride=2)
        x = conv(x, stem, 3, "layers", 3, groups=stem)
        x = conv(x, scaled(SEPARABLE_CHANNELS), 1, "layers", 6, act=None)
        maps, level, place, done = {}, 1, 8, 0
        for stage in stages:
            if stage.stride > 1:
                maps[f"c{level}"] = x
                level += 1
            for block in range(stage.blocks):
                done += 1
                how = {"stride": stage.stride if block == 0 else 1}
                how["drop"] = self.drop_path * done / sum(stage.blocks for stage in stages)
                how["name"] = f"layers_{place}_{block}_layers"
                x = run_block(self, partial(inverted, stage=stage, **how), x)
            place += 1
        maps[f"c{level}"] = x
        x = conv(x, HEAD_CHANNELS, 1, "layers", place)
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            y = nn.Dropout(self.dropout, deterministic=not train)(maps["pooled"])
            init = nn.initializers.variance_scaling(1.0, "fan_out", "uniform")
            dense = nn.Dense(self.num_classes, kernel_init=init, name="classifier_1", **dtypes)
            maps["logits"] = dense(y)
        return maps


MNASNETS = {
    "mnasnet0_5": partial(MNASNet, width=0.5),
    "mnasnet0_75": partial(MNASNet, width=0.75),
    "mnasnet1_0": MNASNet,
    "mnasnet1_3": partial(MNASNet, width=1.3),
}
