"""RegNet (Radosavovic, Kosaraju, Girshick, He & Dollár 2020, "Designing network design spaces")."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import InputError
from jaxvision.layers import (
    Norm,
    add_act,
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
    """Blocks at one resolution."""

    blocks: int
    width: int
    group_width: int
    """Channels of each group of the 3x3 convolutions."""


def quantised_stages(
    depth: int, w_0: int, w_a: float, w_m: float, group_width: int
) -> tuple[Stage, ...]:
    """Computes the stages of a network whose widths grow linearly, up to rounding.

    The target of block j is u_j = w_0 + w_a j channels. It gets w_0 w_m^s, where s is the exponent
    of u_j rounded to an integer, and the result is rounded to a multiple of 8. Blocks with equal
    widths form a stage. Finally a width is rounded to a multiple of its group width.

    Args:
      depth: number of blocks.
      w_0: channels of the first block.
      w_a: increase of the channels from block to block.
      w_m: ratio of the channels of two stages.
      group_width: channels of a group; at most those of the stage are used.
    Source: Radosavovic et al. 2020, section 3.3, equations 2 to 4; appendix D for the
      groups, where a tie is rounded up, as in torchvision.
    """
    exponents = np.round(np.log(1 + w_a / w_0 * np.arange(depth)) / np.log(w_m))
    widths = 8 * np.round(w_0 * w_m**exponents / 8).astype(int)
    stages = []
    for width, blocks in zip(*np.unique(widths, return_counts=True), strict=True):
        group = min(int(width), group_width)
        stages.append(Stage(int(blocks), make_divisible(width, group), group))
    return tuple(stages)


class RegNet(nn.Module):
    """The RegNet network: residual bottlenecks with grouped convolutions.

    All convolutions of a bottleneck have the same width. Layers are named as in torchvision.

    Attributes:
      stages: stages of blocks; the first block of each has stride 2.
      stem_channels: channels of the first convolution.
      se_ratio: channels between the two layers of squeeze-and-excitation, as a fraction of the
        input channels of the block, as in RegNetY; None omits it, as in RegNetX.
      drop_path: rate of stochastic depth of the last block in training; block i of n has i / n of
        it.
      act: activation, also of squeeze-and-excitation.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 32], of the stem, "c2": [B, H/4, W/4, 48],
      "c3": [B, H/8, W/8, 104], "c4": [B, H/16, W/16, 208], "c5": [B, H/32, W/32, 440],
      "pooled": [B, 440], "logits": [B, num_classes]}, with the channels of RegNetY-400MF. Sizes
      round up.

    Raises:
      InputError: the width of a stage is not a multiple of its group_width.
    """

    stages: tuple[Stage, ...]
    stem_channels: int = 32
    se_ratio: float | None = None
    drop_path: float = 0.0
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

        def residual(x: Array, *, width: int, groups: int, name: str, stride: int, drop: float):
            y = conv(x, width, 1, f"{name}_f_a")
            y = conv(y, width, 3, f"{name}_f_b", stride=stride, groups=groups)
            if self.se_ratio is not None:
                inner = round(self.se_ratio * x.shape[-1])
                y = squeeze_excite(y, inner, name=f"{name}_f_se", act=self.act, **dtypes)
            y = conv(y, width, 1, f"{name}_f_c", act=None)
            if stride > 1 or x.shape[-1] != width:
                x = conv(x, width, 1, f"{name}_proj", stride=stride, act=None)
            return add_act(x, drop_path(y, drop, train=train), self.act)

        x = conv(images, self.stem_channels, 3, "stem", stride=2)
        maps, done, depth = {"c1": x}, 0, sum(blocks for blocks, _, _ in self.stages)
        for number, (blocks, width, group_width) in enumerate(self.stages, start=1):
            if width % group_width:
                raise InputError(
                    f"stage {number} has a width of {width}: give a multiple of its group_width, "
                    f"{group_width}"
                )
            for block in range(blocks):
                done += 1
                how = {"stride": 2 if block == 0 else 1, "drop": self.drop_path * done / depth}
                how["name"] = f"trunk_output_block{number}_block{number}-{block}"
                how["groups"] = width // group_width
                x = run_block(self, partial(residual, width=width, **how), x)
            maps[f"c{number + 1}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            init = nn.initializers.normal(0.01)
            dense = nn.Dense(self.num_classes, kernel_init=init, name="fc", **dtypes)
            maps["logits"] = dense(maps["pooled"])
        return maps


def _x(*parameters: float) -> Callable[..., RegNet]:
    return partial(RegNet, stages=quantised_stages(*parameters))


def _y(*parameters: float) -> Callable[..., RegNet]:
    return partial(RegNet, stages=quantised_stages(*parameters), se_ratio=0.25)


REGNETS = {
    "regnet_x_400mf": _x(22, 24, 24.48, 2.54, 16),
    "regnet_x_800mf": _x(16, 56, 35.73, 2.28, 16),
    "regnet_x_1_6gf": _x(18, 80, 34.01, 2.25, 24),
    "regnet_x_3_2gf": _x(25, 88, 26.31, 2.25, 48),
    "regnet_x_8gf": _x(23, 80, 49.56, 2.88, 120),
    "regnet_x_16gf": _x(22, 216, 55.59, 2.1, 128),
    "regnet_x_32gf": _x(23, 320, 69.86, 2.0, 168),
    "regnet_y_400mf": _y(16, 48, 27.89, 2.09, 8),
    "regnet_y_800mf": _y(14, 56, 38.84, 2.4, 16),
    "regnet_y_1_6gf": _y(27, 48, 20.71, 2.65, 24),
    "regnet_y_3_2gf": _y(21, 80, 42.63, 2.66, 24),
    "regnet_y_8gf": _y(17, 192, 76.82, 2.19, 56),
    "regnet_y_16gf": _y(18, 200, 106.23, 2.48, 112),
    "regnet_y_32gf": _y(20, 232, 115.89, 2.53, 232),
    "regnet_y_128gf": _y(27, 456, 160.83, 2.52, 264),
}
"""The arguments of `quantised_stages`, as published: depth, w_0, w_a, w_m and group_width."""
