"""U-Net (Ronneberger, Fischer & Brox 2015, "U-Net: convolutional networks for biomedical image
segmentation"), and its way up on any backbone."""

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
)
from jaxvision.models.backbones.darknet import DARKNET_19, PlainDarknet
from jaxvision.models.sides import check_sides
from jaxvision.ops import depth_to_space, max_pool, resize_bilinear


def _transposed(x: Array, features: int, size: Sequence[int], **options: Any) -> Array:
    """A transposed convolution whose kernel is as large as its stride."""
    factors = tuple(to // of for of, to in zip(x.shape[1:3], size, strict=True))
    return ConvTranspose(features, factors, stride=factors, **options)(x)


def _bilinear(x: Array, features: int, size: Sequence[int], **options: Any) -> Array:
    """Interpolation and a 1x1 convolution, which comes first as that is the same and cheaper."""
    return resize_bilinear(Conv(features, (1, 1), **options)(x), size)


UPS = {"transposed": _transposed, "bilinear": _bilinear}
"""What the field `up` may be called: how maps grow."""


def _interpolated(
    linear: Callable[[Array, int], Array], x: Array, features: int, size: Sequence[int]
) -> Array:
    """Logits of a map, in another size."""
    return resize_bilinear(linear(x, features), size)


def _subpixel(
    linear: Callable[[Array, int], Array], x: Array, features: int, size: Sequence[int]
) -> Array:
    """Logits of each pixel under a cell of a map."""
    factor = max(size[0] // x.shape[1], 1)
    if tuple(size) != tuple(factor * side for side in x.shape[1:3]):
        raise InputError(
            f"the images are {size[0]}x{size[1]} and the last map {x.shape[1]}x{x.shape[2]}: for "
            "subpixel growth give images whose sides are the same multiple of the map's"
        )
    return depth_to_space(linear(x, features * factor**2), factor)


GROWTHS = {"bilinear": _interpolated, "subpixel": _subpixel}
"""What the field `grow` may be called: (1x1 convolution, map, K, (H, W)) -> [B, H, W, K]."""


class UNet(nn.Module):
    """Down by pairs of convolutions and pooling; up again, beside the maps from the way down.

    Layers are named encoder{level} and decoder{level}, with the endings conv1, bn1, conv2, bn2 and
    up, where a map of a level is 2^level times smaller than the image; the last is "head".

    Attributes:
      widths: channels of the levels.
      padding: "same", or "valid" as in the paper: without padding, so that maps shrink, and those
        from the way down are cropped to those on the way up.
      up: "transposed", a 2x2 transposed convolution, or "bilinear", interpolation and a 1x1
        convolution; both to the channels of the next level. Tiles of an image give the same as the
        whole with "valid" and "transposed" only: interpolation repeats the pixels of the border.
      dropout: rate at the end of the way down, in training.
      num_classes: K; None builds no head.
      norm: after each 3x3 convolution, or None as in the paper.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, H, W, C] -> {"c{level}": [B, H / 2^level, W / 2^level, width], ends of the
      pairs on the way down, "d{level}": the same on the way up, "logits": [B, H, W, K]}. With
      padding "valid" all maps are smaller, the logits by 4 (3 2^n - 2) rows and columns, where n
      is the last level: 388x388 of 572x572.

    Raises:
      InputError: a side of the images does not fit: for "same" it must be a multiple of 2^n; for
        "valid" every map that is pooled must have even sides, and logits must be left.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    padding: str = "same"
    up: str = "transposed"
    dropout: float = 0.0
    num_classes: int | None = 2
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        padding = lookup(PADDINGS, self.padding, "padding")(3)
        lost = 4 * (1 - padding)  # rows and columns, by two convolutions
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
            x = parts.pair(_beside(maps[f"c{level}"], x), width, name)
            maps[f"d{level}"] = x
        if self.num_classes is not None:
            maps["logits"] = parts.linear(x, self.num_classes)
        return maps


class BackboneUNet(nn.Module):
    """A U-Net whose way down is another network's.

    From the backbone's last map up: interpolation to the size of the map before, and a pair of
    convolutions of both. If no map has the size of the images, they are the last one to be met.
    Names are those of `UNet`.

    Attributes:
      backbone: makes the module "backbone", all of whose maps "c{level}" are used.
      widths: channels of each step up, from coarse to fine. With fewer than there are steps the
        logits grow from the last one to the size of the images, which is cheap: the finest maps
        cost most.
      grow: how they do, "bilinear", as in FCN, or "subpixel": the head gives the logits of all
        pixels under a cell (Wang et al. 2018, "Understanding convolution for semantic
        segmentation", section 3.1).
      aux: whether there are logits of the backbone's last map too, which are added to the others,
        as in FCN, and given by themselves. With a loss of their own they teach the backbone the
        classes before the way up has learnt to pass gradients on.
      num_classes: K; None builds no head.
      norm: after each 3x3 convolution, in the backbone too; None gives convolutions with a bias.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, H, W, C], of any size that the backbone takes -> {"c{level}": the backbone's
      maps, "d{level}": [B, h, w, width], those of the way up, "logits" and perhaps "aux":
      [B, H, W, K]}.

    Raises:
      InputError: there are more `widths` than steps up, or none; or pixels do not divide evenly
        under cells.
    """

    backbone: Callable[..., nn.Module] = partial(PlainDarknet, DARKNET_19)
    widths: tuple[int, ...] = (256, 128, 64, 32, 16)
    grow: str = "bilinear"
    aux: bool = False
    num_classes: int | None = 2
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        size = images.shape[1:3]
        features = self.backbone(**as_backbone(self))(images, train=train)
        maps = {name: x for name, x in features.items() if re.fullmatch(r"c\d+", name)}
        (_, coarsest), *steps = sorted(
            ((int(name[1:]), x) for name, x in maps.items()), reverse=True
        )
        if all(fine.shape[1:3] != size for _, fine in steps):
            steps.append((0, images))
        if not 0 < len(self.widths) <= len(steps):
            raise InputError(
                f"widths has {len(self.widths)} entries: give one for each of the {len(steps)} "
                "steps up from the backbone's last map, or for the first of them"
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
    """Makes a module's named layers.

    Args:
      module: with the fields `norm`, `axis_name`, `dtype` and `param_dtype`.
      up: a key of `UPS`.
      train: whether norms use the statistics of the batch.
      padding: zeros around what a 3x3 convolution sees.
    """

    def __init__(self, module: Any, up: str, *, train: bool, padding: int = 1):
        self._dtypes, self._norm = dtypes_of(module), norm_of(module, train=train)
        self._padding = padding
        self._up = lookup(UPS, up, "up")

    def pair(self, x: Array, features: int, name: str) -> Array:
        """Twice a 3x3 convolution, norm and ReLU."""
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

    def grown(self, x: Array, features: int, size: Sequence[int], name: str) -> Array:
        """x in another size, with other channels."""
        return self._up(x, features, size, name=f"{name}_up", **self._dtypes)

    def linear(self, x: Array, features: int, name: str = "head") -> Array:
        """A 1x1 convolution with a bias."""
        return Conv(features, (1, 1), name=name, **self._dtypes)(x)


def _beside(skip: Array, x: Array) -> Array:
    """The channels of both: first those of the middle of `skip`, in the size and dtype of x."""
    top, left = ((of - to) // 2 for of, to in zip(skip.shape[1:3], x.shape[1:3], strict=True))
    middle = skip[:, top : top + x.shape[1], left : left + x.shape[2]]
    return jnp.concatenate([middle.astype(x.dtype), x], axis=-1)


UNETS = {
    "unet": UNet,
    "unet_valid": partial(UNet, padding="valid", norm=None, dropout=0.5),
    "unet_backbone": BackboneUNet,
}
"""As everybody uses it, as in the paper (which does not give the rate of its dropout), and on a
backbone."""
