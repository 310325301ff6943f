"""MaxViT (Tu, Talebi, Zhang, Yang, Milanfar, Bovik & Li 2022, "MaxViT: multi-axis vision
transformer")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError, at_least_float32
from jaxvision.layers import (
    Norm,
    batch_norm,
    conv_norm_act,
    drop_path,
    dtypes_of,
    feed_forward,
    from_windows,
    gelu,
    layer_norm,
    norm_of,
    relative_position_index,
    run_block,
    self_attention,
    squeeze_excite,
    to_windows,
)
from jaxvision.models.sides import check_sides
from jaxvision.ops import avg_pool, global_avg_pool

EXPANSION = 4
"""Inner channels of an inverted residual block, as a multiple of its output channels."""
SQUEEZE = 4
"""Factor by which squeeze-and-excitation reduces the output channels of a block."""


class MaxViT(nn.Module):
    """The MaxViT network.

    A block has an inverted residual, attention within windows, and attention over a sparse grid.
    Names and details are torchvision's: attention is scaled by the channels of all heads together,
    and the average pooling of a shortcut is 3x3.

    Attributes:
      blocks: number of blocks of each stage.
      widths: channels of the stages.
      stem: channels of the two convolutions before them.
      window: side of the windows, and of the grid.
      head_width: channels of each head of the attention.
      dropout: dropout rate after attention and after the dense layers, in training.
      drop_path: rate of stochastic depth of the last block in training; block i of n has
        (i - 1) / (n - 1) of it.
      act: activation of convolutions and dense layers; squeeze-and-excitation has SiLU.
      norm: norm of convolutions, or None; attention has layer norms.

    Call:
      images f32[B, H, W, C], sides multiples of window 2^(n + 1) (224), where n is the number of
      stages -> {"c1": [B, H/2, W/2, 64], of the stem, "c2": [B, H/4, W/4, 64],
      "c3": [B, H/8, W/8, 128], "c4": [B, H/16, W/16, 256], "c5": [B, H/32, W/32, 512],
      "pooled": [B, 512], "logits": [B, num_classes]}.

    Raises:
      InputError: the images have other sizes, or `head_width` does not divide the widths.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    stem: int = 64
    window: int = 7
    head_width: int = 32
    dropout: float = 0.0
    drop_path: float = 0.0
    num_classes: int | None = 1000
    act: Callable[[Array], Array] = gelu
    remat: bool = False
    norm: Norm | None = partial(batch_norm, epsilon=1e-3, momentum=0.99)
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_sides(images, self.window * 2 ** (len(self.blocks) + 1))
        if any(width % self.head_width for width in self.widths):
            raise InputError(
                f"head_width is {self.head_width}, which does not divide all widths {self.widths}"
            )
        normal = nn.initializers.normal(0.02)
        layers = {"kernel_init": normal, **dtypes_of(self)}
        conv = partial(conv_norm_act, act=self.act, **layers)
        norm = norm_of(self, train=train)
        token_norm = partial(layer_norm, train=train, **dtypes_of(self))
        index = relative_position_index(self.window)

        def inverted_residual(x: Array, *, width: int, stride: int, name: str, rate: float):
            inner, depthwise = EXPANSION * width, {"stride": stride, "groups": EXPANSION * width}
            y = x if norm is None else norm(x, name=f"{name}_layers_pre_norm")
            for part, kernel_size, options in (("a", 1, {}), ("b", 3, depthwise)):
                part = f"{name}_layers_conv_{part}"
                names = {"name": f"{part}_0", "norm_name": f"{part}_1", "norm": norm}
                y = conv(y, inner, kernel_size, **names, **options)
            squeeze = {"name": f"{name}_layers_squeeze_excitation", "act": nn.silu}
            y = squeeze_excite(y, width // SQUEEZE, **squeeze, **layers)
            linear = {"norm_name": "", "norm": None, "act": None}
            y = conv(y, width, 1, name=f"{name}_layers_conv_c", **linear)
            if stride > 1:
                x = avg_pool(x, 3, stride=stride, padding=1)
                x = conv(x, width, 1, name=f"{name}_proj_1", **linear)
            return x + drop_path(y, rate, train=train)

        def partition_attention(x: Array, *, grid: bool, name: str, rate: float, table: Array):
            sides, channels = x.shape[1:3], x.shape[-1]
            bias = at_least_float32(table)[index].transpose(2, 0, 1)[None, None]
            names = tuple(f"{name}_attn_layer_1_{part}" for part in ("to_qkv", "merge"))
            options = {"names": names, "scale": channels**-0.5, "bias": bias, **layers}
            x = to_windows(x, self.window, grid=grid)
            y = token_norm(x, name=f"{name}_attn_layer_0")
            y = self_attention(y, channels // self.head_width, **options)
            x = x + drop_path(drop()(y), rate, train=train)
            names = (f"{name}_mlp_layer_1", f"{name}_mlp_layer_3")
            y = token_norm(x, name=f"{name}_mlp_layer_0")
            y = drop()(feed_forward(y, names=names, act=self.act, train=train, **layers))
            x = x + drop_path(y, rate, train=train)
            return from_windows(x, *sides, grid=grid)

        def block(x: Array, *, name: str, rate: float, tables: dict[str, Array], **how: Any):
            x = inverted_residual(x, name=f"{name}_MBconv", rate=rate, **how)
            for part, table in tables.items():
                how = {"grid": part == "grid_attention", "rate": rate, "table": table}
                x = partition_attention(x, name=f"{name}_{part}", **how)
            return x

        drop = partial(nn.Dropout, self.dropout, deterministic=not train)
        x = conv(images, self.stem, 3, stride=2, norm=norm, name="stem_0_0", norm_name="stem_0_1")
        x = conv(x, self.stem, 3, norm=None, act=None, name="stem_1_0", norm_name="")
        maps, done, last = {"c1": x}, 0, max(1, sum(self.blocks) - 1)
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            shape = ((2 * self.window - 1) ** 2, width // self.head_width)
            for number in range(blocks):
                name, tables = f"blocks_{stage}_layers_{number}_layers", {}
                for part in ("window_attention", "grid_attention"):
                    key = f"{name}_{part}_attn_layer_1_relative_position_bias_table"
                    tables[part] = self.param(key, normal, shape, self.param_dtype)
                how = {"name": name, "width": width, "stride": 2 if number == 0 else 1}
                how |= {"tables": tables, "rate": self.drop_path * done / last}
                x = run_block(self, partial(block, **how), x)
                done += 1
            maps[f"c{stage + 2}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            y = token_norm(maps["pooled"], name="classifier_2")
            y = jnp.tanh(nn.Dense(y.shape[-1], name="classifier_3", **layers)(y))
            dense = nn.Dense(self.num_classes, use_bias=False, name="classifier_5", **layers)
            maps["logits"] = dense(y)
        return maps


MAXVITS = {
    "maxvit_t": partial(MaxViT, blocks=(2, 2, 5, 2), widths=(64, 128, 256, 512), drop_path=0.2),
}
