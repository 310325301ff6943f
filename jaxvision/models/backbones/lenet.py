"""LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
recognition", section II.B): as it is mostly told today, and as published."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import Array

from jaxvision.core import InputError, at_least_float32
from jaxvision.layers import Norm, dtypes_of, norm_of
from jaxvision.ops import avg_pool, conv2d

CONNECTIONS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""The paper's table I: the maps of S2 that each map of C3 sees."""

_DIGITS = """
..###.. ...#... ..###.. ####### .....#. ####### ..####. ####### .#####. ..###..
.#...#. ..##... .#...#. .....#. ....##. #...... .#..... ......# #.....# .#...#.
#.....# .#.#... #.....# ....#.. ...#.#. #...... #...... ......# #.....# #.....#
#.....# ...#... ......# ...#... ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ..####. .#...#. #.###.. #.###.. .....#. .#...#. #.....#
#.....# ...#... .....#. .....#. #....#. ##...#. ##...#. ....#.. ..###.. #.....#
#.....# ...#... ....#.. ......# #....#. ......# #.....# ....#.. .#...#. .#...##
#.....# ...#... ...#... ......# ####### ......# #.....# ...#... #.....# ..###.#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... #.....# .....#. #.....# #.....# ..#.... #.....# ......#
.#...#. ...#... #...... .#...#. .....#. .#...#. .#...#. ..#.... #.....# .....#.
..###.. .#####. ####### ..###.. .....#. ..###.. ..###.. ..#.... .#####. .####..
"""
_ROWS = [line.split() for line in _DIGITS.strip().splitlines()]
PROTOTYPES = np.float32(
    [[1 if pixel == "#" else -1 for pixel in "".join(rows)] for rows in zip(*_ROWS, strict=True)]
)
"""What F6 is to give for each digit, f32[10, 84]: its picture of 7x12 pixels, of which those of ink
are 1 and the others -1. The paper's are in its figure 3; these are drawn anew."""


class LeNet5(nn.Module):
    """LeNet-5 in its modern, dense form: 61,706 parameters with 10 classes.

    Layers and their names as in the paper's figure 2. Three things differ from 1998, as in most
    later tellings: C3 sees all maps of S2, the averaging of S2 and S4 has no trainable
    coefficients, and the output layer is linear instead of RBF.

    Attributes:
      num_classes: of the output layer; None builds none.
      activation: after C1, C3, C5 and F6.
      norm: applied after C1 and C3, or None as in the paper.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, 32, 32, C] -> {"c1": [B, 28, 28, 6], "c3": [B, 10, 10, 16],
      "pooled": [B, 84], "logits": [B, num_classes]}.

    Raises:
      InputError: the images are not 32x32.
    """

    num_classes: int | None = 10
    activation: Callable[[Array], Array] = nn.tanh
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        _check_images(images)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, features: int, name: str) -> Array:
            return nn.Conv(features, (5, 5), padding="VALID", name=name, **dtypes)(x)

        def norm_act(x: Array, name: str) -> Array:
            return self.activation(x if norm is None else norm(x, name=name))

        c1 = norm_act(conv(images, 6, "c1"), "bn1")
        s2 = nn.avg_pool(c1, (2, 2), strides=(2, 2))
        c3 = norm_act(conv(s2, 16, "c3"), "bn3")
        s4 = nn.avg_pool(c3, (2, 2), strides=(2, 2))
        c5 = self.activation(conv(s4, 120, "c5"))
        f6 = self.activation(nn.Dense(84, name="f6", **dtypes)(c5.reshape(len(c5), 120)))
        maps = {"c1": c1, "c3": c3, "pooled": f6}
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="output", **dtypes)(f6)
        return maps


def scaled_tanh(x: Array) -> Array:
    """1.7159 tanh(2 x / 3), which is near x from -1 to 1: the paper's appendix A."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def _uniform(fan_in: int | np.ndarray) -> nn.initializers.Initializer:
    """From -2.4 / F to 2.4 / F of a unit with F inputs: the paper's appendix A."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        values = jax.random.uniform(key, shape, minval=-2.4, maxval=2.4)
        return (values / np.broadcast_to(fan_in, shape)).astype(dtype)

    return init


class Subsampling(nn.Module):
    """The sum of each 2x2 cells, times a trainable coefficient of the map, and a trainable bias.

    Attributes:
      dtype: of the computation; None follows the input and the parameters.
      param_dtype: of the parameters.

    Call:
      x f32[B, H, W, C] -> [B, H // 2, W // 2, C].
    """

    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[-1:]
        scale = self.param("scale", _uniform(4), shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        x, scale, bias = promote_dtype(x, scale, bias, dtype=self.dtype)
        return 4 * avg_pool(x, 2) * scale[None, None, None] + bias[None, None, None]


class PartialConv(nn.Module):
    """A 5x5 convolution, each of whose maps sees some of the maps before, without padding.

    The kernel holds what is connected and no zeros: f32[5, 5, connections], those of the first map
    first.

    Attributes:
      connections: for each map, which of those before it sees.
      dtype: of the computation; None follows the input and the parameters.
      param_dtype: of the parameters.

    Call:
      x f32[B, H, W, C] -> [B, H - 4, W - 4, maps].
    """

    connections: tuple[tuple[int, ...], ...]
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        counts = [len(seen) for seen in self.connections]
        seen = np.concatenate(self.connections)
        maps = np.repeat(np.arange(len(counts)), counts)
        init = _uniform(25 * np.repeat(counts, counts))
        kernel = self.param("kernel", init, (5, 5, len(seen)), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (len(counts),), self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        whole = jnp.zeros((5, 5, x.shape[-1], len(counts)), kernel.dtype)
        whole = whole.at[:, :, seen, maps].set(kernel)
        return conv2d(x, whole) + bias[None, None, None]


class LeNet1998(nn.Module):
    """LeNet-5 as published: 60,000 parameters.

    Layers and their names as in the paper's figure 2. Each map of C3 sees some of the maps of S2,
    S2 and S4 have a trainable coefficient and a bias for each map, and the output layer compares F6
    with a picture of each digit, which is fixed: the squared distances between them are the
    logits, with a minus, so that the softmax of the loss is the paper's equation 9 but for its
    constant. The paper's images have -0.1 for background and 1.175 for ink.

    Attributes:
      num_classes: 10, as there are pictures of digits only; None builds no output layer.
      activation: after every layer but the output.
      norm: applied after C1 and C3, or None as in the paper.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, 32, 32, C] -> {"c1": [B, 28, 28, 6], "c3": [B, 10, 10, 16],
      "pooled": [B, 84], "logits": [B, 10], at most 0}.

    Raises:
      InputError: the images are not 32x32, or num_classes is another number.
    """

    num_classes: int | None = 10
    activation: Callable[[Array], Array] = scaled_tanh
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        _check_images(images)
        if self.num_classes not in (None, len(PROTOTYPES)):
            raise InputError(
                f"num_classes is {self.num_classes}: this network has prototypes of the "
                f"{len(PROTOTYPES)} digits, give {len(PROTOTYPES)} or None (or take lenet5)"
            )
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, features: int, name: str) -> Array:
            init = _uniform(25 * x.shape[-1])
            layer = nn.Conv(
                features, (5, 5), padding="VALID", kernel_init=init, name=name, **dtypes
            )
            return layer(x)

        def norm_act(x: Array, name: str) -> Array:
            return self.activation(x if norm is None else norm(x, name=name))

        c1 = norm_act(conv(images, 6, "c1"), "bn1")
        s2 = self.activation(Subsampling(name="s2", **dtypes)(c1))
        c3 = norm_act(PartialConv(CONNECTIONS, name="c3", **dtypes)(s2), "bn3")
        s4 = self.activation(Subsampling(name="s4", **dtypes)(c3))
        c5 = self.activation(conv(s4, 120, "c5")).reshape(len(images), 120)
        f6 = self.activation(nn.Dense(84, kernel_init=_uniform(120), name="f6", **dtypes)(c5))
        maps = {"c1": c1, "c3": c3, "pooled": f6}
        if self.num_classes is not None:
            difference = at_least_float32(f6)[:, None] - PROTOTYPES[None]
            maps["logits"] = -jnp.square(difference).sum(-1).astype(f6.dtype)
        return maps


def _check_images(images: Array) -> None:
    chex.assert_rank(images, 4)
    if images.shape[1:3] != (32, 32):
        raise InputError(
            f"lenet5 takes 32x32 images, got {images.shape[1]}x{images.shape[2]}: "
            "resize them (config.data.image_size=32)"
        )


LENETS = {"lenet5": LeNet5, "lenet5_1998": LeNet1998}
