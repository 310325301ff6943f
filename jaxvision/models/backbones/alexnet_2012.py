"""AlexNet as published (Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep
convolutional neural networks"): in two towers, and with local response normalisation."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError
from jaxvision.layers import Conv, Norm, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides, side_before
from jaxvision.ops import adaptive_avg_pool, local_response_norm, max_pool

local_norm = partial(local_response_norm, size=5, alpha=5e-4, beta=0.75, k=2.0)
"""Section 3.3's normalisation. Its alpha, 1e-4, is not divided by the size as the operator's is."""


class Layer(NamedTuple):
    """A convolution."""

    channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 1
    apart: bool = False
    """Whether each tower sees its own maps alone."""
    bias: float = 0.0
    """At the start of training."""


class Stage(NamedTuple):
    """A pooling, convolutions and a local response normalisation, of which any may be absent."""

    level: int
    """The map is 2^level times smaller than the image."""
    layers: tuple[Layer, ...] = ()
    pool: bool = False
    local_norm: bool = False


STAGES = (
    Stage(2, (Layer(96, 11, stride=4, padding=0),), local_norm=True),
    Stage(3, (Layer(256, 5, padding=2, apart=True, bias=1.0),), pool=True, local_norm=True),
    Stage(
        4,
        (
            Layer(384, 3),
            Layer(384, 3, apart=True, bias=1.0),
            Layer(256, 3, apart=True, bias=1.0),
        ),
        pool=True,
    ),
    Stage(5, pool=True),
)
BINS = 6
"""Of the last map, along each side."""


class AlexNet2012(nn.Module):
    """Convolutions, most of which see the maps of one tower only, and three fully connected layers.

    The towers, one on each of the paper's two GPUs, have an equal share of the channels of each
    layer, in order. The first convolution, the third and the fully connected layers see all that
    is before them; the others, and local response normalisation, stay within a tower. Poolings are
    3x3 with stride 2 and overlap. Layers are named conv1 to conv5 and fc6 to fc8, norms bn1 to bn5.
    Where the last map is not one of 6x6 it is averaged to that, so that images may have other
    sizes than 227x227. The paper's images have values from 0 to 255 with the mean taken out: the
    normalisation and the small kernels at the start are made for these.

    Attributes:
      stages: of the convolutions.
      towers: how many; 1 is the network of one device, with more connections.
      hidden: channels of the first two fully connected layers.
      hidden_bias: of these at the start of training.
      dropout: share of what these give dropped in training.
      num_classes: of the last layer; None builds no fully connected one.
      act: activation.
      remat: compute stages a second time in the backward pass, for less memory.
      norm: after each convolution, or None as in the paper.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, H, W, C], sides at least 39 -> {"c2": [B, H/4 - 1, W/4 - 1, 96], "c3":
      [B, H/8 - 1, W/8 - 1, 256], "c4": [B, H/16 - 1, W/16 - 1, 256], what each pooling sees, "c5":
      [B, H/32 - 1, W/32 - 1, 256], what the last one gives, "pooled": [B, 36 256] of that, channel
      by channel, "logits": [B, num_classes]}. Sides of 227x227 are 55, 27, 13 and 6; in general
      the first is floor((H - 11) / 4) + 1, and a pooling makes ceil((n - 1) / 2) of n. With other
      stages "c{level}" is the last map of each level. Training takes a key for "dropout", unless
      that is 0.

    Raises:
      InputError: the images are smaller than that; channels that the towers cannot share.
    """

    stages: tuple[Stage, ...] = STAGES
    towers: int = 2
    hidden: int = 4096
    hidden_bias: float = 1.0
    dropout: float = 0.5
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
        # A config may give plain tuples.
        stages = [Stage(*stage) for stage in self.stages]
        stages = [
            stage._replace(layers=tuple(Layer(*row) for row in stage.layers)) for stage in stages
        ]
        least = 1
        for stage in reversed(stages):
            for layer in reversed(stage.layers):
                if layer.channels % self.towers:
                    raise InputError(
                        f"a convolution has {layer.channels} channels: give a multiple of the "
                        f"{self.towers} towers"
                    )
                least = side_before(layer, least)
            least *= 2 if stage.pool else 1  # A pooling that is to give n cells needs 2 n.
        check_sides(images, 1, more_than=least - 1)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        kernel_init = nn.initializers.normal(0.01)

        def conv(x: Array, layer: Layer, number: int) -> Array:
            x = Conv(
                layer.channels,
                (layer.kernel_size, layer.kernel_size),
                strides=layer.stride,
                padding=layer.padding,
                feature_group_count=self.towers if layer.apart else 1,
                use_bias=norm is None,
                kernel_init=kernel_init,
                bias_init=nn.initializers.constant(layer.bias),
                name=f"conv{number}",
                **dtypes,
            )(x)
            return self.act(x if norm is None else norm(x, name=f"bn{number}"))

        def staged(x: Array, *, stage: Stage, first: int) -> Array:
            if stage.pool:
                x = max_pool(x, 3, stride=2, ceil_mode=True)
            for number, layer in enumerate(stage.layers, start=first):
                x = conv(x, layer, number)
            if stage.local_norm:
                x = local_norm(x.reshape(*x.shape[:3], self.towers, -1)).reshape(x.shape)
            return x

        x, maps, first = images, {}, 1
        for stage in stages:
            x = run_block(self, partial(staged, stage=stage, first=first), x)
            maps[f"c{stage.level}"] = x
            first += len(stage.layers)
        x = maps["pooled"] = adaptive_avg_pool(x, BINS).transpose(0, 3, 1, 2).reshape(len(x), -1)
        if self.num_classes is not None:
            dense = partial(nn.Dense, kernel_init=kernel_init, **dtypes)
            dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
            bias_init = nn.initializers.constant(self.hidden_bias)
            for name in ("fc6", "fc7"):
                x = dropout()(self.act(dense(self.hidden, bias_init=bias_init, name=name)(x)))
            maps["logits"] = dense(self.num_classes, name="fc8")(x)
        return maps


ALEXNETS_2012 = {"alexnet_2012": AlexNet2012}
