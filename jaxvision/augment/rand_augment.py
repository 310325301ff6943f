"""RandAugment on the device: random operations of one magnitude."""

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.augment.adjust import adjust_one, autocontrast, equalize, posterize, solarize
from jaxvision.augment.move import PLACED, Move, apply_move, extent_in, refuse
from jaxvision.augment.options import check_whole
from jaxvision.augment.sampling import GREY, inside_extent, warp
from jaxvision.core import at_least_float32, check_array, check_range

E = TypeVar("E")


@dataclass(frozen=True)
class RandAugment:
    """Applies `rand_augment` to the image.

    Some of its operations move the image, but they cannot move boxes, masks, points or labels of
    pixels. Structs with such annotations are therefore refused.

    Attributes:
      num_ops: number of operations, at least 0.
      magnitude: magnitude of all operations, a whole number in 0..30.
    """

    num_ops: int = 2
    magnitude: int = 9
    partners: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_whole("num_ops", self.num_ops, least=0)
        check_whole("magnitude", self.magnitude, least=0, most=_BINS - 1)

    def __call__(self, key: Array, example: E) -> E:
        """Changes the image, which becomes float32.

        Args:
          key: key[].
          example: a batch struct without its leading axis; its image is grey or RGB.
        Returns:
          the example. Properties of the original image are None. Its extent stays, and what is
          beyond it counts as outside the image.
        Raises:
          InputError: the struct has annotations with a place in the image, or a side of the image
            is longer than 4096 pixels.
        """
        refuse(example, (*PLACED, "pixels"), "RandAugment")

        extent = extent_in(example)

        def image(image: Array) -> Array:
            inside = inside_extent(image, extent)
            return rand_augment(key, inside, num_ops=self.num_ops, magnitude=self.magnitude)

        def nearest(labels: Array, fill: int) -> Array:
            raise AssertionError("no struct with labels comes here")

        return apply_move(example, Move(image, nearest, None, jnp.bool_(False), extent))


_BINS = 31


def rand_augment(
    key: Array,
    image: Array,
    *,
    num_ops: int = 2,
    magnitude: int = 9,
    num_bins: int = _BINS,
    method: str = "nearest",
    fill: float = GREY,
) -> Array:
    """Applies several random operations of one magnitude, one after the other.

    Each operation is one of 14, all equally likely: Identity, ShearX, ShearY, TranslateX,
    TranslateY, Rotate, Brightness, Color, Contrast, Sharpness, Posterize, Solarize, AutoContrast
    and Equalize. With m = magnitude / (num_bins - 1) and random signs:

    - ShearX and ShearY show at (x, y) the colour at (x +- 0.3 m y, y) or (x, y +- 0.3 m x),
      measured from the upper left corner. TranslateX and TranslateY move by 150 m / 331 of the
      side, cut to whole pixels. Rotate rotates by 30 m degrees about the centre.
    - Brightness, Color, Contrast and Sharpness have the factor 1 +- 0.9 m of `adjust_brightness`,
      `adjust_saturation`, `adjust_contrast` and `adjust_sharpness`.
    - Posterize keeps 8 - round(4 m) bits; Solarize has the threshold 255 (1 - m). AutoContrast and
      Equalize have no magnitude: see `posterize`, `solarize`, `autocontrast` and `equalize`.

    Under `vmap` every operation would be computed for every image. Therefore the first six are
    computed as one sampling by a matrix, and the next four as one blending; only the last four are
    computed separately.

    Args:
      key: key[].
      image: uint8 or float [H, W, C], grey or RGB in 0..255. Color does not change a grey image.
      num_ops: number of operations, at least 0.
      magnitude: a whole number in 0..num_bins - 1.
      num_bins: number of magnitudes, at least 2.
      method: method of sampling, "nearest" or "bilinear"; see `warp`.
      fill: value of the pixels outside the image.
    Returns:
      f32[H, W, C], in 0..255, not rounded. (torchvision cuts off fractions after each operation.)
    Raises:
      InputError: an option is out of range, or a side is longer than 4096 pixels.
    Source: Cubuk et al. 2020 ("RandAugment"), with the operations and magnitudes of torchvision's
      RandAugment; there `fill` is 0 by default.
    """
    check_whole("num_ops", num_ops, least=0)
    check_whole("num_bins", num_bins, least=2)
    check_whole("magnitude", magnitude, least=0, most=num_bins - 1)
    image = at_least_float32(check_array("image", image, ("H", "W", "C"), "number"))
    m = magnitude / (num_bins - 1)
    height, width, _ = image.shape
    check_range("the image's longer side", max(height, width), most=4096)
    # The table has the operations with both signs, so that one draw is enough.
    ops = [op for sign in (1, -1) for op in _operations(sign * m, height, width)]
    table = jax.tree.map(lambda *x: np.stack(x), *ops)
    for drawn in jax.random.randint(key, (num_ops,), 0, len(ops)):
        op = jax.tree.map(lambda x, n=drawn: jnp.asarray(x)[n], table)
        image = _apply(op, image, m, method, fill)
    return image


class _Operation(NamedTuple):
    """An operation as numbers; numbers that it does not need have no effect.

    Attributes:
      form: index of "sample", "blend", "posterize", ... in `_FORMS`.
      matrix: i32[2, 3], maps a position (x, y, 1) in the result to its position in the image, in
        units of 1 / `_UNITS` of a pixel.
      blend: index in `_BLENDS`.
      factor: factor of the blend.
    """

    form: Array
    matrix: Array
    blend: Array
    factor: Array


_UNITS = 2**17
"""Number of units per pixel. Positions are computed as whole numbers of units, to be reproducible.

XLA may compute a float again for each use and round it differently. On a border between two pixels
the floor and the fraction would not fit, or the images on one and on four devices would differ.
Pillow uses 2^16 units. With more units, positions in larger images would need more than 32 bits.
"""
_FORMS = ("sample", "blend", "posterize", "solarize", "autocontrast", "equalize")
_BLENDS = ("brightness", "saturation", "contrast", "sharpness")


def _operations(m: float, height: int, width: int) -> list[_Operation]:
    """Returns the 14 operations in their order, with the magnitude m in [-1, 1]."""

    def operation(form: str, matrix: Any = _IDENTITY, blend: int = 0) -> _Operation:
        factor = 1 + 0.9 * m if form == "blend" else 1.0
        index = np.int32(_FORMS.index(form))
        units = np.round(np.array(matrix) * _UNITS).astype(np.int32)
        return _Operation(index, units, np.int32(blend), np.float32(factor))

    shear, move_x, move_y = 0.3 * m, int(150 / 331 * width * m), int(150 / 331 * height * m)
    cos, sin = math.cos(math.radians(30 * m)), math.sin(math.radians(30 * m))
    x, y = width / 2, height / 2
    matrices = [
        _IDENTITY,
        [[1, shear, 0], [0, 1, 0]],
        [[1, 0, 0], [shear, 1, 0]],
        [[1, 0, -move_x], [0, 1, 0]],
        [[1, 0, 0], [0, 1, -move_y]],
        [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]],
    ]
    return [
        *(operation("sample", matrix) for matrix in matrices),
        *(operation("blend", blend=number) for number in range(len(_BLENDS))),
        *(operation(form) for form in _FORMS[2:]),
    ]


_IDENTITY = [[1, 0, 0], [0, 1, 0]]


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _apply(op: _Operation, image: Array, m: float, method: str, fill: float) -> Array:
    results = {
        "sample": warp(image, _places(op.matrix, *image.shape[:2]), method=method, fill=fill),
        "blend": adjust_one(image, op.blend, op.factor, names=_BLENDS),
        "posterize": posterize(image, 8 - round(4 * m)),
        "solarize": solarize(image, 255 * (1 - m)),
        "autocontrast": autocontrast(image),
        "equalize": equalize(image),
    }
    return jax.lax.select_n(op.form, *(results[form] for form in _FORMS))


def _places(matrix: Array, height: int, width: int) -> Array:
    """Returns f32[H, W, 2], the position in the image of each pixel's centre."""
    x = 2 * jnp.arange(width)[None, :, None] + 1
    y = 2 * jnp.arange(height)[:, None, None] + 1
    along_x, along_y, start = matrix.T[:, None, None]
    return (x * along_x + y * along_y + 2 * start).astype(jnp.float32) / (2 * _UNITS)
