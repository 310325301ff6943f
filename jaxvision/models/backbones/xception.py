"""Xception (Chollet 2017, "Xception: deep learning with depthwise separable convolutions", figure
5)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Conv, Norm, batch_norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides
from jaxvision.ops import global_avg_pool, max_pool


class Block(NamedTuple):
    """Separable convolutions, each after an activation, and a shortcut around them."""

    channels: tuple[int, ...]
    """Channels of each separable convolution."""
    stride: int = 1
    """2 for a max pooling at the end."""
    repeats: int = 1
    """How many such blocks follow each other; only the first has the stride."""


STEM = (32, 64)
BLOCKS = (
    Block((128, 128), stride=2),
    Block((256, 256), stride=2),
    Block((728, 728), stride=2),
    Block((728, 728, 728), repeats=8),
    Block((728, 1024), stride=2),
)
HEAD = (1536, 2048)
"""The channels of figure 5, from the first convolutions to the last separable ones."""


class Xception(nn.Module):
    """The Xception network: depthwise separable convolutions, with shortcuts around two or three.

    A separable convolution is a 3x3 convolution of each channel directly followed by a 1x1
    convolution. Blocks have the numbers of the author's implementation, from block1, the first
    convolutions, to block14, the last separable ones. Names are block2_sepconv1_depthwise,
    block2_sepconv1_pointwise, block2_sepconv1_pointwise_bn and block2_shortcut. The initialisation
    is the author's too. His max poolings pad a map of even sides at the end only, but here they are
    padded on all sides. So for 299x299 images the windows of the second one (74 to 37 cells) are
    shifted by one cell to the left and up.

    Attributes:
      stages: the blocks between the first convolutions and the last.
      width: multiplier of all channels.
      dropout: dropout rate of the pooled features in training.
      norm: after each convolution except depthwise ones; None gives convolutions with a bias.

    Call:
      images f32[B, H, W, C], sides at least 7 -> {"c1": [B, h, w, 64], "c2": [B, h, w, 128], "c3":
      [B, h, w, 256], "c4": [B, h, w, 728], "c5": [B, h, w, 2048], the last map of each size,
      "pooled": [B, 2048], "logits": [B, num_classes]}. For 299x299 the sides are 147, 74, 37, 19
      and 10: those of c1 are floor((n - 1) / 2) - 2, the others round up. The maps c2 to c4 are
      sums before an activation.

    Raises:
      InputError: the images are smaller than that.
    """

    stages: tuple[Block, ...] = BLOCKS
    width: float = 1.0
    num_classes: int | None = 1000
    dropout: float = 0.5
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = partial(batch_norm, epsilon=1e-3)
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_sides(images, 1, more_than=6)
        init = nn.initializers.glorot_uniform()
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def scaled(channels: int) -> int:
            return max(1, round(channels * self.width))

        def conv(x: Array, channels: int, kernel_size: int, *, name: str, **options: Any) -> Array:
            names = {"name": name, "norm_name": f"{name}_bn"}
            how = {"norm": norm, "kernel_init": init, **dtypes, **options}
            return conv_norm_act(x, scaled(channels), kernel_size, **names, **how)

        def separable(x: Array, channels: int, *, name: str, **options: Any) -> Array:
            depthwise = Conv(
                x.shape[-1],
                (3, 3),
                padding=1,
                feature_group_count=x.shape[-1],
                use_bias=False,
                kernel_init=init,
                name=f"{name}_depthwise",
                **dtypes,
            )
            return conv(depthwise(x), channels, 1, name=f"{name}_pointwise", **options)

        def block(x: Array, *, channels: tuple[int, ...], stride: int, number: int) -> Array:
            y, shortcut, name = x, x, f"block{number}"
            for place, features in enumerate(channels, start=1):
                # The input of the first block is already activated.
                y = y if (number, place) == (2, 1) else self.act(y)
                y = separable(y, features, act=None, name=f"{name}_sepconv{place}")
            if stride > 1:
                y = max_pool(y, 3, stride=stride, padding=1)
            if stride > 1 or y.shape[-1] != x.shape[-1]:
                how = {"stride": stride, "act": None, "name": f"{name}_shortcut"}
                shortcut = conv(x, channels[-1], 1, **how)
            return shortcut + y

        x = images
        for place, (features, stride) in enumerate(zip(STEM, (2, 1), strict=True), start=1):
            how = {"stride": stride, "padding": 0, "act": self.act}
            x = conv(x, features, 3, name=f"block1_conv{place}", **how)
        maps, level, number = {}, 1, 1
        for row in self.stages:
            channels, stride, repeats = Block(*row)  # the caller may give plain tuples
            if stride > 1:
                maps[f"c{level}"] = x
                level += 1
            for _ in range(repeats):
                number += 1
                how = {"channels": channels, "stride": stride, "number": number}
                x = run_block(self, partial(block, **how), x)
                stride = 1
        for place, features in enumerate(HEAD, start=1):
            x = separable(x, features, act=self.act, name=f"block{number + 1}_sepconv{place}")
        maps[f"c{level}"] = x
        x = maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            maps["logits"] = nn.Dense(self.num_classes, kernel_init=init, name="fc", **dtypes)(x)
        return maps


XCEPTIONS = {"xception": Xception}
