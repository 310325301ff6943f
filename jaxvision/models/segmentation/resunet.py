"""Deep residual U-Net (Zhang, Liu & Wang 2018, "Road extraction by deep residual U-Net")."""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import lookup
from jaxvision.layers import Conv, Norm, batch_norm, dtypes_of, he_normal, norm_of, run_block
from jaxvision.models.sides import check_sides
from jaxvision.ops import resize_bilinear

DOWNS = {"stride": 2, "bilinear": 1}
"""Values of the field `down` -> stride of the first convolution of a level."""


class ResUNet(nn.Module):
    """A U-Net of residual units, each with twice a norm, a ReLU and a convolution, and a shortcut.

    The shortcut is a 1x1 convolution if the shape changes. The first unit starts with its
    convolution. The decoder interpolates maps and concatenates them with those of the encoder.
    Layers are named encoder{level} and decoder{level} with the suffixes norm1, conv1, norm2, conv2
    and shortcut; the maps of a level are 2^level times smaller than the image. The last layer is
    "head".

    Attributes:
      widths: channels of the levels.
      down: "stride" for a first convolution of each level with stride 2, as in the paper, or
        "bilinear" for interpolation before the level.
      num_classes: K classes; None builds no head.
      norm: before each 3x3 convolution except the first; None gives convolutions with a bias.

    Call:
      images f32[B, H, W, C], sides multiples of 2^n (8), where n is the last level ->
      {"c{level}": [B, H / 2^level, W / 2^level, width], outputs of the encoder's units,
      "d{level}": the same of the decoder, "logits": [B, H, W, K]}.

    Raises:
      InputError: a side of the images is not such a multiple.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    down: str = "stride"
    num_classes: int | None = 1
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        down = lookup(DOWNS, self.down, "down")
        bottom = len(self.widths) - 1
        check_sides(images, 2**bottom)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def activated(x: Array, name: str) -> Array:
            return nn.relu(x if norm is None else norm(x, name=name))

        conv = partial(
            Conv,
            kernel_size=(3, 3),
            padding=1,
            use_bias=self.norm is None,
            kernel_init=he_normal,
            **dtypes,
        )

        def unit(x: Array, *, features: int, name: str, stride: int = 1, first: bool = False):
            y = x if first else activated(x, f"{name}_norm1")
            y = conv(features, strides=stride, name=f"{name}_conv1")(y)
            y = conv(features, name=f"{name}_conv2")(activated(y, f"{name}_norm2"))
            if x.shape != y.shape:
                options = {"strides": stride, "use_bias": False, "name": f"{name}_shortcut"}
                x = Conv(features, (1, 1), **options, **dtypes)(x)
            return x + y

        x, maps = images, {}
        for level, width in enumerate(self.widths):
            if level > 0 and self.down == "bilinear":
                x = resize_bilinear(x, [side // 2 for side in x.shape[1:3]])
            how = {"stride": down if level > 0 else 1, "first": level == 0}
            how |= {"features": width, "name": f"encoder{level}"}
            x = maps[f"c{level}"] = run_block(self, partial(unit, **how), x)
        for level in reversed(range(bottom)):
            fine = maps[f"c{level}"]
            x = jnp.concatenate([fine, resize_bilinear(x, fine.shape[1:3])], axis=-1)
            how = {"features": self.widths[level], "name": f"decoder{level}"}
            x = maps[f"d{level}"] = run_block(self, partial(unit, **how), x)
        if self.num_classes is not None:
            maps["logits"] = Conv(self.num_classes, (1, 1), name="head", **dtypes)(x)
        return maps


RESUNETS = {"resunet": ResUNet}
