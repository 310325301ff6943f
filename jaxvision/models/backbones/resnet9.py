"""ResNet-9 for CIFAR-10, the network of fast entries of the benchmark DAWNBench (Page 2018, "How to
train your ResNet", part 4, "Architecture")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, batch_norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides
from jaxvision.ops import max_pool


class ResNet9(nn.Module):
    """Eight 3x3 convolutions, four of them in two residual branches, and a classifier.

    A residual branch is added after its own activation, and the sum has none.

    Attributes:
      widths: channels of the first convolution and of the three stages.
      scale: by what the classifier's outputs are multiplied.

    Call:
      images f32[B, H, W, C] -> {"c0": [B, H, W, 64], "c1": [B, H/2, W/2, 128],
      "c2": [B, H/4, W/4, 256], "c3": [B, H/8, W/8, 512], "pooled": [B, 512], the maxima of the last
      map, "logits": [B, num_classes]}. Sizes round down; sides must be at least 8.

    Raises:
      InputError: the images are smaller than that.
    """

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    scale: float = 0.125
    num_classes: int | None = 10
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_sides(images, 1, more_than=7)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, channels: int, name: str) -> Array:
            names = {"name": f"{name}_conv", "norm_name": f"{name}_bn"}
            return conv_norm_act(x, channels, 3, norm=norm, act=self.act, **names, **dtypes)

        def stage(x: Array, *, width: int, name: str, residual: bool) -> Array:
            x = max_pool(conv(x, width, name), 2)
            if not residual:
                return x
            y = conv(x, width, f"{name}_residual_res1")
            return x + conv(y, width, f"{name}_residual_res2")

        first, *others = self.widths
        x = run_block(self, partial(conv, channels=first, name="prep"), images)
        maps = {"c0": x}
        for number, width in enumerate(others, start=1):
            how = {"width": width, "name": f"layer{number}", "residual": number != 2}
            x = run_block(self, partial(stage, **how), x)
            maps[f"c{number}"] = x
        maps["pooled"] = x.max(axis=(1, 2))
        if self.num_classes is not None:
            dense = nn.Dense(self.num_classes, use_bias=False, name="linear", **dtypes)
            maps["logits"] = self.scale * dense(maps["pooled"])
        return maps


RESNETS_9 = {"resnet9": ResNet9}
