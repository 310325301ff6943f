"""Network in Network (Lin, Chen & Yan 2014, "Network in network"): that of the paper for CIFAR, and
that of its authors for ImageNet."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides, side_before
from jaxvision.ops import global_avg_pool, max_pool


class Mlpconv(NamedTuple):
    """A convolution followed by 1x1 convolutions: a small network that slides over the image.

    A pooling precedes each mlpconv except the first.
    """

    channels: tuple[int, ...]
    """Channels of the convolution and of each 1x1 convolution, without those of the classifier."""
    kernel_size: int
    stride: int = 1
    padding: int = 1
    drop: bool = False
    """Whether dropout is applied to its input in training."""


CIFAR = (
    Mlpconv((192, 160, 96), 5, padding=2),
    Mlpconv((192, 192, 192), 5, padding=2, drop=True),
    Mlpconv((192, 192), 3, drop=True),
)
IMAGENET = (
    Mlpconv((96, 96, 96), 11, stride=4, padding=0),
    Mlpconv((256, 256, 256), 5, padding=2),
    Mlpconv((384, 384, 384), 3),
    Mlpconv((1024, 1024), 3, drop=True),
)


class NiN(nn.Module):
    """The Network in Network: mlpconvs with 3x3 max poolings of stride 2 between them.

    The logit of a class is the mean of a map. Convolutions are named mlpconv{i}_{j}, both from 1.
    So is the classifier, a 1x1 convolution whose map is averaged. Norms are named
    {name of the convolution}_bn. The initialisation is that of He et al. 2015; the paper does not
    state one.

    Attributes:
      stages: the mlpconvs.
      dropout: dropout rate of the inputs of the stages with `drop`, in training.
      act: activation, also of the classifier.
      norm: after each convolution except the classifier; None as in the paper.

    Call:
      images f32[B, H, W, C] -> {"c{i}": [B, H / 2^i, W / 2^i, channels], the map after each
      mlpconv, with i from 0 if the first stride is 1 and from 2 if it is 4, "pooled": [B,
      channels], means of the last map, "logits": [B, num_classes]}. The first side is
      floor((H + 2 padding - kernel_size) / stride) + 1; a pooling turns n into ceil((n - 1) / 2).
      The last map must have at least one cell: sides must be at least 4 for CIFAR, 39 for ImageNet.
      The classifier does not use "pooled", but the map before.

    Raises:
      InputError: the images are smaller than that.
    """

    stages: tuple[Mlpconv, ...]
    num_classes: int | None = 1000
    dropout: float = 0.5
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        stages = [Mlpconv(*stage) for stage in self.stages]  # the caller may give plain tuples
        least = 1
        for stage in reversed(stages):
            least = side_before(stage, least)
            least *= 1 if stage is stages[0] else 2  # A pooling needs 2 n cells to return n.
        check_sides(images, 1, more_than=least - 1)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, channels: int, kernel_size: int, *, name: str, **options: Any) -> Array:
            options = {"padding": 0, "norm": norm, "act": self.act, **options}
            options["kernel_init"] = nn.initializers.he_normal()
            names = {"name": name, "norm_name": f"{name}_bn"}
            return conv_norm_act(x, channels, kernel_size, **names, **options, **dtypes)

        def mlpconv(x: Array, *, stage: Mlpconv, name: str) -> Array:
            first, *others = stage.channels
            how = {"stride": stage.stride, "padding": stage.padding, "name": f"{name}_1"}
            x = conv(x, first, stage.kernel_size, **how)
            for number, channels in enumerate(others, start=2):
                x = conv(x, channels, 1, name=f"{name}_{number}")
            return x

        x, maps, level = images, {}, stages[0].stride.bit_length() - 1
        for number, stage in enumerate(stages, start=1):
            if number > 1:
                x = max_pool(x, 3, stride=2, ceil_mode=True)
            if stage.drop:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = run_block(self, partial(mlpconv, stage=stage, name=f"mlpconv{number}"), x)
            maps[f"c{level}"] = x
            level += 1
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            name = f"mlpconv{len(stages)}_{len(stages[-1].channels) + 1}"
            maps["logits"] = global_avg_pool(conv(x, self.num_classes, 1, name=name, norm=None))
        return maps


NINS = {
    "nin": partial(NiN, stages=IMAGENET),
    "nin_cifar": partial(NiN, stages=CIFAR, num_classes=10),
}
