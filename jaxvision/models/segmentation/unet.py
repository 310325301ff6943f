"""U-Net (Ronneberger, Fischer & Brox 2015, "U-Net: convolutional networks for biomedical image
segmentation"), and its decoder on any backbone."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError, lookup
from jaxvision.layers import (
    PADDINGS,
    Conv,
    ConvTranspose,
    Norm,
    as_backbone,
    batch_norm,
    conv_norm_act,
    dtypes_of,
    norm_of,
    run_block,
)
from jaxvision.models.backbones.darknet import DARKNET_19, PlainDarknet
from jaxvision.models.sides import check_sides
from jaxvision.ops import depth_to_space, max_pool, resize_bilinear, resize_nearest


def _transposed(x: Array, features: int, size: Sequence[int], **options: Any) -> Array:
    """Applies a transposed convolution whose kernel size equals its stride."""
    factors = tuple(to // of for of, to in zip(x.shape[1:3], size, strict=True))
    return ConvTranspose(features, factors, stride=factors, **options)(x)


def _bilinear(x: Array, features: int, size: Sequence[int], **options: Any) -> Array:
    """Applies a 1x1 convolution, then interpolation; this order is equivalent and cheaper."""
    return resize_bilinear(Conv(features, (1, 1), **options)(x), size)


def _nearest(x: Array, features: int, size: Sequence[int], **options: Any) -> Array:
    """Repeats the cells; there is no layer, so the channels stay."""
    del features, options
    return resize_nearest(x, size)


UPS = {"transposed": _transposed, "bilinear": _bilinear, "nearest": _nearest}
"""Values of the field `up` -> function that upsamples a map."""


def _interpolated(
    linear: Callable[[Array, int], Array], x: Array, features: int, size: Sequence[int]
) -> Array:
    """Computes the logits of a map and interpolates them to a size."""
    return resize_bilinear(linear(x, features), size)


def _subpixel(
    linear: Callable[[Array, int], Array], x: Array, features: int, size: Sequence[int]
) -> Array:
    """Computes the logits of all pixels of each cell of a map, from the channels of this cell."""
    factor = max(size[0] // x.shape[1], 1)
    if tuple(size) != tuple(factor * side for side in x.shape[1:3]):
        raise InputError(
            f"the images are {size[0]}x{size[1]} and the last map is {x.shape[1]}x{x.shape[2]}: "
            "with grow='subpixel', both sides of the images must be the same multiple of the map's"
        )
    return depth_to_space(linear(x, features * factor**2), factor)


GROWTHS = {"bilinear": _interpolated, "subpixel": _subpixel}
"""Values of the field `grow` -> function (1x1 convolution, map, K, (H, W)) -> [B, H, W, K]."""


class UNet(nn.Module):
    """The U-Net network: an encoder, and a decoder that also uses the maps of the encoder.

    Each level has a pair of convolutions. Layers are named encoder{level} and decoder{level}, with
    the suffixes conv1, bn1, conv2, bn2 and up; the maps of a level are 2^level times smaller than
    the image. The last layer is "head".

    Attributes:
      widths: channels of the levels.
      padding: "same", or "valid" as in the paper. With "valid" there is no padding, so maps shrink,
        and maps of the encoder are cropped to those of the decoder.
      up: "transposed", a 2x2 transposed convolution, or "bilinear", interpolation and a 1x1
        convolution; both change the channels to those of the next level. "nearest" only repeats the
        cells, without a layer, so that the channels stay. Only with "valid" and without "bilinear"
        are the results for tiles of an image the same as for the whole, because interpolation
        repeats the pixels of the border.
      up_first: whether the upsampled map comes before that of the encoder where they are
        concatenated, as in some third-party networks; in the paper it comes after.
      dropout: dropout rate at the end of the encoder, in training.
      num_classes: K classes; None builds no head.
      norm: after each 3x3 convolution; None as in the paper.

    Call:
      images f32[B, H, W, C] -> {"c{level}": [B, H / 2^level, W / 2^level, width], outputs of the
      encoder's pairs, "d{level}": the same of the decoder, "logits": [B, H, W, K]}. With padding
      "valid" all maps are smaller, the logits by 4 (3 2^n - 2) rows and columns, where n is the
      last level: 388x388 for 572x572.

    Raises:
      InputError: a side of the images does not fit. For "same" it must be a multiple of 2^n. For
        "valid" every map that is pooled must have even sides, and some logits must be left.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    padding: str = "same"
    up: str = "transposed"
    up_first: bool = False
    dropout: float = 0.0
    num_classes: int | None = 2
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        padding = lookup(PADDINGS, self.padding, "padding")(3)
        lost = 4 * (1 - padding)  # rows and columns that two convolutions remove
        bottom = len(self.widths) - 1
        step = 2**bottom
        check_sides(images, step, remainder=-lost % step, more_than=lost * (3 * step - 2))

        parts = _Parts(self, self.up, train=train, padding=padding)
        x, maps = images, {}
        for level, width in enumerate(self.widths):
            if level > 0:
                x = max_pool(x, 2)
            x = maps[f"c{level}"] = parts.pair(x, width, f"encoder{level}")
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for level in reversed(range(bottom)):
            name, width = f"decoder{level}", self.widths[level]
            x = parts.grown(x, width, [2 * side for side in x.shape[1:3]], name)
            x = _beside(maps[f"c{level}"], x, up_first=self.up_first)
            x = parts.pair(x, width, name)
            maps[f"d{level}"] = x
        if self.num_classes is not None:
            maps["logits"] = parts.linear(x, self.num_classes)
        return maps


class BackboneUNet(nn.Module):
    """A U-Net whose encoder is another network, the backbone.

    Each step of the decoder, from the last map of the backbone on, interpolates to the size of the
    map before, concatenates both and applies a pair of convolutions. If no map of the backbone has
    the size of the images, the last step uses the images themselves. Names are those of `UNet`.

    Attributes:
      backbone: builds the module "backbone", all of whose maps "c{level}" are used.
      widths: channels of each step of the decoder, from coarse to fine. With fewer widths than
        steps, the logits are computed at the last one and upsampled to the size of the images. This
        is cheap, because the finest maps cost most.
      grow: how the logits are upsampled: "bilinear", as in FCN, or "subpixel", where the head
        computes the logits of all pixels of a cell (Wang et al. 2018, "Understanding convolution
        for semantic segmentation", section 3.1).
      aux: whether to compute logits of the last map of the backbone, too. They are added to the
        others, as in FCN, and also returned separately. With a loss of their own they train the
        backbone at the start of training, when the decoder does not pass useful gradients yet.
      num_classes: K classes; None builds no head.
      norm: after each 3x3 convolution, also in the backbone; None gives convolutions with a bias.

    Call:
      images f32[B, H, W, C], of any size that the backbone takes -> {"c{level}": the maps of the
      backbone, "d{level}": [B, h, w, width], those of the decoder, "logits" and, with `aux`, "aux":
      [B, H, W, K]}.

    Raises:
      InputError: there are more `widths` than steps, or none; or, with "subpixel", the sides of the
        images are not the same multiple of the sides of the last map.
    """

    backbone: Callable[..., nn.Module] = partial(PlainDarknet, DARKNET_19)
    widths: tuple[int, ...] = (256, 128, 64, 32, 16)
    grow: str = "bilinear"
    aux: bool = False
    num_classes: int | None = 2
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        size = images.shape[1:3]
        features = self.backbone(**as_backbone(self, self.backbone))(images, train=train)
        maps = {name: x for name, x in features.items() if re.fullmatch(r"c\d+", name)}
        (_, coarsest), *steps = sorted(
            ((int(name[1:]), x) for name, x in maps.items()), reverse=True
        )
        if all(fine.shape[1:3] != size for _, fine in steps):
            steps.append((0, images))
        if not 0 < len(self.widths) <= len(steps):
            raise InputError(
                f"widths has {len(self.widths)} entries: give at least one and at most "
                f"{len(steps)}, one for each step up from the last map of the backbone"
            )
        parts, x = _Parts(self, "bilinear", train=train), coarsest
        for (level, fine), width in zip(steps, self.widths, strict=False):
            name = f"decoder{level}"
            x = parts.grown(x, width, fine.shape[1:3], name)
            x = maps[f"d{level}"] = parts.pair(_beside(fine, x), width, name)
        if self.num_classes is not None:
            grow = lookup(GROWTHS, self.grow, "grow")
            maps["logits"] = grow(partial(parts.linear, name="head"), x, self.num_classes, size)
            if self.aux:
                last = partial(parts.linear, name="aux_head")
                maps["aux"] = _interpolated(last, coarsest, self.num_classes, size)
                maps["logits"] = maps["logits"] + maps["aux"]
        return maps


class _Parts:
    """Creates the named layers of a module.

    Args:
      module: a module with the fields `remat`, `norm`, `axis_name`, `dtype` and `param_dtype`.
      up: a key of `UPS`.
      train: whether norms use the statistics of the batch.
      padding: zeros around the input of a 3x3 convolution.
    """

    def __init__(self, module: Any, up: str, *, train: bool, padding: int = 1):
        self._dtypes, self._norm = dtypes_of(module), norm_of(module, train=train)
        self._module, self._padding = module, padding
        self._up = lookup(UPS, up, "up")

    def pair(self, x: Array, features: int, name: str) -> Array:
        """Applies a 3x3 convolution, a norm and a ReLU, twice: a block."""

        def both(x: Array) -> Array:
            for number in (1, 2):
                x = conv_norm_act(
                    x,
                    features,
                    3,
                    name=f"{name}_conv{number}",
                    norm_name=f"{name}_bn{number}",
                    norm=self._norm,
                    padding=self._padding,
                    **self._dtypes,
                )
            return x

        return run_block(self._module, both, x)

    def grown(self, x: Array, features: int, size: Sequence[int], name: str) -> Array:
        """Upsamples x to a size and changes its channels."""
        return self._up(x, features, size, name=f"{name}_up", **self._dtypes)

    def linear(self, x: Array, features: int, name: str = "head") -> Array:
        """Applies a 1x1 convolution with a bias."""
        return Conv(features, (1, 1), name=name, **self._dtypes)(x)


def _beside(skip: Array, x: Array, *, up_first: bool = False) -> Array:
    """Concatenates `skip`, cropped to the size of x and cast to its dtype, and x, or x and it."""
    top, left = ((of - to) // 2 for of, to in zip(skip.shape[1:3], x.shape[1:3], strict=True))
    middle = skip[:, top : top + x.shape[1], left : left + x.shape[2]]
    both = middle.astype(x.dtype), x
    return jnp.concatenate(both[::-1] if up_first else both, axis=-1)


UNETS = {
    "unet": UNet,
    "unet_valid": partial(UNet, padding="valid", norm=None, dropout=0.5),
    "unet_backbone": BackboneUNet,
}
"""The usual form, that of the paper (which does not state its dropout rate), and one with a
backbone."""
