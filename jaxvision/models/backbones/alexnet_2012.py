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
"""The normalisation of section 3.3. The operator divides alpha by the size, the paper does not; so
the paper's 1e-4 is 5e-4 here."""


class Layer(NamedTuple):
    """A convolution."""

    channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 1
    apart: bool = False
    """Whether each tower only uses its own maps."""
    bias: float = 0.0
    """Initial value of the biases."""


class Stage(NamedTuple):
    """A pooling, convolutions and a local response normalisation, each of them optional."""

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
"""Side of the map before the fully connected layers."""


class AlexNet2012(nn.Module):
    """The AlexNet network as published: five convolutions in two towers, three dense layers.

    The channels of each layer are divided equally between the towers, in order; in the paper, each
    tower is on one of two GPUs. The first convolution, the third and the fully connected layers use
    all channels of their input. The other convolutions and local response normalisation only use
    those of their tower. Poolings are 3x3 with stride 2, so they overlap. Layers are named conv1 to
    conv5 and fc6 to fc8, norms bn1 to bn5. A last map that is not 6x6 is averaged to 6x6, so images
    may have other sizes than 227x227. Images in the paper have values from 0 to 255 minus the mean;
    the normalisation and the small initial weights are made for these.

    Attributes:
      stages: stages of convolutions.
      towers: number of towers; 1 gives a network for one device, with more connections.
      hidden: channels of the first two fully connected layers.
      hidden_bias: initial value of the biases of these two layers.
      dropout: dropout rate after these two layers, in training.
      num_classes: classes of the last layer; None builds no fully connected layers.
      norm: after each convolution; None as in the paper.

    Call:
      images f32[B, H, W, C], sides at least 39 -> {"c2": [B, H/4 - 1, W/4 - 1, 96], "c3":
      [B, H/8 - 1, W/8 - 1, 256], "c4": [B, H/16 - 1, W/16 - 1, 256], the input of each pooling,
      "c5": [B, H/32 - 1, W/32 - 1, 256], the output of the last one, "pooled": [B, 36 256], c5
      averaged to 6x6 and flattened channel by channel, "logits": [B, num_classes]}. For 227x227 the
      sides are 55, 27, 13 and 6; in general the first is floor((H - 11) / 4) + 1, and a pooling
      turns n into ceil((n - 1) / 2). With other stages "c{level}" is the last map of each level.

    Raises:
      InputError: the images are smaller than that, or `towers` does not divide the channels of a
        convolution.
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
        # The caller may give plain tuples.
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
            least *= 2 if stage.pool else 1  # A pooling needs 2 n cells to return n.
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
