"""VGG (Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image
recognition")."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, batch_norm, conv_in_sequence, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides
from jaxvision.ops import adaptive_avg_pool, max_pool


class Stage(NamedTuple):
    """3x3 convolutions at one resolution, followed by a 2x2 max pooling."""

    channels: int
    convolutions: int


VGG_11 = (Stage(64, 1), Stage(128, 1), Stage(256, 2), Stage(512, 2), Stage(512, 2))
VGG_13 = (Stage(64, 2), Stage(128, 2), Stage(256, 2), Stage(512, 2), Stage(512, 2))
VGG_16 = (Stage(64, 2), Stage(128, 2), Stage(256, 3), Stage(512, 3), Stage(512, 3))
VGG_19 = (Stage(64, 2), Stage(128, 2), Stage(256, 4), Stage(512, 4), Stage(512, 4))
"""Configurations A, B, D and E of the paper's table 1."""


class VGG(nn.Module):
    """The VGG network: stages of 3x3 convolutions, and three fully connected layers.

    Layers are named as in torchvision: features_{place} by their place in a sequence of
    convolution, norm, ReLU and pooling, classifier_0, classifier_3 and classifier_6. As in
    torchvision, the convolutions have a bias even if a norm follows, and the last map is averaged
    to 7x7 cells, so images may have other sizes than 224x224.

    Attributes:
      stages: stages of convolutions.
      hidden: channels of the first two fully connected layers.
      dropout: dropout rate after these two layers, in training.
      ceil_mode: whether to round up when a pooling halves an odd side, as Caffe does: for all
        poolings, or one value for each.
      num_classes: classes of the last layer; None builds no fully connected layers.
      norm: after each convolution; None as in the paper.

    Call:
      images f32[B, H, W, C], sides at least 2^n (32), where n is the number of stages ->
      {"c{level}": [B, H / 2^level, W / 2^level, channels], the input of the pooling after each
      stage, and at level n the output of the last pooling, "pooled": [B, 49 channels], the map of
      level n averaged to 7x7 and flattened channel by channel, "logits": [B, num_classes]}. Sizes
      round down, or up with `ceil_mode`.

    Raises:
      InputError: the images are smaller than that, and some pooling rounds down.
    """

    stages: tuple[Stage, ...]
    hidden: int = 4096
    dropout: float = 0.5
    ceil_mode: bool | tuple[bool, ...] = False
    num_classes: int | None = 1000
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        upwards = self.ceil_mode
        if isinstance(upwards, bool):
            upwards = (upwards,) * len(self.stages)
        if not all(upwards):
            check_sides(images, 1, more_than=2 ** len(self.stages) - 1)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        step = 2 if norm is None else 3
        conv = partial(conv_in_sequence, norm=norm, use_bias=True, act=self.act, **dtypes)

        def convolved(x: Array, *, channels: int, places: range):
            for place in places:
                x = conv(x, channels, 3, "features", place)
            return x

        x, maps, place = images, {}, 0
        for level, (channels, convolutions) in enumerate(self.stages):
            places = range(place, place + step * convolutions, step)
            stage = partial(convolved, channels=channels, places=places)
            x = maps[f"c{level}"] = run_block(self, stage, x)
            x = max_pool(x, 2, ceil_mode=upwards[level])
            place = places.stop + 1
        maps[f"c{len(self.stages)}"] = x
        x = maps["pooled"] = adaptive_avg_pool(x, 7).transpose(0, 3, 1, 2).reshape(len(x), -1)
        if self.num_classes is not None:
            dense = partial(nn.Dense, kernel_init=nn.initializers.normal(0.01), **dtypes)
            dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
            for name in ("classifier_0", "classifier_3"):
                x = dropout()(self.act(dense(self.hidden, name=name)(x)))
            maps["logits"] = dense(self.num_classes, name="classifier_6")(x)
        return maps


VGGS = {
    "vgg11": partial(VGG, stages=VGG_11),
    "vgg11_bn": partial(VGG, stages=VGG_11, norm=batch_norm),
    "vgg13": partial(VGG, stages=VGG_13),
    "vgg13_bn": partial(VGG, stages=VGG_13, norm=batch_norm),
    "vgg16": partial(VGG, stages=VGG_16),
    "vgg16_bn": partial(VGG, stages=VGG_16, norm=batch_norm),
    "vgg19": partial(VGG, stages=VGG_19),
    "vgg19_bn": partial(VGG, stages=VGG_19, norm=batch_norm),
}
