"""GoogLeNet (Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke & Rabinovich 2015,
"Going deeper with convolutions"), as published, and with batch normalisation (Ioffe & Szegedy
2015)."""

from collections.abc import Callable
from functools import partial
from string import ascii_lowercase
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.layers import Norm, batch_norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.backbones.alexnet_2012 import local_norm
from jaxvision.models.published import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.models.sides import check_sides
from jaxvision.ops import adaptive_avg_pool, avg_pool, global_avg_pool, max_pool


class Inception(NamedTuple):
    """The channels of a module's branches: a row of the paper's table 1."""

    direct: int
    """Channels of a 1x1 convolution."""
    small: tuple[int, int]
    """Channels of a 1x1 convolution and the 3x3 after it."""
    large: tuple[int, int]
    """Channels of a 1x1 convolution and the one after it, 5x5 in the paper or 3x3."""
    pooled: int
    """Channels of a 1x1 convolution after a max pooling."""
    aux: str | None = None
    """Name of the auxiliary classifier on the module, if there is one."""


STAGES = (
    (
        Inception(64, (96, 128), (16, 32), 32),
        Inception(128, (128, 192), (32, 96), 64),
    ),
    (
        Inception(192, (96, 208), (16, 48), 64, aux="aux1"),
        Inception(160, (112, 224), (24, 64), 64),
        Inception(128, (128, 256), (24, 64), 64),
        Inception(112, (144, 288), (32, 64), 64, aux="aux2"),
        Inception(256, (160, 320), (32, 128), 128),
    ),
    (
        Inception(256, (160, 320), (32, 128), 128),
        Inception(384, (192, 384), (48, 128), 128),
    ),
)
STEM = (64, 64, 192)
AUX_CHANNELS, AUX_HIDDEN, AUX_BINS = 128, 1024, 4
"""Channels of the convolution and of the first dense layer of an auxiliary classifier, and the side
of its map."""


def renormalize(images: Array) -> Array:
    """Converts RGB images normalised with ImageNet's mean and std to a mean and std of 0.5.

    Weights from TensorFlow were trained on such images. f32[B, H, W, 3] -> f32[B, H, W, 3].
    """
    figures = np.array([IMAGENET_MEAN, IMAGENET_STD], np.float32)
    mean, deviation = figures[:, None, None, None].astype(images.dtype)
    return images * (deviation / 0.5) + (mean - 0.5) / 0.5


class GoogLeNet(nn.Module):
    """The GoogLeNet network, with Inception modules: parallel convolutions of several sizes.

    Layers are named as in torchvision: inception3a_branch2_0_conv and its norm
    inception3a_branch2_0_bn. By default the network is that of torchvision: a norm replaces local
    response normalisation, the branch with 5x5 in the paper has 3x3, the last pooling is 2x2, and
    auxiliary classifiers average a map of any size to 4x4 cells. "googlenet_2014" is that of the
    paper.

    Attributes:
      stages: the modules of each size of map.
      width: multiplier of all channels.
      large_kernel: side of the large convolution in a module, 5 in the paper.
      local_norm: whether there is local response normalisation after the first pooling and before
        the second, as in the paper. Its parameters are AlexNet's; the paper does not state them.
      last_pool: side of the last pooling, 3 in the paper.
      aux: whether to build the auxiliary classifiers, for more losses in training.
      aux_pool: side and stride of an average pooling before these classifiers, (5, 3) in the paper.
        Its result is averaged to 4x4 cells, the size that it has for images of 224x224.
      dropout: dropout rate of the pooled features in training.
      dropout_aux: dropout rate after the first dense layer of an auxiliary classifier.
      transform_input: whether to convert images with ImageNet's mean and standard deviation to
        those that the weights were trained with: see `renormalize`.
      kernel_init: initialisation of the convolutions; the paper does not state it.

    Call:
      images f32[B, H, W, C], sides at least 15 -> {"c1": [B, H/2, W/2, 64], "c2": [B, H/4, W/4,
      192], "c3": [B, H/8, W/8, 480], "c4": [B, H/16, W/16, 832], "c5": [B, H/32, W/32, 1024], the
      last map of each size, "pooled": [B, 1024], "logits": [B, num_classes], and in training with
      `aux` "aux1" and "aux2": [B, num_classes]}. The first side rounds up, and so does the last
      after a 2x2 pooling; the others are ceil((n - 1) / 2), with n the side before. In the form of
      the paper, sides must be at least 31, or 79 with `aux`.

    Raises:
      InputError: the images are smaller than that.
    """

    stages: tuple[tuple[Inception, ...], ...] = STAGES
    width: float = 1.0
    large_kernel: int = 3
    local_norm: bool = False
    last_pool: int = 2
    num_classes: int | None = 1000
    aux: bool = False
    aux_pool: tuple[int, int] | None = None
    dropout: float = 0.2
    dropout_aux: float = 0.7
    transform_input: bool = False
    act: Callable[[Array], Array] = nn.relu
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.01)
    remat: bool = False
    norm: Norm | None = partial(batch_norm, epsilon=1e-3)
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        least = self.last_pool - 1  # side of c4, which auxiliary classifiers use too
        if self.aux and self.aux_pool is not None:
            least = max(least, self.aux_pool[0])
        check_sides(images, 1, more_than=16 * least - 2)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        dense = partial(nn.Dense, kernel_init=nn.initializers.normal(0.01), **dtypes)

        def scaled(channels: int) -> int:
            return max(1, round(channels * self.width))

        def conv(x: Array, channels: int, kernel_size: int, *, name: str, stride: int = 1) -> Array:
            names = {"name": f"{name}_conv", "norm_name": f"{name}_bn"}
            how = {"stride": stride, "norm": norm, "act": self.act}
            how["kernel_init"] = self.kernel_init
            return conv_norm_act(x, scaled(channels), kernel_size, **names, **how, **dtypes)

        def inception(x: Array, *, channels: Inception, name: str) -> Array:
            branches = [conv(x, channels.direct, 1, name=f"{name}_branch1")]
            for branch, (inner, outer), side in (
                (2, channels.small, 3),
                (3, channels.large, self.large_kernel),
            ):
                y = conv(x, inner, 1, name=f"{name}_branch{branch}_0")
                branches.append(conv(y, outer, side, name=f"{name}_branch{branch}_1"))
            y = max_pool(x, 3, stride=1, padding=1)
            branches.append(conv(y, channels.pooled, 1, name=f"{name}_branch4_1"))
            return jnp.concatenate(branches, axis=-1)

        def auxiliary(x: Array, *, name: str) -> Array:
            if self.aux_pool is not None:
                side, stride = self.aux_pool
                x = avg_pool(x, side, stride=stride)
            x = conv(adaptive_avg_pool(x, AUX_BINS), AUX_CHANNELS, 1, name=f"{name}_conv")
            x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
            x = self.act(dense(scaled(AUX_HIDDEN), name=f"{name}_fc1")(x))
            x = nn.Dropout(self.dropout_aux, deterministic=not train)(x)
            return dense(self.num_classes, name=f"{name}_fc2")(x)

        pool = partial(max_pool, stride=2, ceil_mode=True)
        first, second, third = STEM
        x = renormalize(images) if self.transform_input else images
        maps = {"c1": conv(x, first, 7, stride=2, name="conv1")}
        x = pool(maps["c1"], 3)
        x = conv(local_norm(x) if self.local_norm else x, second, 1, name="conv2")
        x = conv(x, third, 3, name="conv3")
        x = maps["c2"] = local_norm(x) if self.local_norm else x
        # Their parameters are there in evaluation too, however the network was initialised.
        with_aux = self.aux and self.num_classes is not None
        with_aux = with_aux and (train or self.is_initializing())
        for stage, modules in enumerate(self.stages, start=3):
            x = pool(x, self.last_pool if stage == 5 else 3)
            for letter, row in zip(ascii_lowercase, modules, strict=False):
                channels = Inception(*row)  # the caller may give plain tuples
                name = f"inception{stage}{letter}"
                x = run_block(self, partial(inception, channels=channels, name=name), x)
                if with_aux and channels.aux is not None:
                    logits = auxiliary(x, name=channels.aux)
                    if train:
                        maps[channels.aux] = logits
            maps[f"c{stage}"] = x
        x = maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            maps["logits"] = dense(self.num_classes, name="fc")(x)
        return maps


GOOGLENETS = {
    "googlenet": GoogLeNet,
    "googlenet_2014": partial(
        GoogLeNet,
        large_kernel=5,
        local_norm=True,
        last_pool=3,
        aux_pool=(5, 3),
        dropout=0.4,
        kernel_init=nn.initializers.he_normal(),
        norm=None,
    ),
}
