"""Inception v4 (Szegedy, Ioffe, Vanhoucke & Alemi 2017, "Inception-v4, Inception-ResNet and the
impact of residual connections on learning", figures 3 to 9)."""

from collections.abc import Callable
from functools import partial
from string import ascii_lowercase
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Conv, Norm, batch_norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides
from jaxvision.ops import avg_pool, global_avg_pool, max_pool

AVERAGE, MAXIMUM = "average", "maximum"
"""3x3 poolings: an average with stride 1 over the cells inside the map, and a maximum with stride 2
and no padding."""


class Layer(NamedTuple):
    """A convolution, its norm and its activation; it has no padding if it has a stride."""

    channels: int
    kernel_size: int | tuple[int, int] = 1
    """One size for both sides, or (height, width)."""
    stride: int = 1
    padded: bool = True
    """False where the figures have a "V"."""


Step = Layer | str | tuple[Layer, ...]
"""A layer, a pooling, or parallel layers whose channels are concatenated."""


class Module(NamedTuple):
    """Parallel branches, each a sequence of steps, whose channels are concatenated."""

    name: str
    branches: tuple[tuple[Step, ...], ...]
    repeats: int = 1
    """How many such modules follow each other; if several, they are named {name}1, {name}2, ..."""
    scale: float | None = None
    """Factor of the residual before the sum (the paper's section 3.3); None: no residual module."""
    act: bool = True
    """Whether an activation follows the sum."""


STEM = (
    (Module("stem1", ((Layer(32, 3, stride=2), Layer(32, 3, padded=False), Layer(64, 3)),)),),
    (
        Module("stem2", ((MAXIMUM,), (Layer(96, 3, stride=2),))),
        Module(
            "stem3",
            (
                (Layer(64), Layer(96, 3, padded=False)),
                (Layer(64), Layer(64, (1, 7)), Layer(64, (7, 1)), Layer(96, 3, padded=False)),
            ),
        ),
    ),
    (Module("stem4", ((Layer(192, 3, stride=2),), (MAXIMUM,))),),
)
"""Figure 3, down to a grid of 35x35."""
INCEPTION_A = Module(
    "inception_a",
    (
        (Layer(96),),
        (Layer(64), Layer(96, 3)),
        (Layer(64), Layer(96, 3), Layer(96, 3)),
        (AVERAGE, Layer(96)),
    ),
    repeats=4,
)
"""Figure 4."""
INCEPTION_B = Module(
    "inception_b",
    (
        (Layer(384),),
        (Layer(192), Layer(224, (1, 7)), Layer(256, (7, 1))),
        (
            Layer(192),
            Layer(192, (7, 1)),
            Layer(224, (1, 7)),
            Layer(224, (7, 1)),
            Layer(256, (1, 7)),
        ),
        (AVERAGE, Layer(128)),
    ),
    repeats=7,
)
"""Figure 5."""
INCEPTION_C = Module(
    "inception_c",
    (
        (Layer(256),),
        (Layer(384), (Layer(256, (1, 3)), Layer(256, (3, 1)))),
        (
            Layer(384),
            Layer(448, (3, 1)),
            Layer(512, (1, 3)),
            (Layer(256, (1, 3)), Layer(256, (3, 1))),
        ),
        (AVERAGE, Layer(256)),
    ),
    repeats=3,
)
"""Figure 6."""


def reduction_a(first: int, second: int, third: int, direct: int) -> Module:
    """Returns figure 7, from a grid of 35x35 to 17x17, with k, l, m and n of table 1."""
    branches = (
        (Layer(direct, 3, stride=2),),
        (Layer(first), Layer(second, 3), Layer(third, 3, stride=2)),
        (MAXIMUM,),
    )
    return Module("reduction_a", branches)


REDUCTION_B = Module(
    "reduction_b",
    (
        (Layer(192), Layer(192, 3, stride=2)),
        (Layer(256), Layer(256, (1, 7)), Layer(320, (7, 1)), Layer(320, 3, stride=2)),
        (MAXIMUM,),
    ),
)
"""Figure 8, from a grid of 17x17 to 8x8."""

STAGES = (
    *STEM[:2],
    (*STEM[2], INCEPTION_A),
    (reduction_a(192, 224, 256, 384), INCEPTION_B),
    (REDUCTION_B, INCEPTION_C),
)
"""Figure 9: the modules at strides 2, 4, 8, 16 and 32."""


class InceptionV4(nn.Module):
    """The Inception v4 network; with other stages, the Inception-ResNets.

    Layers are named by their module and their place in it, such as inception_a1_branch3_2_conv and
    its norm inception_a1_branch3_2_bn. If the paper's figures and the authors' released networks
    differ in the order of kernels of 1x7 and 7x1 or 1x3 and 3x1, this is the order of the released
    networks. So is the order in which channels are concatenated. The initialisation is the released
    one too; the paper does not state it.

    Attributes:
      stages: the modules at strides 2, 4, 8, 16 and 32.
      width: multiplier of all channels.
      dropout: dropout rate of the pooled features in training.
      norm: after each convolution except the last of a residual module; None gives convolutions
        with a bias.

    Call:
      images f32[B, H, W, C], sides at least 75 -> {"c1": [B, h, w, 64], "c2": [B, h, w, 192], "c3":
      [B, h, w, 384], "c4": [B, h, w, 1024], "c5": [B, h, w, 1536], the last map of each size,
      "pooled": [B, 1536], "logits": [B, num_classes]}. For 299x299 the sides are 147, 71, 35, 17
      and 8, because many convolutions are not padded: a stride turns n into floor((n - 1) / 2), and
      those before c1 and c2 remove 2.

    Raises:
      InputError: the images are smaller than that.
    """

    stages: tuple[tuple[Module, ...], ...] = STAGES
    width: float = 1.0
    num_classes: int | None = 1000
    dropout: float = 0.2
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = partial(batch_norm, epsilon=1e-3)
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_sides(images, 1, more_than=74)
        init = nn.initializers.he_normal()
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, layer: Layer, *, name: str) -> Array:
            return conv_norm_act(
                x,
                max(1, round(layer.channels * self.width)),
                layer.kernel_size,
                stride=layer.stride,
                padding=None if layer.padded and layer.stride == 1 else 0,
                name=f"{name}_conv",
                norm_name=f"{name}_bn",
                norm=norm,
                act=self.act,
                kernel_init=init,
                **dtypes,
            )

        def run(x: Array, step: Step, *, name: str) -> Array:
            if step == AVERAGE:
                return avg_pool(x, 3, stride=1, padding=1, count_include_pad=False)
            if step == MAXIMUM:
                return max_pool(x, 3, stride=2)
            if isinstance(step[0], int):
                return conv(x, Layer(*step), name=name)  # the caller may give plain tuples
            ends = [
                conv(x, Layer(*layer), name=f"{name}{letter}")
                for letter, layer in zip(ascii_lowercase, step, strict=False)
            ]
            return jnp.concatenate(ends, axis=-1)

        def inception(x: Array, *, module: Module, name: str) -> Array:
            ends = []
            for number, branch in enumerate(module.branches, start=1):
                y = x
                for place, step in enumerate(branch, start=1):
                    y = run(y, step, name=f"{name}_branch{number}_{place}")
                ends.append(y)
            y = jnp.concatenate(ends, axis=-1)
            if module.scale is None:
                return y
            linear = Conv(x.shape[-1], (1, 1), kernel_init=init, name=f"{name}_linear", **dtypes)
            x = x + module.scale * linear(y)
            return self.act(x) if module.act else x

        x, maps = images, {}
        for level, modules in enumerate(self.stages, start=1):
            for row in modules:
                module = Module(*row)
                for number in range(1, module.repeats + 1):
                    name = module.name + (str(number) if module.repeats > 1 else "")
                    x = run_block(self, partial(inception, module=module, name=name), x)
            maps[f"c{level}"] = x
        x = maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            maps["logits"] = nn.Dense(self.num_classes, name="fc", **dtypes)(x)
        return maps


INCEPTIONS_V4 = {"inception_v4": InceptionV4}
