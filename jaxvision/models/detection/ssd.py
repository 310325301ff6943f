"""SSD (Liu, Anguelov, Erhan, Szegedy, Reed, Fu & Berg 2016, "SSD: single shot multibox detector",
section 2) and SSDlite (Sandler, Howard, Zhu, Zhmoginov & Chen 2018, "MobileNetV2", section 6.2)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError, at_least_float32
from jaxvision.layers import (
    Conv,
    Norm,
    batch_norm,
    conv_in_sequence,
    dtypes_of,
    norm_of,
    run_block,
)
from jaxvision.models.backbones.mobilenet_v3 import MOBILENETS_V3, REDUCED_LARGE
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.models.backbones.vgg import VGG, VGG_16, Stage
from jaxvision.models.detection.parts import backbone_maps, by_anchor
from jaxvision.ops import max_pool

FIRST_SCALE = 20.0
"""Initial scale of the normalised map of `DilatedVGG` (section 3.1 of the paper)."""


VGG_RULES = (
    ("features.24", "extra.0.1"),
    ("features.26", "extra.0.3"),
    ("features.28", "extra.0.5"),
    ("classifier", ""),
)
"""Rules (old, new) for `jaxvision.interop.KeyRules`, which rename the keys of a classifier, VGG-16,
to those of the backbone of SSD300 and SSD512."""

MOBILENET_RULES = (
    ("features.13.block.0", "first.13"),
    ("features.13.block.*", "second.0.*"),
    ("features.14", "second.1"),
    ("features.15", "second.2"),
    ("features.16", "second.3"),
    ("features.*", "first.*"),
    ("first", "features.0"),
    ("second", "features.1"),
    ("classifier", ""),
)
"""The same for MobileNetV3-Large and SSDlite. SSDlite's backbone has half of the channels of the
classifier at its end, so that arrays of these layers do not fit."""


class DilatedVGG(VGG):
    """The VGG network of SSD: its fully connected layers fc6 and fc7 are convolutions.

    The last pooling has stride 1 and fc6 is a 3x3 convolution with a dilation of 6. The last map
    before the pooling of stride 16 is divided by its Euclidean norm over the channels at each cell,
    and multiplied by a learned scale for each channel, "scale_weight"; the layers after it take it
    unchanged. Layers have torchvision's names: features_{place} for `stages`, as in VGG, extra_0_1,
    extra_0_3 and extra_0_5 for the last stage, extra_0_7_1 (fc6) and extra_0_7_3 (fc7).

    Attributes:
      stages: stages before the last one.
      last: the last stage.
      hidden: channels of fc6 and fc7.
      ceil_mode: as for VGG; only the third pooling rounds up: 300x300 pixels give 38x38 cells.

    Call:
      images f32[B, H, W, C] -> {"c0" and so on: the maps before each pooling, with the last of
      `stages` normalised ("c3": [B, H/8, W/8, 512]); "c{n}", where n is the number of stages: the
      result of fc7 ("c4": [B, H/16, W/16, 1024])}.
    """

    stages: tuple[Stage, ...] = VGG_16[:4]
    last: Stage = VGG_16[4]
    hidden: int = 1024
    ceil_mode: bool | tuple[bool, ...] = (False, False, True, False)
    num_classes: int | None = None

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        maps = super().__call__(images, train=train)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        step = 2 if norm is None else 3
        conv = partial(conv_in_sequence, norm=norm, use_bias=True, act=self.act, **dtypes)
        count, xavier = len(self.stages), {"kernel_init": nn.initializers.xavier_uniform()}

        def convolved(x: Array) -> Array:
            for number in range(self.last.convolutions):
                x = conv(x, self.last.channels, 3, "extra_0", 1 + step * number)
            return x

        x = run_block(self, convolved, maps[f"c{count}"])
        x = max_pool(x, 3, stride=1, padding=1)
        fc = f"extra_0_{1 + step * self.last.convolutions}"
        x = conv(x, self.hidden, 3, fc, 1, dilation=6, **xavier)
        x = conv(x, self.hidden, 1, fc, 1 + step, **xavier)
        maps[f"c{count}"] = x
        del maps["pooled"]
        fine = maps[f"c{count - 1}"]
        start = nn.initializers.constant(FIRST_SCALE)
        scale = self.param("scale_weight", start, fine.shape[-1:], self.param_dtype)
        maps[f"c{count - 1}"] = (unit_vectors(fine) * scale[None, None, None]).astype(fine.dtype)
        return maps


def unit_vectors(x: Array) -> Array:
    """Divides x [..., C] by its Euclidean norm over C, or by 1e-12 if that is larger.

    Its gradient is finite where x is 0.
    """
    x = at_least_float32(x)
    squares = jnp.square(x).sum(axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squares, 1e-24))


class Extra(NamedTuple):
    """Convolutions that make a smaller map of the one before."""

    inner: int  # channels of the 1x1 convolution
    channels: int  # of the map
    kernel_size: int = 3
    stride: int = 2
    padding: int = 1


EXTRAS_300 = (
    Extra(256, 512),
    Extra(128, 256),
    Extra(128, 256, stride=1, padding=0),
    Extra(128, 256, stride=1, padding=0),
)
EXTRAS_512 = (
    Extra(256, 512),
    Extra(128, 256),
    Extra(128, 256),
    Extra(128, 256),
    Extra(128, 256, kernel_size=4),
)
EXTRAS = (Extra(256, 512), Extra(128, 256), Extra(128, 256))
EXTRAS_LITE = (Extra(256, 512), Extra(128, 256), Extra(128, 256), Extra(64, 128))


class SSD(nn.Module):
    """The SSD network, and SSDlite: class and box of default boxes on maps of several sizes.

    Further maps follow the last one of the backbone; each map has heads of its own. Layers have
    torchvision's names: backbone_..., backbone_extra_{i}_{place}, and the heads
    head_classification_head_module_list_{i} and head_regression_head_module_list_{i}. Weights of a
    classifier initialise the module "backbone", see `jaxvision.interop.transfer`; `VGG_RULES` and
    `MOBILENET_RULES` rename the keys that differ.

    Attributes:
      backbone: builds the module "backbone".
      levels: names of its maps that have heads, from fine to coarse; the last one must be the
        coarsest.
      extras: the further maps.
      first_extra: number in the name of the first of them.
      lite: whether this is SSDlite. The 3x3 convolutions of `extras` are depthwise, with a 1x1
        convolution after them, and the heads are a 3x3 depthwise and a 1x1 convolution.
      num_classes: K classes, without the background.
      num_anchors: default boxes for each cell of each map.
      norm: after each convolution of the backbone and of `extras`, and after the depthwise
        convolutions of the heads; None gives convolutions with a bias.

    Call:
      images f32[B, H, W, 3] -> for each map i, from fine to coarse, {"cls_logits{i}":
      [B, h, w, A, K + 1], channel 0 the background, "bbox_regression{i}": [B, h, w, A, 4]}, where A
      is num_anchors[i].

    Raises:
      InputError: the backbone lacks a map of `levels`, `num_anchors` has not one entry for each
        map, or a map would have no cells.
    """

    backbone: Callable[..., nn.Module] = RESNETS["resnet18"]
    levels: tuple[str, ...] = ("c3", "c4", "c5")
    extras: tuple[Extra, ...] = EXTRAS
    first_extra: int = 0
    lite: bool = False
    num_classes: int = 90
    num_anchors: tuple[int, ...] = (4, 6, 6, 6, 4, 4)
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        extras = [Extra(*row) for row in self.extras]  # the caller may give plain tuples
        count = len(self.levels) + len(extras)
        if len(self.num_anchors) != count or min(self.num_anchors) < 1:
            raise InputError(
                f"num_anchors is {tuple(self.num_anchors)}: give {count} positive numbers, one for "
                f"each map ({len(self.levels)} of the backbone and {len(extras)} extras)"
            )
        maps = backbone_maps(self, images, train=train)
        for number, extra in enumerate(extras, start=self.first_extra):
            maps.append(self._extra(maps[-1], extra, f"backbone_extra_{number}", train=train))
        outputs = {}
        for number, (x, anchors) in enumerate(zip(maps, self.num_anchors, strict=True)):
            for output, kind, width in (
                ("cls_logits", "classification", self.num_classes + 1),
                ("bbox_regression", "regression", 4),
            ):
                name = f"head_{kind}_head_module_list_{number}"
                y = self._predicted(x, anchors * width, name, train=train)
                outputs[f"{output}{number}"] = by_anchor(y, anchors)
        return outputs

    def _initialised(self) -> dict[str, Any]:
        init = nn.initializers.normal(0.03) if self.lite else nn.initializers.xavier_uniform()
        return {"kernel_init": init, **dtypes_of(self)}

    def _extra(self, x: Array, extra: Extra, name: str, *, train: bool) -> Array:
        """Computes a further map."""
        norm = norm_of(self, train=train)
        conv = partial(conv_in_sequence, norm=norm, **self._initialised())
        how = {"stride": extra.stride, "padding": extra.padding}
        sides = [side + 2 * extra.padding for side in x.shape[1:3]]
        if min(sides) < extra.kernel_size:
            raise InputError(
                f"a map of {x.shape[1]}x{x.shape[2]} cells is too small for {name}, a convolution "
                f"of {extra.kernel_size}x{extra.kernel_size}: give larger images or fewer extras"
            )

        def lite(x: Array) -> Array:
            depthwise = {"groups": extra.inner, **how}
            x = conv(x, extra.inner, 1, f"{name}_0", act=nn.relu6)
            x = conv(x, extra.inner, extra.kernel_size, f"{name}_1", act=nn.relu6, **depthwise)
            return conv(x, extra.channels, 1, f"{name}_2", act=nn.relu6)

        def full(x: Array) -> Array:
            x = conv(x, extra.inner, 1, name)
            place = 2 if norm is None else 3
            return conv(x, extra.channels, extra.kernel_size, name, place, **how)

        return run_block(self, lite if self.lite else full, x)

    def _predicted(self, x: Array, channels: int, name: str, *, train: bool) -> Array:
        """Computes the output of a head."""
        initialised = self._initialised()
        if not self.lite:
            around = [(1, 1), (1, 1)]
            return Conv(channels, (3, 3), padding=around, name=name, **initialised)(x)
        depthwise = {"groups": x.shape[-1], "norm": norm_of(self, train=train), "act": nn.relu6}
        x = conv_in_sequence(x, x.shape[-1], 3, f"{name}_0", **depthwise, **initialised)
        return Conv(channels, (1, 1), name=f"{name}_1", **initialised)(x)


_LITE = {
    "levels": ("c4", "c5"),
    "extras": EXTRAS_LITE,
    "lite": True,
    "num_anchors": (6,) * 6,
    "norm": partial(batch_norm, epsilon=1e-3, momentum=0.97),
}
_OF_VGG = {"backbone": DilatedVGG, "levels": ("c3", "c4"), "first_extra": 1, "norm": None}

SSDS = {
    "ssd": SSD,
    "ssd300_vgg16": partial(SSD, extras=EXTRAS_300, **_OF_VGG),
    "ssd512_vgg16": partial(SSD, extras=EXTRAS_512, num_anchors=(4, 6, 6, 6, 6, 4, 4), **_OF_VGG),
    "ssdlite": partial(SSD, backbone=MOBILENETS_V3["mobilenet_v3_large"], **_LITE),
    "ssdlite320_mobilenet_v3_large": partial(
        SSD,
        backbone=partial(
            MOBILENETS_V3["mobilenet_v3_large"], blocks=REDUCED_LARGE, layout="ssdlite"
        ),
        **_LITE,
    ),
}
"""Torchvision's SSD300 and SSDlite, the paper's SSD512, and both kinds of heads on any backbone."""
