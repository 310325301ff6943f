"""SqueezeNet (Iandola, Han, Moskewicz, Ashraf, Dally & Keutzer 2016, "SqueezeNet: AlexNet-level
accuracy with 50x fewer parameters and < 0.5 MB model size"), and version 1.1 of the authors, which
pools earlier."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides
from jaxvision.ops import global_avg_pool, max_pool


class Fire(NamedTuple):
    """The channels of a fire module."""

    squeeze: int
    expand: int
    """Channels of each of the two expansions."""


Stages = tuple[tuple[Fire, ...], ...]
"""The fire modules after each pooling."""

ALL_FIRES = (
    *(Fire(16, 64), Fire(16, 64)),
    *(Fire(32, 128), Fire(32, 128)),
    *(Fire(48, 192), Fire(48, 192)),
    *(Fire(64, 256), Fire(64, 256)),
)
"""The paper's table 1; version 1.1 has the same modules."""


class SqueezeNet(nn.Module):
    """The SqueezeNet network.

    Its fire modules have a 1x1 convolution to few channels, then a 1x1 and a 3x3 convolution to
    many channels, which are concatenated. Layers are named as in torchvision: features_{place} by
    their place in a sequence of the first convolution, ReLU, poolings and modules, and
    classifier_1, a 1x1 convolution whose map is averaged. A norm is named
    {name of the convolution}_bn.

    Attributes:
      stem: channels of the first convolution, which has stride 2.
      kernel_size: side of its kernel.
      stages: the modules after each pooling.
      classifier_padding: zeros around the input of the classifier: 1 in version 1.0 of the authors'
        release for Caffe, 0 in torchvision. Padded cells give the classifier's bias.
      dropout: dropout rate of the last map, in training.
      act: activation, also of the classifier.
      norm: after each convolution except the classifier; None as in the paper.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, stem], "c2", "c3", "c4": the output of each
      stage, each with half the side of the one before, "pooled": [B, C], means of the last map,
      "logits": [B, num_classes]}. The first side is floor((H - kernel_size) / 2) + 1; a pooling
      turns n into ceil((n - 1) / 2). The last map must have at least one cell: sides must be at
      least 21 with 7x7 and three stages, 17 with 3x3. The classifier does not use "pooled", but
      the map before.

    Raises:
      InputError: the images are smaller than that.
    """

    stem: int
    kernel_size: int
    stages: Stages
    num_classes: int | None = 1000
    classifier_padding: int = 0
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
        # A pooling needs 2 n cells to return n.
        check_sides(images, 1, more_than=self.kernel_size + 2 * (2 ** len(self.stages) - 1) - 1)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, channels: int, kernel_size: int, *, name: str, **options: Any) -> Array:
            options = {
                "norm_name": f"{name}_bn",
                "norm": norm,
                "act": self.act,
                "kernel_init": nn.initializers.he_uniform(),
                **options,
            }
            return conv_norm_act(x, channels, kernel_size, name=name, **options, **dtypes)

        def fire(x: Array, *, channels: Fire, name: str) -> Array:
            squeeze, expand = channels
            x = conv(x, squeeze, 1, name=f"{name}_squeeze")
            expanded = [
                conv(x, expand, size, name=f"{name}_expand{size}x{size}") for size in (1, 3)
            ]
            return jnp.concatenate(expanded, axis=-1)

        x = conv(images, self.stem, self.kernel_size, stride=2, padding=0, name="features_0")
        maps, place = {"c1": x}, 3
        for level, stage in enumerate(self.stages, start=2):
            x = max_pool(x, 3, stride=2, ceil_mode=True)
            for channels in stage:
                x = run_block(self, partial(fire, channels=channels, name=f"features_{place}"), x)
                place += 1
            maps[f"c{level}"] = x
            place += 1
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            last = {
                "norm": None,
                "kernel_init": nn.initializers.normal(0.01),
                "padding": self.classifier_padding,
            }
            maps["logits"] = global_avg_pool(
                conv(x, self.num_classes, 1, name="classifier_1", **last)
            )
        return maps


SQUEEZENETS = {
    "squeezenet1_0": partial(
        SqueezeNet,
        stem=96,
        kernel_size=7,
        stages=(ALL_FIRES[:3], ALL_FIRES[3:7], ALL_FIRES[7:]),
    ),
    "squeezenet1_1": partial(
        SqueezeNet,
        stem=64,
        kernel_size=3,
        stages=(ALL_FIRES[:2], ALL_FIRES[2:4], ALL_FIRES[4:]),
    ),
}
