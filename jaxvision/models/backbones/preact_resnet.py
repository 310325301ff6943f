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
"""Channels of a bottleneck block for each of its stage's width."""


class PreactResNet(nn.Module):
    """Residual blocks with norm and activation before each convolution, and nothing on shortcuts.

    So inside a stage each block adds to what all before it have added, and the gradient comes to
    each of them unchanged, beside what goes through the blocks after it. Where a stage begins, norm
    and activation come before the split into branch and shortcut, which is a 1x1 convolution if it
    has a stride or changes the channels (the authors' released networks). A stride is that of a
    block's first convolution, in bottlenecks too.

    The stem is conv1 and bn1, the norm after a stage layer{stage}_bn; in a block bn{i} is before
    conv{i}, and its shortcut is called downsample. Bn1 of a stage's first block is the norm before
    the split.

    Attributes:
      blocks: of each stage; all stages but the first begin with a stride of 2.
      widths: channels of the stages, times 4 with bottlenecks. Zagoruyko & Komodakis widen 16, 32
        and 64 by a factor k.
      bottleneck: whether blocks are a 3x3 convolution between two 1x1; else two 3x3.
      stem: channels of the first convolution.
      large_images: whether this is a 7x7 of stride 2, with a max pooling after it; else a 3x3.
      dropout: share of the inputs of each convolution of a block but the first that is dropped in
        training; where Zagoruyko & Komodakis use it, 0.3 on CIFAR and 0.4 on SVHN.
      num_classes: of the classifier; None builds none.
      act: activation.
      remat: compute blocks a second time in the backward pass, for less memory.
      norm: before each activation; None gives convolutions with a bias.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H, W, 16], the stem's, "c2": [B, H, W, 64],
      "c3": [B, H/2, W/2, 128], "c4": [B, H/4, W/4, 256], the stages', "pooled": [B, 256],
      "logits": [B, num_classes]}, the channels those of the CIFAR networks with bottlenecks; each
      map is one after norm and activation. With `large_images` "c1" has half the size, and those
      after it a quarter of what is said here. Sizes round up. Training takes a key for "dropout",
      unless that is 0.
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
