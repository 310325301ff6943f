"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018, "MobileNetV2: inverted residuals and
linear bottlenecks")."""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, batch_norm, conv_norm_act, dtypes_of, norm_of


class Stage(NamedTuple):
    """A row of the paper's table 2."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    level: str | None = None
    """The map's name where the next row begins with a stride."""


STAGES = (
    Stage(1, 16, 1, 1, "c1"),
    Stage(6, 24, 2, 2, "c2"),
    Stage(6, 32, 3, 2, "c3"),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1, "c4"),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1, "c5"),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


def scaled(channels: int, width: float) -> int:
    """Channels times a width multiplier: a multiple of 8 near it, and at least 90 % of it."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


class MobileNetV2(nn.Module):
    """Inverted residual blocks: expand by a 1x1 convolution, filter each channel, project.

    Attributes:
      stages: rows of the paper's table 2.
      width: multiplier of all channels; of the last convolution's only where it is above 1.
      num_classes: of the classifier; None builds none.
      dropout: share of the pooled features dropped in training.
      norm: after each convolution.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 16], "c2": [B, H/4, W/4, 24],
      "c3": [B, H/8, W/8, 32], "c4": [B, H/16, W/16, 96], "c5": [B, H/32, W/32, 320],
      "pooled": [B, 1280], "logits": [B, num_classes]}; the maps are the last bottlenecks of their
      sizes, which round up. Training takes a key for "dropout", unless that is 0.
    """

    stages: tuple[Stage, ...] = STAGES
    width: float = 1.0
    num_classes: int | None = 1000
    dropout: float = 0.2
    norm: Norm = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, features: int, kernel_size: int, name: str, last: int, **options: Any):
            """Convolution and norm are the entries `last` and `last` + 1 of a sequence `name`."""
            names = {"name": f"{name}_{last}", "norm_name": f"{name}_{last + 1}"}
            options = {"act": nn.relu6, **dtypes, **names, **options}
            return conv_norm_act(x, features, kernel_size, norm=norm, **options)

        x = conv(images, scaled(STEM_CHANNELS, self.width), 3, "features_0", 0, stride=2)
        maps, index = {}, 0
        for stage in self.stages:
            features = scaled(stage.channels, self.width)
            for block in range(stage.blocks):
                index += 1
                prefix, part = f"features_{index}_conv", 0
                stride = stage.stride if block == 0 else 1
                y, inner = x, x.shape[-1] * stage.expansion
                if stage.expansion > 1:
                    y = conv(y, inner, 1, f"{prefix}_0", 0)
                    part = 1
                y = conv(y, inner, 3, f"{prefix}_{part}", 0, stride=stride, groups=inner)
                y = conv(y, features, 1, prefix, part + 1, act=None)
                x = x + y if x.shape == y.shape else y
            if stage.level is not None:
                maps[stage.level] = x
        head = scaled(HEAD_CHANNELS, max(1.0, self.width))
        x = conv(x, head, 1, f"features_{index + 1}", 0)
        maps["pooled"] = x.mean(axis=(1, 2))
        if self.num_classes is not None:
            y = nn.Dropout(self.dropout, deterministic=not train)(maps["pooled"])
            init = nn.initializers.normal(0.01)
            dense = nn.Dense(self.num_classes, kernel_init=init, name="classifier_1", **dtypes)
            maps["logits"] = dense(y)
        return maps


MOBILENETS_V2 = {"mobilenet_v2": MobileNetV2}
