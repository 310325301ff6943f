"""Residual and plain networks for CIFAR (He, Zhang, Ren & Sun 2016, "Deep residual learning for
image recognition", section 4.2)."""

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
)
from jaxvision.ops import global_avg_pool


def option_a_shortcut(x: Array, features: int, stride: int) -> Array:
    """Computes the paper's shortcut without parameters (option A).

    It subsamples and pads channels with zeros, half of them before and half after, as widely used
    weights expect.

    Args:
      x: [B, H, W, C].
      features: output channels, at least C.
      stride: stride of the subsampling.
    Returns:
      [B, ceil(H / stride), ceil(W / stride), features].
    """
    x = x[:, ::stride, ::stride]
    missing = features - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class ResNetCifar(nn.Module):
    """The ResNet for CIFAR with 6n + 2 layers: three stages of n basic blocks.

    The strides of the stages are 1, 2 and 2.

    Attributes:
      blocks: n, the number of blocks of a stage; 3 gives ResNet-20.
      widths: channels of the three stages.
      shortcuts: whether blocks have shortcuts; without, this is the paper's plain network.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H, W, 16], "c2": [B, H, W, 16],
      "c3": [B, H/2, W/2, 32], "c4": [B, H/4, W/4, 64], "pooled": [B, 64],
      "logits": [B, num_classes]}. Maps are numbered as in the paper's table 1 (conv1, conv2_x,
      ...). Sizes round up.
    """

    blocks: int
    widths: tuple[int, int, int] = (16, 32, 64)
    shortcuts: bool = True
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
        conv = partial(conv_norm_act, kernel_size=3, norm=norm, **dtypes)

        def block(x: Array, *, width: int, name: str, stride: int):
            first, second = (
                {"name": f"{name}_conv{number}", "norm_name": f"{name}_bn{number}"}
                for number in (1, 2)
            )
            y = conv(x, width, stride=stride, act=self.act, **first)
            y = conv(y, width, act=None, **second)
            if not self.shortcuts:
                return self.act(y)
            return add_act(y, option_a_shortcut(x, width, stride), self.act)

        x = conv(images, self.widths[0], act=self.act, name="conv1", norm_name="bn1")
        maps = {"c1": x}
        for stage, width in enumerate(self.widths, start=1):
            for number in range(self.blocks):
                stride = 2 if stage > 1 and number == 0 else 1
                how = {"name": f"layer{stage}_{number}", "stride": stride}
                x = run_block(self, partial(block, width=width, **how), x)
            maps[f"c{stage + 1}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="fc", **dtypes)(maps["pooled"])
        return maps


RESNETS_CIFAR = {
    "plain20": partial(ResNetCifar, blocks=3, shortcuts=False),
    "plain32": partial(ResNetCifar, blocks=5, shortcuts=False),
    "plain44": partial(ResNetCifar, blocks=7, shortcuts=False),
    "plain56": partial(ResNetCifar, blocks=9, shortcuts=False),
    "resnet20": partial(ResNetCifar, blocks=3),
    "resnet32": partial(ResNetCifar, blocks=5),
    "resnet44": partial(ResNetCifar, blocks=7),
    "resnet56": partial(ResNetCifar, blocks=9),
    "resnet110": partial(ResNetCifar, blocks=18),
    "resnet1202": partial(ResNetCifar, blocks=200),
}
