"""ResNet and its plain counterpart without shortcuts (He, Zhang, Ren & Sun 2016, "Deep residual
learning for image recognition", section 4.1), ResNeXt (Xie, Girshick, Dollár, Tu & He 2017,
"Aggregated residual transformations for deep neural networks"), Wide ResNet (Zagoruyko & Komodakis
2016, "Wide residual networks") and SE-ResNet (Hu, Shen & Sun 2018, "Squeeze-and-excitation
networks")."""

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
    drop_path,
    dtypes_of,
    norm_of,
    run_block,
    squeeze_excite,
)
from jaxvision.ops import global_avg_pool, max_pool

EXPANSION = 4
"""Output channels of a bottleneck block, as a multiple of the width of its stage."""


class ResNet(nn.Module):
    """The ResNet network of He et al. 2016 and its variants.

    Its residual blocks have two 3x3 convolutions, or, as bottlenecks, a 3x3 convolution between two
    1x1 ones. Names and details are torchvision's: the stride of a bottleneck is in its 3x3
    convolution (in the paper it is in the first 1x1, see `stride_in_1x1`), and a shortcut is a 1x1
    convolution only if a stage starts with a stride or the channels change (the paper's option B).
    The layers of squeeze-and-excitation, which torchvision's ResNets lack, are
    layer{stage}_{block}_se_fc1 and layer{stage}_{block}_se_fc2.

    Attributes:
      blocks: number of blocks of each of the four stages.
      bottleneck: whether blocks are bottlenecks.
      groups: groups of the 3x3 convolutions of bottlenecks.
      width_per_group: channels of each of these groups in a stage whose width is 64; in other
        stages it scales with the width.
      widths: channels of the stages, times 4 with bottlenecks; the first is also that of the stem.
      stride_in_1x1: whether the stride of a bottleneck is in its first 1x1 convolution, as in the
        paper and in weights from Caffe.
      shortcuts: whether blocks have shortcuts; without, this is the paper's plain network.
      squeeze: reduction ratio r of squeeze-and-excitation at the end of each block: the channels of
        the block divided by those between its two layers. None builds none.
      replace_stride_with_dilation: for each of the last three stages, whether dilation replaces its
        stride, so that it computes the same on a finer grid.
      parts: the first and the last part that are built: 0 is the stem, 1 to 4 are the stages.
        Without the stem the network takes the map before its first stage in place of images. So a
        detector computes stage 4 for each region.
      zero_init_residual: whether to initialise the scale of the last norm of each block with zero,
        so that a block initially is its shortcut.
      drop_path: rate of stochastic depth of the last block in training; block i of n has i / n of
        it.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 64], of the stem, "c2": [B, H/4, W/4, 256],
      "c3": [B, H/8, W/8, 512], "c4": [B, H/16, W/16, 1024], "c5": [B, H/32, W/32, 2048],
      "pooled": [B, 2048], "logits": [B, num_classes]}. Without bottlenecks, c2 to c5 and pooled
      have a quarter of these channels. Sizes round up. A stride that dilation replaces does not
      change the size.

    Raises:
      InputError: `groups`, `width_per_group` or `stride_in_1x1` is set without bottlenecks;
        `zero_init_residual` is set without a norm; that or `drop_path` is set without shortcuts; or
        a block has fewer channels than `squeeze`.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool = True
    groups: int = 1
    width_per_group: int = 64
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    stride_in_1x1: bool = False
    shortcuts: bool = True
    squeeze: int | None = None
    replace_stride_with_dilation: tuple[bool, bool, bool] = (False, False, False)
    parts: tuple[int, int] = (0, 4)
    zero_init_residual: bool = False
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
        of_bottlenecks = (self.groups, self.width_per_group, self.stride_in_1x1)
        if not self.bottleneck and of_bottlenecks != (1, 64, False):
            raise InputError(
                "groups, width_per_group and stride_in_1x1 need bottlenecks: set bottleneck=True"
            )
        if self.zero_init_residual and self.norm is None:
            raise InputError("zero_init_residual needs norms: give a norm")
        if not self.shortcuts and (self.zero_init_residual or self.drop_path):
            raise InputError("zero_init_residual and drop_path need shortcuts: set shortcuts=True")
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        last_norm = norm
        if self.zero_init_residual:
            last_norm = partial(norm, scale_init=nn.initializers.zeros)
        conv = partial(conv_norm_act, act=self.act, **dtypes)

        def residual(
            x: Array, *, width: int, name: str, stride: int, before: int, dilation: int, drop: float
        ):
            """Applies a block.

            Its convolution with the stride is dilated by `before`, those after it by `dilation`. So
            if dilation replaces a stride, each uses the same pixels as it would with the stride.
            """
            strided, dilated = {"stride": stride, "dilation": before}, {"dilation": dilation}
            layers = [(width, 3, strided), (width, 3, dilated)]
            if self.bottleneck:
                inner = width * self.width_per_group // 64 * self.groups
                first, second = {}, strided
                if self.stride_in_1x1:
                    first, second = {"stride": stride}, dilated
                second = {**second, "groups": self.groups}
                layers = [(inner, 1, first), (inner, 3, second), (EXPANSION * width, 1, {})]
            y, (features, _, _) = x, layers[-1]
            for number, (channels, kernel_size, options) in enumerate(layers, start=1):
                names = {"name": f"{name}_conv{number}", "norm_name": f"{name}_bn{number}"}
                if number == len(layers):
                    options = {**options, "act": None, "norm": last_norm}
                y = conv(y, channels, kernel_size, **{"norm": norm, **names, **options})
            if self.squeeze is not None:
                if not 0 < self.squeeze <= features:
                    raise InputError(
                        f"squeeze is {self.squeeze}: give at least 1 and at most {features}, the "
                        "channels of a block"
                    )
                how = {"name": f"{name}_se", "act": self.act, **dtypes}
                y = squeeze_excite(y, features // self.squeeze, **how)
            if not self.shortcuts:
                return self.act(y)
            if stride > 1 or before < dilation or x.shape[-1] != features:
                names = {"name": f"{name}_downsample_0", "norm_name": f"{name}_downsample_1"}
                x = conv(x, features, 1, stride=stride, norm=norm, act=None, **names)
            return add_act(x, drop_path(y, drop, train=train), self.act)

        first, last = self.parts
        if not 0 <= first <= last <= len(self.blocks):
            raise InputError(f"parts is {self.parts}: give the first and the last part, 0 to 4")
        x, maps, dilation, done = images, {}, 1, 0
        if first == 0:
            x = conv(x, self.widths[0], 7, stride=2, norm=norm, name="conv1", norm_name="bn1")
            maps["c1"] = x
        if first == 0 < last:
            x = max_pool(x, 3, stride=2, padding=1)
        replaced = (False, *self.replace_stride_with_dilation)
        stages = zip(self.blocks, self.widths, replaced, strict=True)
        for stage, (blocks, width, dilate) in enumerate(stages, start=1):
            stride, before = 1 if stage == 1 else 2, dilation
            if dilate:
                stride, dilation = 1, dilation * stride
            if not first <= stage <= last:
                done += blocks
                continue
            for block in range(blocks):
                how = {"stride": stride, "before": before, "dilation": dilation}
                done += 1
                how["drop"] = self.drop_path * done / sum(self.blocks)
                how["name"] = f"layer{stage}_{block}"
                x = run_block(self, partial(residual, width=width, **how), x)
                stride, before = 1, dilation
            maps[f"c{stage + 1}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="fc", **dtypes)(maps["pooled"])
        return maps


RESNETS = {
    "plain18": partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False, shortcuts=False),
    "plain34": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=False, shortcuts=False),
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet34": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=False),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3)),
    "resnet101": partial(ResNet, blocks=(3, 4, 23, 3)),
    "resnet152": partial(ResNet, blocks=(3, 8, 36, 3)),
    "resnext50_32x4d": partial(ResNet, blocks=(3, 4, 6, 3), groups=32, width_per_group=4),
    "resnext101_32x8d": partial(ResNet, blocks=(3, 4, 23, 3), groups=32, width_per_group=8),
    "resnext101_64x4d": partial(ResNet, blocks=(3, 4, 23, 3), groups=64, width_per_group=4),
    "se_resnet50": partial(ResNet, blocks=(3, 4, 6, 3), squeeze=16),
    "se_resnet101": partial(ResNet, blocks=(3, 4, 23, 3), squeeze=16),
    "se_resnet152": partial(ResNet, blocks=(3, 8, 36, 3), squeeze=16),
    "se_resnext50_32x4d": partial(
        ResNet, blocks=(3, 4, 6, 3), groups=32, width_per_group=4, squeeze=16
    ),
    "se_resnext101_32x4d": partial(
        ResNet, blocks=(3, 4, 23, 3), groups=32, width_per_group=4, squeeze=16
    ),
    "wide_resnet50_2": partial(ResNet, blocks=(3, 4, 6, 3), width_per_group=128),
    "wide_resnet101_2": partial(ResNet, blocks=(3, 4, 23, 3), width_per_group=128),
}
