"""Swin Transformer (Liu, Lin, Cao, Hu, Wei, Zhang, Lin & Guo 2021, "Swin Transformer: hierarchical
vision transformer using shifted windows") and its second version (Liu et al. 2022, "Swin
Transformer V2: scaling up capacity and resolution")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import InputError, at_least_float32, check_range
from jaxvision.layers import (
    Norm,
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
    to_windows,
)
from jaxvision.models.sides import check_sides
from jaxvision.ops import global_avg_pool

PATCH = 4
"""Side of the patches that the first layer embeds."""
HIDDEN = 512
"""Channels of the small network that computes position biases in version 2."""


def shifted_regions(height: int, width: int, window: int, shifts: tuple[int, int]) -> np.ndarray:
    """Computes the attention bias that separates cells that were not neighbours before the shift.

    The cyclic shift of the map puts cells of opposite borders into one window.

    Args:
      height: height of the map.
      width: width of the map.
      window: side of the windows, which divides both.
      shifts: number of cells by which the map was shifted up and left.
    Returns:
      f32[windows, window^2, window^2]: 0 for two cells of the same region before the shift, -100
      for others.
    Source: Liu et al. 2021, section 3.2, figure 4; -100 is from the implementation of the authors.
    """
    regions = []
    for side, shift in zip((height, width), shifts, strict=True):
        bounds = [side - window, side - shift] if shift else []
        regions.append(np.searchsorted(bounds, np.arange(side), side="right"))
    labels = 3 * regions[0][:, None] + regions[1][None]
    labels = to_windows(labels[None, :, :, None], window)[0, :, :, 0]
    return np.where(labels[:, :, None] == labels[:, None], 0, -100).astype(np.float32)


def log_offsets(window: int) -> np.ndarray:
    """Computes all offsets between the cells of a window, scaled to -8..8, on a log scale.

    Args:
      window: side of the window.
    Returns:
      f32[(2 window - 1)^2, 2], row by row: (vertical, horizontal), each from -log2(9) / 3 to
      log2(9) / 3.
    Source: Liu et al. 2022, equation 4.
    """
    linear = 8 * np.arange(1 - window, window) / (window - 1)
    offsets = np.sign(linear) * np.log2(1 + np.abs(linear)) / np.log2(8)
    pairs = np.meshgrid(offsets, offsets, indexing="ij")
    return np.stack(pairs, axis=-1).reshape(-1, 2).astype(np.float32)


class SwinTransformer(nn.Module):
    """The Swin Transformer, with attention within windows.

    Every second block shifts the windows by half their side. As in torchvision, maps are padded
    with zeros, at the bottom and on the right, to whole windows in each block and to even sides
    between stages. Layers have the names of torchvision: features_0 embeds patches, and after it
    stages alternate with the layers between them.

    Version 2 has the norms after attention and dense layers instead of before, cosine attention,
    and position biases that a small network computes from the offset.

    Attributes:
      blocks: number of blocks of each stage.
      width: channels of the first stage; they double with each stage.
      window: side of the windows.
      head_width: channels of each head of the attention.
      version: 1 or 2.
      dropout: dropout rate after attention and after each dense layer of the blocks, in training.
      drop_path: rate of stochastic depth of the last block in training; block i of n has
        (i - 1) / (n - 1) of it.
      norm: in blocks, between stages, after the first layer and after the last stage; None builds
        no norms.

    Call:
      images f32[B, H, W, C], sides at least 4 -> {"c2": [B, H/4, W/4, width],
      "c3": [B, H/8, W/8, 2 width], "c4": [B, H/16, W/16, 4 width], "c5": [B, H/32, W/32, 8 width],
      the outputs of the stages, "pooled": [B, 8 width], the mean of the last after a norm,
      "logits": [B, num_classes]}. H/4 rounds down, later sizes up.

    Raises:
      InputError: the images are smaller than that, the version is neither 1 nor 2, windows are
        smaller than 2, or `head_width` does not divide the width.
    """

    blocks: tuple[int, ...]
    width: int
    window: int = 7
    head_width: int = 32
    version: int = 1
    dropout: float = 0.0
    drop_path: float = 0.0
    num_classes: int | None = 1000
    act: Callable[[Array], Array] = gelu
    remat: bool = False
    norm: Norm | None = layer_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_sides(images, 1, more_than=PATCH - 1)
        check_range("window", self.window, least=2)
        if self.version not in (1, 2):
            raise InputError(f"version is {self.version}: give 1 or 2")
        if self.width % self.head_width:
            raise InputError(
                f"head_width is {self.head_width}, which does not divide the width {self.width}"
            )
        norm = norm_of(self, train=train) or (lambda x, *, name: x)
        # torch truncates this normal distribution at a hundred deviations, which has no effect.
        normal = nn.initializers.normal(0.02)
        layers = {"kernel_init": normal, **dtypes_of(self)}
        second, window = self.version == 2, self.window

        def position_bias(name: str, heads: int) -> Array:
            """Returns f32[1, 1, heads, window^2, window^2]."""
            options = {"kernel_init": normal, "param_dtype": self.param_dtype}
            if second:
                hidden = nn.relu(nn.Dense(HIDDEN, name=f"{name}_cpb_mlp_0", **options)(offsets))
                dense = nn.Dense(heads, use_bias=False, name=f"{name}_cpb_mlp_2", **options)
                table = 16 * nn.sigmoid(dense(hidden))
            else:
                name, shape = f"{name}_relative_position_bias_table", (len(offsets), heads)
                table = self.param(name, normal, shape, self.param_dtype)
            return at_least_float32(table)[index].transpose(2, 0, 1)[None, None]

        def window_attention(x: Array, *, name: str, shift: int, bias: Array, scale: Array | None):
            _, height, width, _ = x.shape
            x = jnp.pad(x, ((0, 0), (0, -height % window), (0, -width % window), (0, 0)))
            sides = x.shape[1:3]
            shifts = tuple(shift if side > window else 0 for side in sides)
            if any(shifts):
                x = jnp.roll(x, [-shift for shift in shifts], axis=(1, 2))
                bias = bias + shifted_regions(*sides, window, shifts)[None, :, None]
            options = {"bias": bias, "scale": scale, "cosine": second, **layers}
            heads, names = x.shape[-1] // self.head_width, (f"{name}_qkv", f"{name}_proj")
            x = self_attention(to_windows(x, window), heads, names=names, **options)
            x = from_windows(x, *sides)
            if any(shifts):
                x = jnp.roll(x, shifts, axis=(1, 2))
            return nn.Dropout(self.dropout, deterministic=not train)(x[:, :height, :width])

        def block(x: Array, *, name: str, rate: float, **how: Any):
            mlp = {"names": (f"{name}_mlp_0", f"{name}_mlp_3"), "act": self.act, **layers}
            branches = {
                "norm1": partial(window_attention, name=f"{name}_attn", **how),
                "norm2": partial(feed_forward, dropout=self.dropout, train=train, **mlp),
            }
            for norm_name, branch in branches.items():
                normed = partial(norm, name=f"{name}_{norm_name}")
                y = normed(branch(x)) if second else branch(normed(x))
                x = x + drop_path(y, rate, train=train)
            return x

        def merge(x: Array, *, name: str):
            """Merges each 2x2 cells into one cell with twice the channels."""
            x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
            batch, height, width, channels = x.shape
            x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
            x = x.transpose(0, 1, 3, 4, 2, 5).reshape(batch, height // 2, width // 2, -1)
            dense = nn.Dense(2 * channels, use_bias=False, name=f"{name}_reduction", **layers)
            normed = partial(norm, name=f"{name}_norm")
            return normed(dense(x)) if second else dense(normed(x))

        index, offsets = relative_position_index(window), log_offsets(window)
        patches = {"name": "features_0_0", "norm_name": "features_0_2", "use_bias": True}
        patches["kernel_init"] = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        patches |= {"padding": 0, "norm": norm, "act": None, **dtypes_of(self)}
        x = conv_norm_act(images, self.width, PATCH, stride=PATCH, **patches)
        maps, done, last = {}, 0, max(1, sum(self.blocks) - 1)
        for stage, blocks in enumerate(self.blocks):
            if stage > 0:
                x = merge(x, name=f"features_{2 * stage}")
            heads = x.shape[-1] // self.head_width
            for number in range(blocks):
                name, scale = f"features_{2 * stage + 1}_{number}", None
                if second:
                    init, shape = nn.initializers.constant(np.log(10)), (heads, 1, 1)
                    scale = self.param(f"{name}_attn_logit_scale", init, shape, self.param_dtype)
                    scale = jnp.exp(jnp.minimum(at_least_float32(scale), np.log(100)))
                    scale = scale[None, None]
                how = {"name": name, "shift": number % 2 * (window // 2), "scale": scale}
                how["bias"] = position_bias(f"{name}_attn", heads)
                how["rate"] = self.drop_path * done / last
                x = run_block(self, partial(block, **how), x)
                done += 1
            maps[f"c{stage + 2}"] = x
        maps["pooled"] = global_avg_pool(norm(x, name="norm"))
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="head", **layers)(maps["pooled"])
        return maps


SwinTransformerV2 = partial(SwinTransformer, version=2, window=8)
"""Version 2, with its windows for images of 256x256."""

SWINS = {
    "swin_t": partial(SwinTransformer, blocks=(2, 2, 6, 2), width=96, drop_path=0.2),
    "swin_s": partial(SwinTransformer, blocks=(2, 2, 18, 2), width=96, drop_path=0.3),
    "swin_b": partial(SwinTransformer, blocks=(2, 2, 18, 2), width=128, drop_path=0.5),
    "swin_v2_t": partial(SwinTransformerV2, blocks=(2, 2, 6, 2), width=96, drop_path=0.2),
    "swin_v2_s": partial(SwinTransformerV2, blocks=(2, 2, 18, 2), width=96, drop_path=0.3),
    "swin_v2_b": partial(SwinTransformerV2, blocks=(2, 2, 18, 2), width=128, drop_path=0.5),
}
