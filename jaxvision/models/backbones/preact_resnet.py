"""Residual networks of pre-activation blocks (He, Zhang, Ren & Sun 2016, "Identity mappings in deep
residual networks"), and wide ones (Zagoruyko & Komodakis 2016, "Wide residual networks")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, batch_norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.ops import global_avg_pool, max_pool

EXPANSION = 4
"""Output channels of a bottleneck block, as a multiple of the width of its stage."""


class PreactResNet(nn.Module):
    """The pre-activation ResNet and the Wide ResNet.

    Residual blocks have norm and activation before each convolution, and nothing on shortcuts. So
    within a stage each block adds to the sum of all blocks before it, and gradients reach every
    block directly through the shortcuts. At the start of a stage, norm and activation precede the
    split into branch and shortcut, which is a 1x1 convolution if it has a stride or changes the
    channels, as in the networks that the authors released. The stride is in the first convolution
    of a block, also in bottlenecks.

    The stem is conv1 and bn1, and the norm after a stage is layer{stage}_bn. In a block bn{i}
    precedes conv{i}, and the shortcut is named downsample. In the first block of a stage, bn1
    precedes the split.

    Attributes:
      blocks: number of blocks of each stage; all stages except the first start with stride 2.
      widths: channels of the stages, times 4 with bottlenecks. Zagoruyko & Komodakis multiply 16,
        32 and 64 by a factor k.
      bottleneck: whether blocks have a 3x3 convolution between two 1x1 ones, instead of two 3x3.
      stem: channels of the first convolution.
      large_images: whether the first convolution is 7x7 with stride 2 and a max pooling after it,
        instead of 3x3.
      dropout: dropout rate of the inputs of each convolution of a block except the first, in
        training. Zagoruyko & Komodakis use 0.3 on CIFAR and 0.4 on SVHN.
      norm: before each activation; None gives convolutions with a bias.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H, W, 16], of the stem, "c2": [B, H, W, 64],
      "c3": [B, H/2, W/2, 128], "c4": [B, H/4, W/4, 256], of the stages, "pooled": [B, 256],
      "logits": [B, num_classes]}, with the channels of the CIFAR networks with bottlenecks. Maps
      are taken after norm and activation. With `large_images` the sides of "c1" are half of these,
      and those of the other maps a quarter. Sizes round up.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...] = (16, 32, 64)
    bottleneck: bool = False
    stem: int = 16
    large_images: bool = False
    dropout: float = 0.0
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
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        alone = {"norm": None, "norm_name": "", "act": None, "use_bias": norm is None}
        conv = partial(conv_norm_act, **alone, **dtypes)

        def norm_act(x: Array, *, name: str):
            return self.act(x if norm is None else norm(x, name=name))

        def residual(x: Array, *, width: int, name: str, stride: int, activated: bool):
            layers = [(width, 3), (width, 3)]
            if self.bottleneck:
                layers = [(width, 1), (width, 3), (EXPANSION * width, 1)]
            y = x if activated else norm_act(x, name=f"{name}_bn1")
            (features, kernel_size), *others = layers
            y = conv(y, features, kernel_size, stride=stride, name=f"{name}_conv1")
            for number, (features, kernel_size) in enumerate(others, start=2):
                y = norm_act(y, name=f"{name}_bn{number}")
                y = nn.Dropout(self.dropout, deterministic=not train)(y)
                y = conv(y, features, kernel_size, name=f"{name}_conv{number}")
            if stride > 1 or x.shape[-1] != features:
                x = conv(x, features, 1, stride=stride, name=f"{name}_downsample")
            return x + y

        kernel_size, stride = (7, 2) if self.large_images else (3, 1)
        x = conv(images, self.stem, kernel_size, stride=stride, name="conv1")
        x = norm_act(x, name="bn1")
        maps = {"c1": x}
        if self.large_images:
            x = max_pool(x, 3, stride=2, padding=1)
        for stage, (blocks, width) in enumerate(
            zip(self.blocks, self.widths, strict=True), start=1
        ):
            for block in range(blocks):
                first = block == 0
                how = {"stride": 2 if first and stage > 1 else 1, "activated": first}
                how["name"] = f"layer{stage}_{block}"
                x = run_block(self, partial(residual, width=width, **how), x)
            x = norm_act(x, name=f"layer{stage}_bn")
            maps[f"c{stage + 1}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="fc", **dtypes)(maps["pooled"])
        return maps


PREACT_RESNETS = {
    "preact_resnet110": partial(PreactResNet, blocks=(18, 18, 18)),
    "preact_resnet164": partial(PreactResNet, blocks=(18, 18, 18), bottleneck=True),
    "preact_resnet200": partial(
        PreactResNet,
        blocks=(3, 24, 36, 3),
        widths=(64, 128, 256, 512),
        bottleneck=True,
        stem=64,
        large_images=True,
        num_classes=1000,
    ),
    "preact_resnet1001": partial(PreactResNet, blocks=(111, 111, 111), bottleneck=True),
    "wrn_16_8": partial(PreactResNet, blocks=(2, 2, 2), widths=(128, 256, 512)),
    "wrn_28_10": partial(PreactResNet, blocks=(4, 4, 4), widths=(160, 320, 640)),
}
