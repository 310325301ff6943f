"""ConvNeXt (Liu, Mao, Wu, Feichtenhofer, Darrell & Xie 2022, "A ConvNet for the 2020s")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import (
    Norm,
    conv_norm_act,
    drop_path,
    dtypes_of,
    feed_forward,
    gelu,
    layer_norm,
    norm_of,
    run_block,
)
from jaxvision.models.sides import check_sides
from jaxvision.ops import global_avg_pool


class ConvNeXt(nn.Module):
    """The ConvNeXt network: blocks of a 7x7 depthwise convolution, a norm and two dense layers.

    Layers are named as in torchvision: features_0 is the stem, and after it stages alternate with
    the convolutions between them.

    Attributes:
      blocks: number of blocks of each stage.
      widths: channels of the stages.
      layer_scale: initial value of the trainable scale of each channel of a block's branch.
      drop_path: rate of stochastic depth of the last block in training; block i of n has
        (i - 1) / (n - 1) of it.
      norm: in the stem, between stages, in blocks and in the classifier; None builds no norms.

    Call:
      images f32[B, H, W, C], sides at least 2^(n + 1) (32), where n is the number of stages ->
      {"c2": [B, H/4, W/4, 96], "c3": [B, H/8, W/8, 192], "c4": [B, H/16, W/16, 384],
      "c5": [B, H/32, W/32, 768], the outputs of the stages, "pooled": [B, 768], the mean of the
      last, "logits": [B, num_classes]}. Sizes round down.

    Raises:
      InputError: the images are smaller than that.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    layer_scale: float = 1e-6
    drop_path: float = 0.0
    num_classes: int | None = 1000
    act: Callable[[Array], Array] = gelu
    remat: bool = False
    norm: Norm | None = partial(layer_norm, epsilon=1e-6)
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_sides(images, 1, more_than=2 ** (len(self.blocks) + 1) - 1)
        norm = norm_of(self, train=train) or (lambda x, *, name: x)
        # torch truncates this normal distribution at a hundred deviations, which has no effect.
        layers = {"kernel_init": nn.initializers.normal(0.02), **dtypes_of(self)}
        conv = partial(conv_norm_act, act=None, use_bias=True, **layers)

        def block(x: Array, *, name: str, scale: Array, drop: float):
            names = {"name": f"{name}_block_0", "norm_name": f"{name}_block_2"}
            y = conv(x, x.shape[-1], 7, groups=x.shape[-1], norm=norm, **names)
            names = (f"{name}_block_3", f"{name}_block_5")
            y = feed_forward(y, names=names, act=self.act, train=train, **layers)
            y = y * scale.astype(y.dtype).reshape(1, 1, 1, -1)
            return x + drop_path(y, drop, train=train)

        names = {"name": "features_0_0", "norm_name": "features_0_1"}
        x = conv(images, self.widths[0], 4, stride=4, padding=0, norm=norm, **names)
        maps, done, last = {}, 0, max(1, sum(self.blocks) - 1)
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            if stage > 0:
                x = norm(x, name=f"features_{2 * stage}_0")
                names = {"name": f"features_{2 * stage}_1", "norm_name": ""}
                x = conv(x, width, 2, stride=2, padding=0, norm=None, **names)
            for number in range(blocks):
                name = f"features_{2 * stage + 1}_{number}"
                init, shape = nn.initializers.constant(self.layer_scale), (width, 1, 1)
                scale = self.param(f"{name}_layer_scale", init, shape, self.param_dtype)
                how = {"name": name, "scale": scale, "drop": self.drop_path * done / last}
                x = run_block(self, partial(block, **how), x)
                done += 1
            maps[f"c{stage + 2}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            y = norm(maps["pooled"], name="classifier_0")
            maps["logits"] = nn.Dense(self.num_classes, name="classifier_2", **layers)(y)
        return maps


CONVNEXTS = {
    "convnext_tiny": partial(
        ConvNeXt, blocks=(3, 3, 9, 3), widths=(96, 192, 384, 768), drop_path=0.1
    ),
    "convnext_small": partial(
        ConvNeXt, blocks=(3, 3, 27, 3), widths=(96, 192, 384, 768), drop_path=0.4
    ),
    "convnext_base": partial(
        ConvNeXt, blocks=(3, 3, 27, 3), widths=(128, 256, 512, 1024), drop_path=0.5
    ),
    "convnext_large": partial(
        ConvNeXt, blocks=(3, 3, 27, 3), widths=(192, 384, 768, 1536), drop_path=0.5
    ),
}
