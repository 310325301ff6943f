"""Residual networks, and the plain ones beside them (He, Zhang, Ren & Sun 2016, "Deep residual
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
"""Channels of a bottleneck block for each of its stage's width."""


class ResNet(nn.Module):
    """Residual blocks of two 3x3 convolutions, or of a 3x3 between two 1x1: the bottleneck.

    As in torchvision, whose names the layers have: a bottleneck's stride is that of its 3x3
    convolution (the paper's: `stride_in_1x1`), and a shortcut is a 1x1 convolution only where a
    stage begins with a stride, or the channels change (the paper's option B). Layers of
    squeeze-and-excitation, which torchvision's ResNets lack, are layer{stage}_{block}_se_fc1 and
    _fc2.

    Attributes:
      blocks: of each of the four stages.
      bottleneck: whether blocks have one.
      groups: of the 3x3 convolutions of bottlenecks.
      width_per_group: channels of each of these groups in the first stage, where `widths` is 64;
        in others in proportion.
      widths: channels of the stages, times 4 with bottlenecks; the first is the stem's too.
      stride_in_1x1: whether the first 1x1 convolution of a bottleneck has its stride, as in the
        paper and in weights from Caffe.
      shortcuts: whether blocks have them; without, this is the paper's plain network.
      squeeze: channels of a block for each one between the two layers of a squeeze-and-excitation
        at its end, the SE paper's reduction ratio r; None builds none.
      replace_stride_with_dilation: for each of the last three stages, whether its convolutions are
        dilated instead, so that it computes the same on a finer grid.
      zero_init_residual: let the last norm of each block begin with a scale of zero, so that blocks
        begin as their shortcuts.
      drop_path: share of the images for which the last block is its shortcut in training; for those
        before it in proportion to their place.
      num_classes: of the classifier; None builds none.
      act: activation.
      remat: compute blocks a second time in the backward pass, for less memory.
      norm: after each convolution; None gives convolutions with a bias.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 64], the stem's, "c2": [B, H/4, W/4, 256],
      "c3": [B, H/8, W/8, 512], "c4": [B, H/16, W/16, 1024], "c5": [B, H/32, W/32, 2048],
      "pooled": [B, 2048], "logits": [B, num_classes]}; a quarter of the channels from c2 on without
      bottlenecks. Sizes round up; after a stride that is replaced they are those before. Training
      takes a key for "dropout", unless `drop_path` is 0.

    Raises:
      InputError: groups, another width of them, or `stride_in_1x1` without bottlenecks;
        `zero_init_residual` without a norm; that or `drop_path` without shortcuts; fewer channels
        than `squeeze`.
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
                "groups, width_per_group and stride_in_1x1 are of bottlenecks: set bottleneck=True"
            )
        if self.zero_init_residual and self.norm is None:
            raise InputError("zero_init_residual is of norms: give a norm")
        if not self.shortcuts and (self.zero_init_residual or self.drop_path):
            raise InputError(
                "zero_init_residual and drop_path are of shortcuts: set shortcuts=True"
            )
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        last_norm = norm
        if self.zero_init_residual:
            last_norm = partial(norm, scale_init=nn.initializers.zeros)
        conv = partial(conv_norm_act, act=self.act, **dtypes)

        def residual(
            x: Array, *, width: int, name: str, stride: int, before: int, dilation: int, drop: float
        ):
            """A block: its strided convolution is dilated by `before`, those after by `dilation`.

            Where dilation replaces a stride, each then meets the pixels that it would have met.
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
                    raise InputError(f"squeeze is {self.squeeze}: a block has {features} channels")
                how = {"name": f"{name}_se", "act": self.act, **dtypes}
                y = squeeze_excite(y, features // self.squeeze, **how)
            if not self.shortcuts:
                return self.act(y)
            if stride > 1 or before < dilation or x.shape[-1] != features:
                names = {"name": f"{name}_downsample_0", "norm_name": f"{name}_downsample_1"}
                x = conv(x, features, 1, stride=stride, norm=norm, act=None, **names)
            return self.act(x + drop_path(y, drop, train=train))

        x = conv(images, self.widths[0], 7, stride=2, norm=norm, name="conv1", norm_name="bn1")
        maps, dilation, done = {"c1": x}, 1, 0
        x = max_pool(x, 3, stride=2, padding=1)
        replaced = (False, *self.replace_stride_with_dilation)
        stages = zip(self.blocks, self.widths, replaced, strict=True)
        for stage, (blocks, width, dilate) in enumerate(stages, start=1):
            stride, before = 1 if stage == 1 else 2, dilation
            if dilate:
                stride, dilation = 1, dilation * stride
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
