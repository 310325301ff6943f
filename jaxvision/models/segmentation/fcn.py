"""Fully convolutional networks (Long, Shelhamer & Darrell 2015, "Fully convolutional networks for
semantic segmentation"): with VGG as in the paper, and with dilated ResNets as in torchvision."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import check_range, lookup
from jaxvision.layers import (
    Conv,
    ConvTranspose,
    Norm,
    as_backbone,
    batch_norm,
    conv_in_sequence,
    conv_norm_act,
    dtypes_of,
    norm_of,
)
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.models.backbones.vgg import VGG, VGG_16, Stage
from jaxvision.models.sides import check_sides
from jaxvision.ops import max_pool, resize_bilinear


class FCN(nn.Module):
    """The FCN network of torchvision: a head of two convolutions on a map of a backbone.

    The logits are interpolated to the size of the images. The names are torchvision's:
    backbone_..., classifier_0, a 3x3 convolution to a quarter of the channels, classifier_1, its
    norm, classifier_4, a 1x1 convolution, and aux_classifier_...

    Attributes:
      backbone: builds the module "backbone", whose map c{level} is used.
      level: level of that map.
      aux: whether to build a second head, on the map before, for a second loss in training.
      dropout: dropout rate before the last convolution of a head, in training.
      num_classes: K classes; None builds no head.
      norm: after each convolution except the last of a head, also in the backbone; None gives
        convolutions with a bias.

    Call:
      images f32[B, H, W, C], of any size that the backbone takes -> {"c{level}": the maps of the
      backbone, "logits": [B, H, W, K], "aux": [B, H, W, K]}.

    Raises:
      InputError: the backbone has no such map.
    """

    backbone: Callable[..., nn.Module]
    level: int = 5
    aux: bool = False
    dropout: float = 0.1
    num_classes: int | None = 21
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def head(level: int, name: str) -> Array:
            x = lookup(features, f"c{level}", "map of the backbone")
            how = {"dropout": self.dropout, "train": train, "norm": norm, **dtypes}
            x = fcn_head(x, self.num_classes, name=name, **how)
            return resize_bilinear(x, images.shape[1:3])

        features = self.backbone(**as_backbone(self, self.backbone))(images, train=train)
        maps = without_pooled(features)
        if self.num_classes is not None:
            maps["logits"] = head(self.level, "classifier")
            if self.aux:
                maps["aux"] = head(self.level - 1, "aux_classifier")
        return maps


def fcn_head(
    x: Array,
    num_classes: int,
    *,
    name: str,
    norm: Callable[..., Array] | None,
    dropout: float,
    train: bool,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Array:
    """Computes logits of a map by two convolutions, as torchvision's FCN does.

    The layers are {name}_0, a 3x3 convolution to a quarter of the channels, {name}_1, its norm, and
    {name}_4, a 1x1 convolution.

    Args:
      x: [B, H, W, C].
      num_classes: K classes.
      name: prefix of the names of the layers.
      norm: as for `conv_norm_act`.
      dropout: dropout rate before the last convolution.
      train: whether to drop.
    Returns:
      [B, H, W, K].
    """
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    x = conv_in_sequence(x, x.shape[-1] // 4, 3, name, norm=norm, **dtypes)
    x = nn.Dropout(dropout, deterministic=not train)(x)
    return Conv(num_classes, (1, 1), name=f"{name}_4", **dtypes)(x)


def without_pooled(maps: dict[str, Array]) -> dict[str, Array]:
    """Returns the maps of a backbone without its pooled features."""
    return {name: x for name, x in maps.items() if name != "pooled"}


class Step(NamedTuple):
    """A transposed convolution that upsamples scores, to which scores of a pooling are added."""

    name: str
    level: int  # its scores are 2^level times smaller than the image


FCN_32S = (Step("upscore", 0),)
FCN_16S = (Step("upscore2", 4), Step("upscore16", 0))
FCN_8S = (Step("upscore2", 4), Step("upscore_pool4", 3), Step("upscore8", 0))


class VGGFCN(nn.Module):
    """The FCN network of the paper: a VGG with convolutions as its fully connected layers.

    It is the network that the authors released for Caffe. The images are padded with a wide border
    of zeros, poolings round up, and fc6 has no padding. Scores are upsampled in several steps.
    After each step the scores of a pooling are added, cropped to the same region, and the final
    scores are cropped to the image. Layers have the names of the release: fc6, fc7, score_fr,
    score_pool{level} and the names of `steps`; the norm after fc6 is fc6_bn. The convolutions of
    VGG are the module "backbone". Scores are initialised with zero, and transposed convolutions
    with bilinear interpolation, which the release does not train.

    Attributes:
      stages: stages of the VGG.
      steps: the steps of upsampling; the last one reaches level 0.
      hidden: channels of fc6 and fc7.
      window: side of the kernel of fc6.
      padding: zeros around the input of the first convolution. If it is too small for upsampled
        scores to reach the border of the image (below 81, 73 and 69 in FCN-32s, 16s and 8s), the
        logits there are 0.
      dropout: dropout rate after fc6 and fc7, in training.
      num_classes: K classes; None builds no scores.
      norm: after each convolution except those of the scores; None as in the paper.

    Call:
      images f32[B, H, W, C] -> {"c{level}": the maps of the VGG for the padded images,
      "fc7": [B, h, w, hidden], "logits": [B, H, W, K]}.

    Raises:
      InputError: the padded images are smaller than the window of fc6, or the padding is below 1.
    """

    stages: tuple[Stage, ...] = VGG_16
    steps: tuple[Step, ...] = FCN_32S
    hidden: int = 4096
    window: int = 7
    padding: int = 100
    dropout: float = 0.5
    num_classes: int | None = 21
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_range("padding", self.padding, least=1)
        border, level = (
            self.padding - 1,
            len(self.stages),
        )  # the first convolution pads by 1
        check_sides(images, 1, more_than=(self.window - 1) * 2**level - 2 * border)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        sides = (border, border)
        framed = jnp.pad(images, ((0, 0), sides, sides, (0, 0)))
        vgg = VGG(self.stages, ceil_mode=True, **as_backbone(self, VGG))
        maps = without_pooled(vgg(framed, train=train))
        x = maps[f"c{level}"]
        for name, kernel_size in (("fc6", self.window), ("fc7", 1)):
            names = {"name": name, "norm_name": f"{name}_bn"}
            x = conv_norm_act(x, self.hidden, kernel_size, padding=0, norm=norm, **names, **dtypes)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        maps["fc7"] = x
        if self.num_classes is None:
            return maps

        score = partial(Conv, self.num_classes, (1, 1), kernel_init=nn.initializers.zeros, **dtypes)
        grown = partial(
            ConvTranspose, self.num_classes, use_bias=False, kernel_init=bilinear, **dtypes
        )
        x = score(name="score_fr")(x)
        # `first` is the centre of the first score, in cells of the VGG's map at this level. The
        # centre of the kernel is factor - 1/2 from its border, that of a cell (factor - 1) / 2.
        first = (self.window - 1) / 2
        for name, finer in self.steps:
            factor = 2 ** (level - finer)
            x = grown((2 * factor, 2 * factor), stride=factor, name=name)(x)
            level, first = finer, int(factor * (first - 1 / 2))
            if level > 0:
                pooled = max_pool(maps[f"c{level - 1}"], 2, ceil_mode=True)
                pooled = score(name=f"score_pool{level}")(pooled)
                x = x + _window_of(pooled, first, x.shape[1:3])
        maps["logits"] = _window_of(x, border - first, images.shape[1:3])
        return maps


def bilinear(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Initialises a transposed convolution with bilinear interpolation of each channel.

    Along an axis, element i of k is 1 - |2 i + 1 - k| / k. With a stride of k / 2, the elements
    that contribute to a pixel sum to 1.

    Args:
      key: not used.
      shape: (height, width, C, D) of the kernel.
      dtype: dtype of the kernel.
    Returns:
      dtype[height, width, C, D], zero between different channels.
    Source: Long et al. 2015, section 3.3.
    """
    del key
    height, width = (1 - jnp.abs(2 * jnp.arange(side) + 1 - side) / side for side in shape[:2])
    taps = height[:, None] * width[None, :]
    return (taps[:, :, None, None] * jnp.eye(*shape[2:])[None, None]).astype(dtype)


def _window_of(x: Array, first: int, size: Sequence[int]) -> Array:
    """Crops x to a size, from row and column `first` on, with zeros where x has no values."""
    sides = ((-first, first + to - of, 0) for of, to in zip(x.shape[1:3], size, strict=True))
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *sides, (0, 0, 0)))


_DILATED = {"replace_stride_with_dilation": (False, True, True)}

FCNS = {
    "fcn_resnet50": partial(FCN, backbone=partial(RESNETS["resnet50"], **_DILATED)),
    "fcn_resnet101": partial(FCN, backbone=partial(RESNETS["resnet101"], **_DILATED)),
    "fcn32s_vgg16": partial(VGGFCN, steps=FCN_32S),
    "fcn16s_vgg16": partial(VGGFCN, steps=FCN_16S),
    "fcn8s_vgg16": partial(VGGFCN, steps=FCN_8S),
}
