"""CSPDarknet-53 and its tiny relative, the backbones of YOLOv4 (Bochkovskiy et al. 2020, "YOLOv4";
cross stage partial networks: Wang et al. 2020, "CSPNet")."""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, batch_norm, run_block
from jaxvision.models.backbones.darknet import NumberedConvs, dense
from jaxvision.ops import global_avg_pool, max_pool


class CSPDarknet53(nn.Module):
    """The CSPDarknet-53 network: Darknet-53 whose blocks see one of two branches of a stage.

    A 3x3 convolution of stride 2 precedes each stage. A 1x1 convolution makes each of two branches;
    the second one goes through the residual blocks and one more 1x1 convolution. Both are
    concatenated, the one with the blocks first, and a 1x1 convolution follows. The activation is
    Mish. Convolutions are named conv1, conv2, ... and their norms bn1, bn2, ... in order.

    Attributes:
      blocks: number of blocks of each of the five stages.
      widths: channels of the first convolution and of each stage. A branch has half of them, but in
        the first stage all.
      plain_first: whether the first stage has no second branch, as in Scaled-YOLOv4.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 64], "c2": [B, H/4, W/4, 128],
      "c3": [B, H/8, W/8, 256], "c4": [B, H/16, W/16, 512], "c5": [B, H/32, W/32, 1024],
      "pooled": [B, 1024], "logits": [B, num_classes]}, sizes rounded up.
    """

    blocks: tuple[int, ...] = (1, 2, 8, 8, 4)
    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    plain_first: bool = False
    num_classes: int | None = 1000
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        conv = NumberedConvs(self, train=train, act=jax.nn.mish)

        def block(x: Array, *, inner: int, width: int) -> Array:
            return x + conv(conv(x, inner, 1), width, 3)

        x = conv(images, self.widths[0], 3)
        maps = {}
        stages = zip(self.blocks, self.widths[1:], strict=True)
        for level, (blocks, width) in enumerate(stages, start=1):
            x = conv(x, width, 3, stride=2)
            branch, beside = width if level == 1 else width // 2, None
            if level > 1 or not self.plain_first:
                beside = conv(x, branch, 1)
                x = conv(x, branch, 1)
            for _ in range(blocks):
                x = run_block(self, partial(block, inner=width // 2, width=branch), x)
            if beside is not None:
                x = jnp.concatenate([conv(x, branch, 1), beside], axis=-1)
                x = conv(x, width, 1)
            maps[f"c{level}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            maps["logits"] = dense(self, self.num_classes, "fc")(maps["pooled"])
        return maps


class TinyCSPDarknet(nn.Module):
    """The backbone of YOLOv4-tiny.

    Two 3x3 convolutions of stride 2, stages that each end in a 2x2 max pooling, and a 3x3
    convolution. In a stage, the second half of the channels of a 3x3 convolution goes through two
    more; both of their results are concatenated, the later one first, and a 1x1 convolution gives
    the map of the stage. It is concatenated with the first convolution before the pooling.
    Convolutions are named conv1, conv2, ... and their norms bn1, bn2, ... in order.

    Attributes:
      widths: channels of the first convolution, of each of S stages and of the last convolution.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 32], "c2": [B, H/4, W/4, 64], "c3": [B, H/8,
      W/8, 128], "c4": [B, H/16, W/16, 256], "c5": [B, H/32, W/32, 512], "pooled": [B, 512],
      "logits": [B, num_classes]}. Give sides that are multiples of 2^(S + 2).
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    num_classes: int | None = 1000
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        conv = NumberedConvs(self, train=train)

        def stage(x: Array, *, width: int) -> tuple[Array, Array]:
            whole = conv(x, width, 3)
            earlier = conv(whole[..., width // 2 :], width // 2, 3)
            later = conv(earlier, width // 2, 3)
            return whole, conv(jnp.concatenate([later, earlier], axis=-1), width, 1)

        first, *stages, last = self.widths
        maps = {"c1": conv(images, first, 3, stride=2)}
        x = conv(maps["c1"], stages[0], 3, stride=2)
        for level, width in enumerate(stages, start=2):
            whole, x = run_block(self, partial(stage, width=width), x)
            maps[f"c{level}"] = x
            x = max_pool(jnp.concatenate([whole, x], axis=-1), 2)
        x = conv(x, last, 3)
        maps[f"c{len(stages) + 2}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            maps["logits"] = dense(self, self.num_classes, "fc")(maps["pooled"])
        return maps


CSP_DARKNETS = {"cspdarknet53": CSPDarknet53}
TINY_CSP_DARKNETS = {"tiny_cspdarknet": TinyCSPDarknet}
"""Backbones that are no published classifiers."""
