"""Super-resolution with few convolutions: SRCNN (Dong, Loy, He & Tang 2016, "Image super-resolution
using deep convolutional networks", section 3) and ESPCN (Shi et al. 2016, "Real-time single image
and video super-resolution using an efficient sub-pixel convolutional neural network", section
2)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_range, lookup
from jaxvision.layers import PADDINGS, Conv, Norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.ops import depth_to_space


class SRCNN(nn.Module):
    """The SRCNN network, which sharpens an image that was enlarged by interpolation.

    The paper applies it to luminance in [0, 1]; 9-1-5 then has 8,032 weights and 97 biases. Layers
    are named conv1, conv2, conv3.

    Attributes:
      kernel_sizes: odd sides of the kernels of the convolutions.
      widths: channels after each convolution except the last.
      padding: "same" keeps the size of the image. "valid", with which the paper trains, removes
        kernel_size - 1 rows and columns for each convolution (33 -> 21 for 9-1-5).
      norm: after each convolution except the last, named bn1, bn2; None as in the paper.

    Call:
      images f32[B, H, W, C] -> {"image": [B, H, W, C], smaller if valid}.

    Raises:
      InputError: the padding is unknown, or the images are so small that no pixel is left.
    """

    kernel_sizes: tuple[int, ...] = (9, 1, 5)
    widths: tuple[int, ...] = (64, 32)
    padding: str = "same"
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        return {"image": _convolutions(self, images, images.shape[-1], nn.relu, train)}


class ESPCN(nn.Module):
    """The ESPCN network, which enlarges an image.

    Its convolutions work at the resolution of the given image; at the end, channels become pixels.
    Layers are named conv1, conv2, conv3; their activation is tanh. It has 22,729 parameters for a
    factor of 3 on luminance.

    Attributes:
      factor: factor by which the sides are enlarged.
      kernel_sizes: odd sides of the kernels of the convolutions.
      widths: channels after each convolution except the last.
      padding: "same", or "valid", which removes kernel_size - 1 rows and columns for each
        convolution, before the enlargement.
      norm: after each convolution except the last, named bn1, bn2; None as in the paper.

    Call:
      images f32[B, H, W, C] -> {"image": [B, H factor, W factor, C], smaller if valid}. The last
      step is torch's PixelShuffle: the pixels of each channel are adjacent before it.

    Raises:
      InputError: the padding is unknown, or the images are so small that no pixel is left.
    """

    factor: int = 3
    kernel_sizes: tuple[int, ...] = (5, 3, 3)
    widths: tuple[int, ...] = (64, 32)
    padding: str = "same"
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        depth = images.shape[-1] * self.factor**2
        x = _convolutions(self, images, depth, nn.tanh, train)
        return {"image": depth_to_space(x, self.factor, order="channel_first")}


def _convolutions(
    module: SRCNN | ESPCN, x: Array, depth: int, act: Callable[[Array], Array], train: bool
) -> Array:
    """Applies all convolutions of a module. The last one is linear and has `depth` channels."""
    padding = lookup(PADDINGS, module.padding, "padding")
    lost = sum(size - 1 - 2 * padding(size) for size in module.kernel_sizes)
    check_range("the smaller side of the images", min(x.shape[1:3]), more_than=lost)
    dtypes = dtypes_of(module)
    *hidden, last = module.kernel_sizes
    for number, (size, width) in enumerate(zip(hidden, module.widths, strict=True), start=1):
        conv = partial(
            conv_norm_act,
            features=width,
            kernel_size=size,
            name=f"conv{number}",
            norm_name=f"bn{number}",
            norm=norm_of(module, train=train),
            padding=padding(size),
            act=act,
            **dtypes,
        )
        x = run_block(module, conv, x)
    name = f"conv{len(module.kernel_sizes)}"
    return Conv(depth, (last, last), padding=padding(last), name=name, **dtypes)(x)


SRCNNS = {
    "srcnn_915": SRCNN,
    "srcnn_935": partial(SRCNN, kernel_sizes=(9, 3, 5)),
    "srcnn_955": partial(SRCNN, kernel_sizes=(9, 5, 5)),
}

ESPCNS = {"espcn": ESPCN}
