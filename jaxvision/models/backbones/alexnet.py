"""AlexNet (Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional
neural networks"), in the form of Krizhevsky 2014, "One weird trick for parallelizing convolutional
neural networks", which is for one device and without local response normalisation."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides, side_before
from jaxvision.ops import adaptive_avg_pool, max_pool


class Layer(NamedTuple):
    """A convolution."""

    place: int
    """Its place in torchvision's sequence of convolutions, activations and poolings."""
    channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 1


STAGES = (
    (Layer(0, 64, 11, stride=4, padding=2),),
    (Layer(3, 192, 5, padding=2),),
    (Layer(6, 384, 3), Layer(8, 256, 3), Layer(10, 256, 3)),
)
"""The convolutions before each 3x3 max pooling of stride 2."""
BINS = 6
"""Side of the map before the fully connected layers."""


class AlexNet(nn.Module):
    """The AlexNet network for one device: five convolutions, three fully connected layers.

    Layers are named as in torchvision: features_{place} by their place in a sequence of
    convolution, ReLU and pooling, classifier_1, classifier_4 and classifier_6. A norm is named
    features_{place}_bn. As in torchvision, the last map is averaged to 6x6 cells, so images may
    have other sizes than 224x224.

    Attributes:
      stages: the convolutions before each max pooling.
      hidden: channels of the first two fully connected layers.
      dropout: dropout rate of the inputs of these two layers, in training.
      num_classes: classes of the last layer; None builds no fully connected layers.
      norm: after each convolution; None as in the paper.

    Call:
      images f32[B, H, W, C], sides at least 63 -> {"c2": [B, H/4 - 1, W/4 - 1, 64], "c3":
      [B, H/8 - 1, W/8 - 1, 192], "c4": [B, H/16 - 1, W/16 - 1, 256], the input of each pooling,
      "c5": [B, H/32 - 1, W/32 - 1, 256], the output of the last one, "pooled": [B, 36 256], c5
      averaged to 6x6 and flattened channel by channel, "logits": [B, num_classes]}. These sizes are
      exact if 32 divides the sides; for 224x224 they are 55, 27, 13 and 6.

    Raises:
      InputError: the images are smaller than that.
    """

    stages: tuple[tuple[Layer, ...], ...] = STAGES
    hidden: int = 4096
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
        least = 1  # Cells after the last pooling; a pooling needs 2 n + 1 cells to return n.
        for stage in reversed(self.stages):
            least = 2 * least + 1
            for layer in reversed(stage):
                least = side_before(layer, least)
        check_sides(images, 1, more_than=least - 1)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def convolved(x: Array, *, stage: tuple[Layer, ...]) -> Array:
            for place, channels, kernel_size, stride, padding in stage:
                names = {"name": f"features_{place}", "norm_name": f"features_{place}_bn"}
                how = {"stride": stride, "padding": padding, "act": self.act, "norm": norm}
                x = conv_norm_act(x, channels, kernel_size, **how, **names, **dtypes)
            return x

        x, maps = images, {}
        for level, stage in enumerate(self.stages, start=2):
            x = maps[f"c{level}"] = run_block(self, partial(convolved, stage=stage), x)
            x = max_pool(x, 3, stride=2)
        maps[f"c{len(self.stages) + 2}"] = x
        x = maps["pooled"] = adaptive_avg_pool(x, BINS).transpose(0, 3, 1, 2).reshape(len(x), -1)
        if self.num_classes is not None:
            dense = partial(nn.Dense, kernel_init=nn.initializers.normal(0.01), **dtypes)
            dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
            for name in ("classifier_1", "classifier_4"):
                x = self.act(dense(self.hidden, name=name)(dropout()(x)))
            maps["logits"] = dense(self.num_classes, name="classifier_6")(x)
        return maps


ALEXNETS = {"alexnet": AlexNet}
