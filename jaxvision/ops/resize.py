"""Functions that resize images and maps [..., H, W, C], one axis after the other.

Along an axis each output is a weighted sum of a few inputs; the weights are computed when the
function is traced. The gradient is computed in the same way, with the transposed weights.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import at_least_float32, check_array
from jaxvision.ops.primitives import Form, multilinear
from jaxvision.ops.static import pair


def resize_bilinear(x: Array, size: int | Sequence[int], *, align_corners: bool = False) -> Array:
    """Resizes by linear interpolation without antialiasing, as torch's F.interpolate.

    Output i of n, from m inputs, is at the input position (i + 1/2) m / n - 1/2, clipped to the
    first and the last input. With `align_corners` it is at i (m - 1) / (n - 1), so that the centres
    of the corner cells do not move.

    Args:
      x: float[..., H, W, C].
      size: side of the result, or its (height, width).
      align_corners: whether the centres of the corner cells keep their positions.
    Returns:
      float[..., h, w, C]; half precision is summed in float32.
    Raises:
      AssertionError: x has no cells.
      ValueError: size is not a positive integer or a pair of them.
    """
    return _resize(_check("x", x, "float"), size, "aligned" if align_corners else "linear")


def resize_nearest(x: Array, size: int | Sequence[int]) -> Array:
    """Resizes by copying cells: output i of n is input floor(i m / n) of m, as torch's "nearest".

    Args:
      x: [..., H, W, C], of any dtype, such as images, labels or masks.
      size: side of the result, or its (height, width).
    Returns:
      [..., h, w, C], of the same dtype.
    Raises:
      AssertionError: x has no cells.
      ValueError: size is not a positive integer or a pair of them.
    """
    kind = "bool" if jnp.asarray(x).dtype == jnp.bool_ else "number"
    x = _check("x", x, kind)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return _resize(x, size, "nearest")
    for axis, count in zip((x.ndim - 3, x.ndim - 2), pair("size", size), strict=True):
        x = jnp.take(x, np.arange(count) * x.shape[axis] // count, axis=axis)
    return x


def resize_bicubic(x: Array, size: int | Sequence[int], *, antialias: bool = True) -> Array:
    """Resizes by bicubic interpolation, as MATLAB's imresize does on floats.

    MATLAB's function is the standard for comparing super-resolution. It uses Keys' cubic kernel
    with a = -1/2. If an axis shrinks, the kernel is widened by the factor against aliasing. Weights
    are normalised. Beyond the border the image is mirrored, with the outermost cells repeated.
    MATLAB rounds 8-bit images afterwards; this function does not round.

    Args:
      x: float[..., H, W, C].
      size: side of the result, or its (height, width).
      antialias: whether to widen the kernel along an axis that shrinks.
    Returns:
      float[..., h, w, C]; half precision is summed in float32.
    Raises:
      AssertionError: x has no cells.
      ValueError: size is not a positive integer or a pair of them.
    Source: Keys 1981 ("Cubic convolution interpolation for digital image processing"),
      equation 15; the documentation of MATLAB's imresize.
    """
    return _resize(_check("x", x, "float"), size, "cubic" if antialias else "plain cubic")


def _check(name: str, x: Array, kind: str) -> Array:
    x = check_array(name, x, ("...", "H", "W", "C"), kind)
    if 0 in x.shape[-3:-1]:
        raise AssertionError(f"{name} is {x.dtype}{list(x.shape)}: it has no cells")
    return x


class _Axis(NamedTuple):
    """The resizing of one axis."""

    number: int
    inputs: int
    outputs: int
    method: str


def _resize(x: Array, size: int | Sequence[int], method: str) -> Array:
    axes = tuple(
        _Axis(number, x.shape[number], count, method)
        for number, count in zip((x.ndim - 3, x.ndim - 2), pair("size", size), strict=True)
    )
    # The axis that shrinks most is resized first, so that the second step has less to compute.
    axes = sorted(axes, key=lambda axis: axis.outputs / axis.inputs)
    return _along_both(x, tuple(axes))


@functools.partial(jax.jit, static_argnums=1)
def _along_both(x: Array, axes: tuple[_Axis, _Axis]) -> Array:
    wide = at_least_float32(x)
    for axis in axes:
        if axis.inputs != axis.outputs:  # otherwise every method is the identity
            wide = _resize_along(wide, axis=axis)
    return wide.astype(x.dtype)


_MOST_TERMS = 32  # longer sums are computed as a matrix product


def _apply(matrix: np.ndarray, x: Array, axis: int) -> Array:
    """Multiplies x along an axis by a matrix that has few entries other than 0."""
    terms = max(int((matrix != 0).sum(axis=1).max()), 1)
    if terms > _MOST_TERMS:
        product = jnp.tensordot(
            jnp.asarray(matrix, x.dtype), x, (1, axis), precision=jax.lax.Precision.HIGHEST
        )
        return jnp.moveaxis(product, 0, axis)
    # In each row the entries other than 0 come first, in their order.
    indices = np.argsort(matrix == 0, axis=1, kind="stable")[:, :terms]
    weights = np.take_along_axis(matrix, indices, axis=1)
    shape = [1] * x.ndim
    shape[axis] = len(matrix)
    return sum(
        jnp.asarray(weight.reshape(shape), x.dtype) * jnp.take(x, index, axis=axis, mode="clip")
        for index, weight in zip(indices.T.astype(np.int32), weights.T, strict=True)
    )


def _along(x: Array, *, axis: _Axis) -> Array:
    return _apply(_matrix(axis), x, axis.number)


def _along_transposed(y: Array, *, axis: _Axis) -> Array:
    return _apply(_matrix(axis).T, y, axis.number)


_, _resize_along = multilinear(
    Form("resize_transposed", _along_transposed, _along_transposed),
    Form("resize", _along, _along),
)


@functools.lru_cache(maxsize=64)
def _matrix(axis: _Axis) -> np.ndarray:
    """Returns the weights of an axis, float64[outputs, inputs]."""
    matrix = _METHODS[axis.method](axis)
    # Entries that are not exactly 0 because of rounding would count as terms.
    return np.where(np.abs(matrix) < 1e-10, 0, matrix)


def _nearest_matrix(axis: _Axis) -> np.ndarray:
    return np.eye(axis.inputs)[np.arange(axis.outputs) * axis.inputs // axis.outputs]


def _linear_matrix(axis: _Axis) -> np.ndarray:
    number = np.arange(axis.outputs)
    if axis.method == "aligned":
        place = number * (axis.inputs - 1) / max(axis.outputs - 1, 1)
    else:
        place = (number + 0.5) * axis.inputs / axis.outputs - 0.5
    place = np.clip(place, 0, axis.inputs - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(axis.inputs)), 0)


def _cubic_matrix(axis: _Axis) -> np.ndarray:
    scale = axis.outputs / axis.inputs
    stretch = min(scale, 1) if axis.method == "cubic" else 1
    place = (np.arange(axis.outputs) + 0.5) / scale - 0.5
    reach = 2 / stretch
    steps = np.arange(int(np.ceil(2 * reach)) + 2)
    cells = np.floor(place - reach).astype(int)[:, None] + steps
    weights = _cubic(stretch * (place[:, None] - cells))
    weights /= weights.sum(axis=1, keepdims=True)
    # Mirrors the indices at the borders: 0 1 ... m-1 m-1 ... 1 0, and so on in both directions.
    cells = cells % (2 * axis.inputs)
    cells = np.minimum(cells, 2 * axis.inputs - 1 - cells)
    matrix = np.zeros((axis.outputs, axis.inputs))
    np.add.at(matrix, (np.arange(axis.outputs)[:, None], cells), weights)
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


_METHODS = {
    "nearest": _nearest_matrix,
    "linear": _linear_matrix,
    "aligned": _linear_matrix,
    "cubic": _cubic_matrix,
    "plain cubic": _cubic_matrix,
}
