"""ShuffleNet (Zhang, Zhou, Lin & Sun 2018, "ShuffleNet: an extremely efficient convolutional neural
network for mobile devices")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError
from jaxvision.layers import (
    Norm,
    add_act,
    batch_norm,
    conv_norm_act,
    dtypes_of,
    make_divisible,
    norm_of,
    run_block,
)
from jaxvision.ops import avg_pool, channel_shuffle, global_avg_pool, max_pool

REDUCTION = 4
"""Output channels of a unit, as a multiple of those of its depthwise convolution."""


class ShuffleNetV1(nn.Module):
    """The ShuffleNet network.

    Its units have grouped 1x1 convolutions, between which channels are shuffled among the groups.
    The first unit of a stage has stride 2, and concatenates its result with an average pooling of
    its input; the other units add their input. The first convolution of the very first unit is not
    grouped, because it has few input channels. Layers are named stage2_0_conv1, stage2_0_conv2 (the
    depthwise one) and stage2_0_conv3, and their norms stage2_0_bn1 to stage2_0_bn3.

    Attributes:
      groups: groups of the 1x1 convolutions, g in the paper.
      blocks: units of each stage; the paper's table 1.
      widths: channels of the stem and of each stage.
      width: multiplier of all channels, s in the paper. The results are rounded to the multiples
        that groups need: of `groups` in the stem, and of 4 times `groups` in the stages.
      act: activation after the stem, after a unit's first convolution and after a unit.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 24], of the stem, "c2": [B, H/4, W/4, 24], its
      max pooling, "c3": [B, H/8, W/8, 240], "c4": [B, H/16, W/16, 480], "c5": [B, H/32, W/32, 960],
      of the stages, "pooled": [B, 960], "logits": [B, num_classes]}, with the channels of three
      groups. Sizes round up.

    Raises:
      InputError: the widths do not increase, or there is not one for the stem and for each stage.
    """

    groups: int = 3
    blocks: tuple[int, ...] = (4, 8, 4)
    widths: tuple[int, ...] = (24, 240, 480, 960)
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
        stem, *widths = (channels * self.width for channels in self.widths)
        stem = make_divisible(stem, self.groups)
        widths = [make_divisible(channels, REDUCTION * self.groups) for channels in widths]
        grow = all(seen < given for seen, given in zip([stem, *widths], widths, strict=False))
        if len(widths) != len(self.blocks) or not grow:
            raise InputError(
                f"widths is {self.widths}, which groups and width change to {[stem, *widths]}: "
                f"give one for the stem and increasing ones for the {len(self.blocks)} stages"
            )
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, features: int, size: int, name: str, place: int = 1, **how: Any):
            names = {"name": f"{name}_conv{place}", "norm_name": f"{name}_bn{place}"}
            return conv_norm_act(x, features, size, norm=norm, **names, **how, **dtypes)

        def unit(x: Array, *, width: int, stride: int, groups: int, name: str) -> Array:
            inner, added = width // REDUCTION, width - x.shape[-1] if stride > 1 else width
            y = conv(x, inner, 1, name, 1, groups=groups, act=self.act)
            y = channel_shuffle(y, self.groups)
            y = conv(y, inner, 3, name, 2, stride=stride, groups=inner, act=None)
            y = conv(y, added, 1, name, 3, groups=self.groups, act=None)
            if stride == 1:
                return add_act(x, y, self.act)
            shortcut = avg_pool(x, 3, stride=stride, padding=1)
            return self.act(jnp.concatenate([shortcut, y], axis=-1))

        x = conv(images, stem, 3, "stem", stride=2, act=self.act)
        maps = {"c1": x, "c2": max_pool(x, 3, stride=2, padding=1)}
        x = maps["c2"]
        for stage, (blocks, width) in enumerate(zip(self.blocks, widths, strict=True), start=2):
            for block in range(blocks):
                how = {"width": width, "stride": 2 if block == 0 else 1}
                how["groups"] = 1 if stage == 2 and block == 0 else self.groups
                x = run_block(self, partial(unit, **how, name=f"stage{stage}_{block}"), x)
            maps[f"c{stage + 1}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="fc", **dtypes)(maps["pooled"])
        return maps


SHUFFLENETS_V1 = {
    "shufflenet_v1_g1": partial(ShuffleNetV1, groups=1, widths=(24, 144, 288, 576)),
    "shufflenet_v1_g2": partial(ShuffleNetV1, groups=2, widths=(24, 200, 400, 800)),
    "shufflenet_v1_g3": partial(ShuffleNetV1, groups=3, widths=(24, 240, 480, 960)),
    "shufflenet_v1_g4": partial(ShuffleNetV1, groups=4, widths=(24, 272, 544, 1088)),
    "shufflenet_v1_g8": partial(ShuffleNetV1, groups=8, widths=(24, 384, 768, 1536)),
}
