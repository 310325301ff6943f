"""SENet-154 (Hu, Shen, Albanie, Sun & Wu 2019, "Squeeze-and-excitation networks", appendix,
"Details of SENet-154"), which won the classification task of ILSVRC 2017."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import (
    Norm,
    add_act,
    batch_norm,
    conv_norm_act,
    dtypes_of,
    norm_of,
    run_block,
    squeeze_excite,
)
from jaxvision.models.sides import check_sides
from jaxvision.ops import global_avg_pool, max_pool

EXPANSION = 4
"""Output channels of a block, as a multiple of the width of its stage."""


class SENet(nn.Module):
    """A ResNeXt of 64 groups with squeeze-and-excitation, changed as in SENet-154.

    Compared with `se_resnext101_32x4d` the stem is three 3x3 convolutions instead of a 7x7 one, the
    first 1x1 convolution of a block has half as many channels as the 3x3 one, a shortcut at a
    stride is a 3x3 convolution, and there is dropout before the classifier.

    Attributes:
      blocks: number of blocks of each of the four stages.
      groups: groups of the 3x3 convolutions.
      widths: a quarter of the channels of each stage; the stem has as many channels as the first
        value, and twice as many at its end.
      squeeze: reduction ratio r of squeeze-and-excitation: the channels of a block divided by those
        between its two layers.
      dropout: dropout rate of the pooled features, in training.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 128], of the stem, "c2": [B, H/4, W/4, 256],
      "c3": [B, H/8, W/8, 512], "c4": [B, H/16, W/16, 1024], "c5": [B, H/32, W/32, 2048],
      "pooled": [B, 2048], "logits": [B, num_classes]}. Sizes round up, but the pooling after the
      stem turns n into ceil((n - 1) / 2), as in Caffe. Sides must be at least 3.

    Raises:
      InputError: the images are smaller than that.
    """

    blocks: tuple[int, int, int, int] = (3, 8, 36, 3)
    groups: int = 64
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    squeeze: int = 16
    dropout: float = 0.2
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
        check_sides(images, 1, more_than=2)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        conv = partial(conv_norm_act, norm=norm, act=self.act, **dtypes)

        def block(x: Array, *, width: int, stride: int, name: str) -> Array:
            layers = (
                (2 * width, 1, {}),
                (EXPANSION * width, 3, {"stride": stride, "groups": self.groups}),
                (EXPANSION * width, 1, {"act": None}),
            )
            y = x
            for number, (channels, kernel_size, options) in enumerate(layers, start=1):
                names = {"name": f"{name}_conv{number}", "norm_name": f"{name}_bn{number}"}
                y = conv(y, channels, kernel_size, **names, **options)
            squeezed = EXPANSION * width // self.squeeze
            y = squeeze_excite(y, squeezed, name=f"{name}_se", act=self.act, **dtypes)
            if x.shape[-1] != y.shape[-1] or stride > 1:
                names = {"name": f"{name}_downsample_0", "norm_name": f"{name}_downsample_1"}
                size = 3 if stride > 1 else 1
                x = conv(x, y.shape[-1], size, stride=stride, act=None, **names)
            return add_act(x, y, self.act)

        x, stem = images, self.widths[0]
        for number, (channels, stride) in enumerate(((stem, 2), (stem, 1), (2 * stem, 1)), start=1):
            names = {"name": f"layer0_conv{number}", "norm_name": f"layer0_bn{number}"}
            x = conv(x, channels, 3, stride=stride, **names)
        maps = {"c1": x}
        x = max_pool(x, 3, stride=2, ceil_mode=True)
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True), 1):
            for number in range(blocks):
                stride = 2 if stage > 1 and number == 0 else 1
                how = {"width": width, "stride": stride, "name": f"layer{stage}_{number}"}
                x = run_block(self, partial(block, **how), x)
            maps[f"c{stage + 1}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            pooled = nn.Dropout(self.dropout, deterministic=not train)(maps["pooled"])
            maps["logits"] = nn.Dense(self.num_classes, name="last_linear", **dtypes)(pooled)
        return maps


SENETS = {"senet154": SENet}
