"""Vision Transformer (Dosovitskiy et al. 2021, "An image is worth 16x16 words: transformers for
image recognition at scale")."""

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
    conv_norm_act,
    drop_path,
    dtypes_of,
    feed_forward,
    gelu,
    layer_norm,
    norm_of,
    run_block,
    self_attention,
)


class VisionTransformer(nn.Module):
    """The Vision Transformer (ViT).

    The patches of an image and a class token pass through blocks of self-attention and dense
    layers.

    Attributes:
      patch_size: side of the square patches.
      blocks: number of blocks.
      width: channels of the tokens.
      heads: number of heads of the attention.
      image_size: side of the square images; there is a position embedding for each of their
        patches.
      dropout: dropout rate of the embedded patches, after attention, and after each dense layer of
        the blocks, in training.
      drop_path: rate of stochastic depth of the last block in training; block i of n has
        (i - 1) / (n - 1) of it.
      norm: before attention, before dense layers, and after the last block; None builds no norms.

    Call:
      images f32[B, image_size, image_size, C] -> {"tokens": [B, 1 + patches, width], the class
      token and the patches row by row, after the last norm, "pooled": [B, width], the class token,
      "logits": [B, num_classes]}.

    Raises:
      InputError: the images have another size, patch_size does not divide it, or heads does not
        divide the width.
    """

    patch_size: int
    blocks: int
    width: int
    heads: int
    image_size: int = 224
    dropout: float = 0.0
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
        height, width = images.shape[1:3]
        if (height, width) != (self.image_size, self.image_size):
            raise InputError(
                f"the images are {height}x{width}: this network takes {self.image_size}x"
                f"{self.image_size}, which its field image_size sets"
            )
        if self.image_size % self.patch_size:
            raise InputError(
                f"patch_size is {self.patch_size}, which does not divide the image_size "
                f"{self.image_size}"
            )
        dtypes, norm = dtypes_of(self), norm_of(self, train=train) or (lambda x, *, name: x)
        drop = partial(nn.Dropout, self.dropout, deterministic=not train)
        init = {"bias_init": nn.initializers.normal(1e-6), "dropout": self.dropout}

        def block(x: Array, *, name: str, rate: float):
            names = (f"{name}_self_attention_in_proj", f"{name}_self_attention_out_proj")
            y = self_attention(norm(x, name=f"{name}_ln_1"), self.heads, names=names, **dtypes)
            x = x + drop_path(drop()(y), rate, train=train)
            names, y = (f"{name}_mlp_0", f"{name}_mlp_3"), norm(x, name=f"{name}_ln_2")
            y = feed_forward(y, names=names, act=self.act, train=train, **init, **dtypes)
            return x + drop_path(y, rate, train=train)

        patches = {"name": "conv_proj", "norm_name": "", "norm": None, "act": None, "padding": 0}
        patches["kernel_init"] = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        side = self.patch_size
        x = conv_norm_act(images, self.width, side, stride=side, **patches, **dtypes)
        x = x.reshape(len(x), -1, self.width)
        shape, zeros = (1, 1, self.width), nn.initializers.zeros
        token = self.param("class_token", zeros, shape, self.param_dtype).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        places = self.param(
            "encoder_pos_embedding",
            nn.initializers.normal(0.02),
            (1, *x.shape[1:]),
            self.param_dtype,
        )
        x = drop()(x + places.astype(x.dtype))
        for number in range(self.blocks):
            rate = self.drop_path * number / max(1, self.blocks - 1)
            name = f"encoder_layers_encoder_layer_{number}"
            x = run_block(self, partial(block, name=name, rate=rate), x)
        x = norm(x, name="encoder_ln")
        maps = {"tokens": x, "pooled": x[:, 0]}
        if self.num_classes is not None:
            dense = nn.Dense(self.num_classes, kernel_init=zeros, name="heads_head", **dtypes)
            maps["logits"] = dense(maps["pooled"])
        return maps


VITS = {
    "vit_b_16": partial(VisionTransformer, patch_size=16, blocks=12, width=768, heads=12),
    "vit_b_32": partial(VisionTransformer, patch_size=32, blocks=12, width=768, heads=12),
    "vit_l_16": partial(VisionTransformer, patch_size=16, blocks=24, width=1024, heads=16),
    "vit_l_32": partial(VisionTransformer, patch_size=32, blocks=24, width=1024, heads=16),
    "vit_h_14": partial(VisionTransformer, patch_size=14, blocks=32, width=1280, heads=16),
}
