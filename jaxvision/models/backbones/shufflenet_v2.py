"""ShuffleNetV2 (Ma, Zhang, Zheng & Sun 2018, "ShuffleNet V2: practical guidelines for efficient CNN
architecture design")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError
from jaxvision.layers import Norm, batch_norm, conv_in_sequence, dtypes_of, norm_of, run_block
from jaxvision.ops import channel_shuffle, global_avg_pool, max_pool


class ShuffleNetV2(nn.Module):
    """The ShuffleNetV2 network.

    Its units compute new values for half of their channels, keep the other half, and mix both. The
    first unit of a stage has a stride, and computes both halves from all channels. Layers are named
    as in torchvision.

    Attributes:
      blocks: units of each stage; the paper's table 5.
      widths: channels of the stem, of each stage, and of the last convolution.
      act: activation after convolutions, except depthwise ones.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 24], of the stem, "c2": [B, H/4, W/4, 24], its
      max pooling, "c3": [B, H/8, W/8, 116], "c4": [B, H/16, W/16, 232], "c5": [B, H/32, W/32, 464],
      of the stages, "pooled": [B, 1024], "logits": [B, num_classes]}, with the channels of 1.0x.
      Sizes round up.

    Raises:
      InputError: the width of a stage is odd, or there is not one width for the stem, for each
        stage and for the last convolution.
    """

    blocks: tuple[int, ...] = (4, 8, 4)
    widths: tuple[int, ...] = (24, 116, 232, 464, 1024)
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
        stem, *widths, head = self.widths
        if len(widths) != len(self.blocks) or any(width % 2 for width in widths):
            raise InputError(
                f"widths is {self.widths}: give one for the stem, an even one for each of the "
                f"{len(self.blocks)} stages, and one for the last convolution"
            )
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        options = {"kernel_init": init, **dtypes_of(self)}
        norm = norm_of(self, train=train)
        conv = partial(conv_in_sequence, norm=norm, act=self.act, **options)

        def depthwise(x: Array, name: str, place: int, *, stride: int):
            channels = x.shape[-1]
            return conv(x, channels, 3, name, place, stride=stride, groups=channels, act=None)

        def unit(x: Array, *, width: int, name: str, stride: int):
            first, second = f"{name}_branch1", f"{name}_branch2"
            if stride == 1:
                kept, x = jnp.split(x, 2, axis=-1)
            else:
                kept = conv(depthwise(x, first, 0, stride=stride), width // 2, 1, first, 2)
            y = depthwise(conv(x, width // 2, 1, second, 0), second, 3, stride=stride)
            y = conv(y, width // 2, 1, second, 5)
            return channel_shuffle(jnp.concatenate([kept, y], axis=-1), 2)

        x = conv(images, stem, 3, "conv1", 0, stride=2)
        maps = {"c1": x, "c2": max_pool(x, 3, stride=2, padding=1)}
        x = maps["c2"]
        for stage, (blocks, width) in enumerate(zip(self.blocks, widths, strict=True), start=2):
            for block in range(blocks):
                how = {"name": f"stage{stage}_{block}", "stride": 2 if block == 0 else 1}
                x = run_block(self, partial(unit, width=width, **how), x)
            maps[f"c{stage + 1}"] = x
        maps["pooled"] = global_avg_pool(conv(x, head, 1, "conv5", 0))
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="fc", **options)(maps["pooled"])
        return maps


SHUFFLENETS_V2 = {
    "shufflenet_v2_x0_5": partial(ShuffleNetV2, widths=(24, 48, 96, 192, 1024)),
    "shufflenet_v2_x1_0": partial(ShuffleNetV2, widths=(24, 116, 232, 464, 1024)),
    "shufflenet_v2_x1_5": partial(ShuffleNetV2, widths=(24, 176, 352, 704, 1024)),
    "shufflenet_v2_x2_0": partial(ShuffleNetV2, widths=(24, 244, 488, 976, 2048)),
}
