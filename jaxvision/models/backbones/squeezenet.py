"""SqueezeNet (Iandola, Han, Moskewicz, Ashraf, Dally & Keutzer 2016, "SqueezeNet: AlexNet-level
accuracy with 50x fewer parameters and < 0.5 MB model size"), and the authors' version 1.1, which
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
    """The channels of a fire module; both of its expansions have as many."""

    squeeze: int
    expand: int


Stages = tuple[tuple[Fire, ...], ...]
"""The modules after each pooling."""

ALL_FIRES = (
    *(Fire(16, 64), Fire(16, 64)),
    *(Fire(32, 128), Fire(32, 128)),
    *(Fire(48, 192), Fire(48, 192)),
    *(Fire(64, 256), Fire(64, 256)),
)
"""The paper's table 1, and version 1.1's too."""


class SqueezeNet(nn.Module):
    """Fire modules: a 1x1 convolution to few channels, and a 1x1 and a 3x3 one to many, joined.

    Layers are named as in torchvision: features_{place} by their place in a sequence of the first
    convolution, ReLU, poolings and modules, and classifier_1, a 1x1 convolution whose map is
    averaged; a norm is called {name of the convolution}_bn.

    Attributes:
      stem: channels of the first convolution, of stride 2.
      kernel_size: of that one.
      stages: the modules after each pooling.
      num_classes: of the classifier; None builds none.
      dropout: share of the last map's values dropped in training.
      act: activation, of the classifier too.
      remat: compute modules a second time in the backward pass, for less memory.
      norm: after each convolution but the classifier, or None as in the paper.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, stem], "c2", "c3", "c4": the last of each
      stage, each with half the side of the one before, "pooled": [B, C], means of the last map,
      "logits": [B, num_classes]}. The first side is floor((H - kernel_size) / 2) + 1; a pooling
      makes ceil((n - 1) / 2) of n. Sides must leave one cell in the end: at least 21 with 7x7 and
      three stages, 17 with 3x3. The classifier does not see "pooled", but the map before. Training
      takes a key for "dropout", unless that is 0.

    Raises:
      InputError: the images are smaller than that.
    """

    stem: int
    kernel_size: int
    stages: Stages
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
        # A pooling that is to give n cells needs 2 n.
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
            last = {"norm": None, "kernel_init": nn.initializers.normal(0.01)}
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
