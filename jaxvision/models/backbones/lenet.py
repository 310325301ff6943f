"""LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
recognition", section II.B), in its usual modern form and as published."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import Array

from jaxvision.core import InputError, at_least_float32
from jaxvision.layers import Norm, dtypes_of, norm_of, run_block
from jaxvision.ops import avg_pool, conv2d

CONNECTIONS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""The paper's table I: the maps of S2 to which each map of C3 is connected."""

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
"""The target of F6 for each digit, f32[10, 84]: a picture of 7x12 pixels, in which ink is 1 and
background -1. The paper's are in its figure 3; these are drawn anew."""


class LeNet5(nn.Module):
    """The LeNet-5 network in its usual modern form, with 61,706 parameters for 10 classes.

    Layers have the names of the paper's figure 2. Three things differ from the network of 1998, as
    in most later descriptions: C3 is connected to all maps of S2, the averaging of S2 and S4 has no
    trainable coefficients, and the output layer is linear instead of RBF.

    Attributes:
      num_classes: classes of the output layer; None builds no output layer.
      activation: activation after C1, C3, C5 and F6.
      norm: after C1 and C3; None as in the paper.

    Call:
      images f32[B, 32, 32, C] -> {"c1": [B, 28, 28, 6], "c3": [B, 10, 10, 16],
      "pooled": [B, 84], "logits": [B, num_classes]}.

    Raises:
      InputError: the images are not 32x32.
    """

    num_classes: int | None = 10
    activation: Callable[[Array], Array] = nn.tanh
    remat: bool = False
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

        def block(x: Array, *, features: int, number: int) -> Array:
            x = conv(x, features, f"c{number}")
            return self.activation(x if norm is None else norm(x, name=f"bn{number}"))

        c1 = run_block(self, partial(block, features=6, number=1), images)
        s2 = nn.avg_pool(c1, (2, 2), strides=(2, 2))
        c3 = run_block(self, partial(block, features=16, number=3), s2)
        s4 = nn.avg_pool(c3, (2, 2), strides=(2, 2))
        c5 = self.activation(conv(s4, 120, "c5"))
        f6 = self.activation(nn.Dense(84, name="f6", **dtypes)(c5.reshape(len(c5), 120)))
        maps = {"c1": c1, "c3": c3, "pooled": f6}
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="output", **dtypes)(f6)
        return maps


def scaled_tanh(x: Array) -> Array:
    """Computes 1.7159 tanh(2 x / 3), which is close to x from -1 to 1: the paper's appendix A."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def _uniform(fan_in: int | np.ndarray) -> nn.initializers.Initializer:
    """Initialises uniformly from -2.4 / F to 2.4 / F, for F inputs: the paper's appendix A."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        values = jax.random.uniform(key, shape, minval=-2.4, maxval=2.4)
        return (values / np.broadcast_to(fan_in, shape)).astype(dtype)

    return init


class Subsampling(nn.Module):
    """Sums each 2x2 cells, multiplies by a trainable scale of the map and adds a trainable bias.

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
    """A 5x5 convolution without padding, in which each output map uses some of the input maps.

    The kernel holds only the existing connections: f32[5, 5, connections], output map by output
    map.

    Attributes:
      connections: for each output map, the input maps that it uses.

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
    """The LeNet-5 network as published, with 60,000 parameters.

    Layers have the names of the paper's figure 2. Each map of C3 is connected to some of the maps
    of S2. S2 and S4 have a trainable coefficient and a bias for each map. The output layer compares
    F6 with a fixed picture of each digit: the logits are the negative squared distances between
    them, so that the softmax of the loss is the paper's equation 9 without its constant. Images in
    the paper have the value -0.1 for background and 1.175 for ink.

    Attributes:
      num_classes: 10, because there are only pictures of digits; None builds no output layer.
      activation: activation after every layer except the output.
      norm: after C1 and C3; None as in the paper.

    Call:
      images f32[B, 32, 32, C] -> {"c1": [B, 28, 28, 6], "c3": [B, 10, 10, 16],
      "pooled": [B, 84], "logits": [B, 10], at most 0}.

    Raises:
      InputError: the images are not 32x32, or num_classes is neither 10 nor None.
    """

    num_classes: int | None = 10
    activation: Callable[[Array], Array] = scaled_tanh
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        _check_images(images)
        if self.num_classes not in (None, len(PROTOTYPES)):
            raise InputError(
                f"num_classes is {self.num_classes}, but this network has fixed pictures of the "
                f"{len(PROTOTYPES)} digits: give {len(PROTOTYPES)} or None, or use lenet5"
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

        def first(x: Array) -> Array:
            return norm_act(conv(x, 6, "c1"), "bn1")

        def second(x: Array) -> Array:
            return norm_act(PartialConv(CONNECTIONS, name="c3", **dtypes)(x), "bn3")

        c1 = run_block(self, first, images)
        s2 = self.activation(Subsampling(name="s2", **dtypes)(c1))
        c3 = run_block(self, second, s2)
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
            "resize them, for instance with image_size=32"
        )


LENETS = {"lenet5": LeNet5, "lenet5_1998": LeNet1998}
