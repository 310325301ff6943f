"""Inception v3 (Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, "Rethinking the Inception
architecture for computer vision", section 6)."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, batch_norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.backbones.googlenet import renormalize
from jaxvision.models.sides import check_sides
from jaxvision.ops import avg_pool, global_avg_pool, max_pool

AVERAGE, MAXIMUM = "average", "maximum"
"""3x3 poolings: average with stride 1 and padding, maximum with stride 2 and no padding."""


class Layer(NamedTuple):
    """A convolution, its norm and its activation; it has no padding if it has a stride."""

    name: str
    channels: int
    kernel_size: int | tuple[int, int] = 1
    stride: int = 1


Step = Layer | str | tuple[Layer, ...]
"""A layer, a pooling, or parallel layers whose channels are concatenated."""


class Module(NamedTuple):
    """Parallel branches, each a sequence of steps, whose channels are concatenated."""

    name: str
    branches: tuple[tuple[Step, ...], ...]


def square(name: str, pooled: int) -> Module:
    """Returns the module of the paper's figure 5, with a 5x5 convolution in one branch."""
    return Module(
        name,
        (
            (Layer("branch1x1", 64),),
            (Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, 5)),
            (
                Layer("branch3x3dbl_1", 64),
                Layer("branch3x3dbl_2", 96, 3),
                Layer("branch3x3dbl_3", 96, 3),
            ),
            (AVERAGE, Layer("branch_pool", pooled)),
        ),
    )


def factorized(name: str, inner: int) -> Module:
    """Returns the module of figure 6, with convolutions of 1x7 and 7x1 instead of 7x7."""
    return Module(
        name,
        (
            (Layer("branch1x1", 192),),
            (
                Layer("branch7x7_1", inner),
                Layer("branch7x7_2", inner, (1, 7)),
                Layer("branch7x7_3", 192, (7, 1)),
            ),
            (
                Layer("branch7x7dbl_1", inner),
                Layer("branch7x7dbl_2", inner, (7, 1)),
                Layer("branch7x7dbl_3", inner, (1, 7)),
                Layer("branch7x7dbl_4", inner, (7, 1)),
                Layer("branch7x7dbl_5", 192, (1, 7)),
            ),
            (AVERAGE, Layer("branch_pool", 192)),
        ),
    )


def expanded(name: str) -> Module:
    """Returns the module of figure 7, with parallel convolutions of 1x3 and 3x1."""
    return Module(
        name,
        (
            (Layer("branch1x1", 320),),
            (
                Layer("branch3x3_1", 384),
                (Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1))),
            ),
            (
                Layer("branch3x3dbl_1", 448),
                Layer("branch3x3dbl_2", 384, 3),
                (Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))),
            ),
            (AVERAGE, Layer("branch_pool", 192)),
        ),
    )


REDUCTION_17 = Module(
    "Mixed_6a",
    (
        (Layer("branch3x3", 384, 3, stride=2),),
        (
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, 3),
            Layer("branch3x3dbl_3", 96, 3, stride=2),
        ),
        (MAXIMUM,),
    ),
)
REDUCTION_8 = Module(
    "Mixed_7a",
    (
        (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, 3, stride=2)),
        (
            Layer("branch7x7x3_1", 192),
            Layer("branch7x7x3_2", 192, (1, 7)),
            Layer("branch7x7x3_3", 192, (7, 1)),
            Layer("branch7x7x3_4", 192, 3, stride=2),
        ),
        (MAXIMUM,),
    ),
)
"""Figure 10: from a grid of 35x35 to one of 17x17, and from that to 8x8."""

STAGES = (
    (square("Mixed_5b", 32), square("Mixed_5c", 64), square("Mixed_5d", 64)),
    (
        REDUCTION_17,
        factorized("Mixed_6b", 128),
        factorized("Mixed_6c", 160),
        factorized("Mixed_6d", 160),
        factorized("Mixed_6e", 192),
    ),
    (REDUCTION_8, expanded("Mixed_7b"), expanded("Mixed_7c")),
)
"""The modules at strides 8, 16 and 32."""


class InceptionV3(nn.Module):
    """The Inception v3 network: Inception modules with factorised convolutions.

    Layers are named as in torchvision: Mixed_5b_branch1x1_conv and its norm
    Mixed_5b_branch1x1_bn.

    Attributes:
      stages: the modules at strides 8, 16 and 32; the last two start with a reduction of the grid.
      width: multiplier of all channels.
      aux: whether to build the auxiliary classifier, for a second loss in training.
      dropout: dropout rate of the pooled features in training.
      transform_input: whether to convert images with ImageNet's mean and standard deviation to
        those that the weights were trained with: see `googlenet.renormalize`.

    Call:
      images f32[B, H, W, C], sides at least 75 -> {"c1": [B, h, w, 64], "c2": [B, h, w, 192], "c3":
      [B, h, w, 288], "c4": [B, h, w, 768], "c5": [B, h, w, 2048], the last map of each size,
      "pooled": [B, 2048], "logits": [B, num_classes], and in training with `aux` "aux": [B,
      num_classes]}. For 299x299 the sides are 147, 71, 35, 17 and 8, because many convolutions are
      not padded: a stride turns n into floor((n - 1) / 2), and the second convolution and the one
      before c2 remove 2. With `aux`, images must be at least 299x299 in training and when
      parameters are initialised.

    Raises:
      InputError: the images are smaller than that.
    """

    stages: tuple[tuple[Module, ...], ...] = STAGES
    width: float = 1.0
    num_classes: int | None = 1000
    aux: bool = False
    dropout: float = 0.5
    transform_input: bool = False
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = partial(batch_norm, epsilon=1e-3)
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        # The parameters exist in evaluation too, whether initialised with `train` or not.
        with_aux = self.aux and self.num_classes is not None
        with_aux = with_aux and (train or self.is_initializing())
        check_sides(images, 1, more_than=298 if with_aux else 74)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(
            x: Array,
            layer: Layer,
            *,
            prefix: str = "",
            padding: int | None = None,
            deviation: float = 0.1,
        ) -> Array:
            name = prefix + layer.name
            return conv_norm_act(
                x,
                max(1, round(layer.channels * self.width)),
                layer.kernel_size,
                stride=layer.stride,
                padding=0 if layer.stride > 1 else padding,
                name=f"{name}_conv",
                norm_name=f"{name}_bn",
                norm=norm,
                act=self.act,
                kernel_init=nn.initializers.normal(deviation),
                **dtypes,
            )

        def dense(x: Array, *, name: str, deviation: float) -> Array:
            init = nn.initializers.normal(deviation)
            return nn.Dense(self.num_classes, kernel_init=init, name=name, **dtypes)(x)

        def run(x: Array, step: Step, *, prefix: str) -> Array:
            if isinstance(step, Layer):
                return conv(x, step, prefix=prefix)
            if step == AVERAGE:
                return avg_pool(x, 3, stride=1, padding=1)
            if step == MAXIMUM:
                return max_pool(x, 3, stride=2)
            return jnp.concatenate([conv(x, layer, prefix=prefix) for layer in step], axis=-1)

        def inception(x: Array, *, module: Module) -> Array:
            step = partial(run, prefix=f"{module.name}_")
            ends = [reduce(step, branch, x) for branch in module.branches]
            return jnp.concatenate(ends, axis=-1)

        x = renormalize(images) if self.transform_input else images
        x = conv(x, Layer("Conv2d_1a_3x3", 32, 3, stride=2))
        x = conv(x, Layer("Conv2d_2a_3x3", 32, 3), padding=0)
        x = conv(x, Layer("Conv2d_2b_3x3", 64, 3))
        maps = {"c1": x}
        x = conv(max_pool(x, 3, stride=2), Layer("Conv2d_3b_1x1", 80))
        x = maps["c2"] = conv(x, Layer("Conv2d_4a_3x3", 192, 3), padding=0)
        x = max_pool(x, 3, stride=2)
        for level, modules in enumerate(self.stages, start=3):
            for module in modules:
                x = run_block(self, partial(inception, module=module), x)
            maps[f"c{level}"] = x
        if with_aux:
            y = avg_pool(maps["c4"], 5, stride=3)
            y = conv(y, Layer("AuxLogits_conv0", 128))
            y = conv(y, Layer("AuxLogits_conv1", 768, 5), padding=0, deviation=0.01)
            logits = dense(global_avg_pool(y), name="AuxLogits_fc", deviation=0.001)
            if train:
                maps["aux"] = logits
        x = maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            maps["logits"] = dense(x, name="fc", deviation=0.1)
        return maps


INCEPTIONS_V3 = {"inception_v3": InceptionV3}
