"""Pooling of feature maps [B, H, W, C], with torch's window arithmetic.

Along an axis of size n, padded by p on both sides, a window of size k with stride s has
floor((n + 2 p - k) / s) + 1 positions. With `ceil_mode` the quotient is rounded up, so that the
last window may reach beyond the padding. A window that would start after the end of the input is
left out.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array
from jaxvision.ops.primitives import Form, by_platform, multilinear
from jaxvision.ops.static import pair


class _Window(NamedTuple):
    """The windows along one axis."""

    size: int
    stride: int
    count: int  # number of positions
    before: int  # number of cells of padding before the input
    after: int  # number of cells by which the last window exceeds the input


_Windows = tuple[_Window, _Window]
"""Windows along the height and along the width."""


def max_pool(
    x: Array,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
) -> Array:
    """Computes the maximum of each window.

    Values and gradients are those of `flax.linen.max_pool`: if a window contains its maximum more
    than once, the first one (row by row) gets the gradient. On CPUs and GPUs the index of each
    maximum is stored in one byte per output, and the gradient is computed from it, which is up to
    30 times faster on a CPU and moves fewer bytes on a GPU. On TPUs XLA computes the gradient.

    Args:
      x: number[B, H, W, C].
      kernel_size: side of the window, or its (height, width).
      stride: step of the window, or (vertical, horizontal); None: `kernel_size`.
      padding: cells on both sides, which are never the maximum; at most half of `kernel_size`.
      ceil_mode: whether to round the number of windows up.
    Returns:
      number[B, h, w, C]; NaN if a window contains NaN.
    Raises:
      AssertionError: x is smaller than one window.
      ValueError: kernel_size or stride is not positive, or padding is negative or larger than half
        a window.
    """
    x = check_array("x", x, ("B", "H", "W", "C"), "number")
    return _max_pool(x, _windows(x, kernel_size, stride, padding, ceil_mode))


def max_pool_with_indices(
    x: Array,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Computes `max_pool` and the position of each maximum, for `max_unpool`.

    Args:
      x: number[B, H, W, C].
      kernel_size: as for `max_pool`.
      stride: as for `max_pool`.
      padding: as for `max_pool`.
      ceil_mode: as for `max_pool`.
    Returns:
      number[B, h, w, C], the maxima, and i32[B, h, w, C], the position row * W + column of the
      first maximum in each window, as torch's return_indices.
    Raises:
      AssertionError, ValueError: as for `max_pool`.
    """
    x = check_array("x", x, ("B", "H", "W", "C"), "number")
    windows = _windows(x, kernel_size, stride, padding, ceil_mode)
    return _max_pool(x, windows), _place_of_maximum(lax.stop_gradient(x), windows)


def max_unpool(x: Array, indices: Array, *, output_size: Sequence[int]) -> Array:
    """Writes values to the positions of their maxima, and zeros elsewhere, as torch's MaxUnpool2d.

    Args:
      x: number[B, h, w, C].
      indices: i32[B, h, w, C], positions row * W + column, as from `max_pool_with_indices`.
      output_size: (H, W) of the input of the pooling.
    Returns:
      number[B, H, W, C]. If several values have the same position, as can happen with overlapping
      windows, any one of them is taken, and only this one gets a gradient. Values with a position
      outside the map are left out.
    Raises:
      ValueError: output_size is not a pair of positive integers.
    Source: Zeiler and Fergus 2014 ("Visualizing and understanding convolutional networks"),
      section 2.1; used by Badrinarayanan et al. 2017 ("SegNet").
    """
    height, width = pair("output_size", output_size)
    x = check_array("x", x, ("B", "h", "w", "C"), "number")
    indices = check_array("indices", indices, x.shape, "int")
    batch, rows, columns, channels = x.shape
    flat = (batch, rows * columns, channels)
    # A negative index would count from the end.
    indices = jnp.where(indices < 0, height * width, indices).reshape(flat)
    put = jax.vmap(
        jax.vmap(lambda place, value: jnp.zeros(height * width, x.dtype).at[place].set(value), 1, 1)
    )
    values = put(indices, x.reshape(flat))
    return values.reshape(batch, height, width, channels)


def avg_pool(
    x: Array,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Computes the mean of each window.

    Args:
      x: float[B, H, W, C].
      kernel_size: side of the window, or its (height, width).
      stride: step of the window, or (vertical, horizontal); None: `kernel_size`.
      padding: zeros on both sides, at most half of `kernel_size`.
      ceil_mode: whether to round the number of windows up. The part of a window beyond the padding
        does not count in the mean.
      count_include_pad: whether the zeros of the padding count in the mean.
    Returns:
      float[B, h, w, C]; half precision is summed in float32.
    Raises:
      AssertionError, ValueError: as for `max_pool`.
    """
    x = check_array("x", x, ("B", "H", "W", "C"))
    windows = _windows(x, kernel_size, stride, padding, ceil_mode)
    return _avg_pool(x, windows, count_include_pad)


def adaptive_avg_pool(x: Array, output_size: int | Sequence[int]) -> Array:
    """Computes the means of bins that divide the map evenly, as torch's AdaptiveAvgPool2d.

    Of h bins over H cells, bin i has the cells from floor(i H / h) to ceil((i + 1) H / h). The bins
    overlap if h does not divide H, and repeat cells if h > H.

    Args:
      x: float[B, H, W, C].
      output_size: number of bins, or (vertical, horizontal).
    Returns:
      float[B, h, w, C]; half precision is summed in float32.
    Raises:
      AssertionError: x has no cells.
      ValueError: output_size is not a positive integer or a pair of them.
    """
    size = pair("output_size", output_size)
    return _adaptive_avg_pool(_check_filled(x), size)


def global_avg_pool(x: Array) -> Array:
    """Computes the mean of each channel.

    Args:
      x: float[B, H, W, C].
    Returns:
      float[B, C]; half precision is summed in float32.
    Raises:
      AssertionError: x has no cells.
    """
    x = _check_filled(x)
    return at_least_float32(x).mean((1, 2)).astype(x.dtype)


def _check_filled(x: Array) -> Array:
    x = check_array("x", x, ("B", "H", "W", "C"))
    if 0 in x.shape[1:3]:
        raise AssertionError(f"x is {x.dtype}{list(x.shape)}: its maps have no cells")
    return x


def _windows(
    x: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    ceil_mode: bool,
) -> _Windows:
    """Returns the windows that the options of a public function describe."""
    sizes = pair("kernel_size", kernel_size)
    strides = sizes if stride is None else pair("stride", stride)
    paddings = pair("padding", padding, least=0)
    windows = []
    for cells, size, step, pad in zip(x.shape[1:3], sizes, strides, paddings, strict=True):
        if 2 * pad > size:
            raise ValueError(f"padding is {pad}: at most half of kernel_size, {size}, is allowed")
        steps, rest = divmod(cells + 2 * pad - size, step)
        # The window that rounding up adds must start within the input or the padding before it.
        if ceil_mode and rest and (steps + 1) * step < cells + pad:
            steps += 1
        if steps < 0 or cells == 0:
            raise AssertionError(
                f"x is {x.dtype}{list(x.shape)}: it is too small for windows of "
                f"{sizes[0]} x {sizes[1]}"
            )
        after = max(steps * step + size - pad - cells, 0)
        windows.append(_Window(size, step, steps + 1, pad, after))
    return windows[0], windows[1]


def _single(count: int) -> _Window:
    """Returns windows of one cell each, which leave an axis unchanged."""
    return _Window(1, 1, count, 0, 0)


_MANY_CELLS = 16


def _passes(windows: _Windows, height: int) -> list[_Windows]:
    """Returns the windows as one pass, or large windows as two passes, one for each axis.

    Two passes find the same cell of a maximum: the first row that contains it, and there the first
    cell.
    """
    vertical, horizontal = windows
    if min(vertical.size, horizontal.size) == 1 or vertical.size * horizontal.size <= _MANY_CELLS:
        return [windows]
    return [(_single(height), horizontal), (vertical, _single(horizontal.count))]


def _taps(x: Array, windows: _Windows, fill: float) -> list[Array]:
    """Returns for each cell of a window, row by row, its values in all windows.

    Outside x the value is `fill`.
    """
    pads = [(window.before, window.after, 0) for window in windows]
    x = lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    rows, columns = ((w.count - 1) * w.stride + 1 for w in windows)
    vertical, horizontal = windows
    return [
        x[:, u : u + rows : vertical.stride, v : v + columns : horizontal.stride]
        for u in range(vertical.size)
        for v in range(horizontal.size)
    ]


def _least(dtype: jnp.dtype) -> float:
    return -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min


def _library_max_pool(x: Array, windows: _Windows) -> Array:
    vertical, horizontal = windows
    return lax.reduce_window(
        x,
        np.asarray(_least(x.dtype), x.dtype),
        lax.max,
        (1, vertical.size, horizontal.size, 1),
        (1, vertical.stride, horizontal.stride, 1),
        [(0, 0), *((window.before, window.after) for window in windows), (0, 0)],
    )


def _maximum_and_tap(x: Array, windows: _Windows) -> tuple[Array, Array]:
    """Returns the maximum of each window, and the number of its first cell that contains it."""
    maximum, *others = _taps(x, windows, _least(x.dtype))
    dtype = _tap_dtype(windows)
    tap = jnp.zeros(maximum.shape, dtype)
    for number, value in enumerate(others, start=1):
        tap = jnp.where(value > maximum, jnp.asarray(number, dtype), tap)
        maximum = jnp.maximum(maximum, value)
    return maximum, tap


def _tap_dtype(windows: _Windows) -> jnp.dtype:
    return jnp.uint8 if windows[0].size * windows[1].size <= 256 else jnp.uint16


def _library_maximum(x: Array, windows: _Windows) -> tuple[Array, Array]:
    """Returns the maximum, and zeros as numbers of cells, which the library's form does not use."""
    maximum = _library_max_pool(x, windows)
    return maximum, jnp.zeros(maximum.shape, _tap_dtype(windows))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _maximum(x: Array, windows: _Windows) -> tuple[Array, Array]:
    """Returns the maximum of each window, and but for TPUs the number of the first cell with it."""
    own = {"cpu": _maximum_and_tap, "gpu": _maximum_and_tap}
    return by_platform(x, default=_library_maximum, **own, windows=windows)


@_maximum.defjvp
def _maximum_jvp(
    windows: _Windows, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Any]]:
    maximum, tap = _maximum(*primals, windows)
    tangent = _take(lax.stop_gradient(primals[0]), tap, *tangents, windows=windows)
    return (maximum, tap), (tangent, np.zeros(tap.shape, jax.dtypes.float0))


def _max_pool(x: Array, windows: _Windows) -> Array:
    for part in _passes(windows, x.shape[1]):
        x, _ = _maximum(x, part)
    return x


def _library_take(x: Array, tap: Array, cells: Array, *, windows: _Windows) -> Array:
    return jax.jvp(lambda x: _library_max_pool(x, windows), (x,), (cells,))[1]


def _library_put(x: Array, tap: Array, values: Array, *, windows: _Windows) -> Array:
    return jax.vjp(lambda x: _library_max_pool(x, windows), x)[1](values)[0]


def _take_taps(x: Array, tap: Array, cells: Array, *, windows: _Windows) -> Array:
    """Returns for each window the cell with the number `tap`; 0 for a cell in the padding."""
    values = jnp.zeros(tap.shape, cells.dtype)
    for number, value in enumerate(_taps(cells, windows, 0)):
        values = jnp.where(tap == number, value, values)
    return values


def _put_taps(x: Array, tap: Array, values: Array, *, windows: _Windows) -> Array:
    """Adds the value of each window to the cell with the number `tap`.

    Cells of one phase (row modulo stride, column modulo stride) have the same positions in their
    windows. For each such position the values are shifted and masked, without a scatter.
    """
    vertical, horizontal = windows
    batch, height, width, channels = x.shape
    # The number of cells of a phase, and the number of earlier windows that can reach a cell.
    cells = [
        -(-(w.before + n + w.after) // w.stride) for w, n in zip(windows, x.shape[1:3], strict=True)
    ]
    reach = [(w.size - 1) // w.stride for w in windows]
    pads = [
        (0, 0),
        *((r, c - w.count) for r, c, w in zip(reach, cells, windows, strict=True)),
        (0, 0),
    ]
    tap, shifted = jnp.pad(tap, pads), jnp.pad(at_least_float32(values), pads)

    def phase(row: int, column: int) -> Array:
        total = jnp.zeros((batch, *cells, channels), shifted.dtype)
        for u in range(row, vertical.size, vertical.stride):
            for v in range(column, horizontal.size, horizontal.stride):
                top, left = reach[0] - u // vertical.stride, reach[1] - v // horizontal.stride
                here = np.s_[:, top : top + cells[0], left : left + cells[1]]
                total += jnp.where(tap[here] == u * horizontal.size + v, shifted[here], 0)
        return total

    rows = [
        jnp.stack([phase(row, column) for column in range(horizontal.stride)], 3)
        for row in range(vertical.stride)
    ]
    whole = jnp.stack(rows, 2).reshape(
        batch, cells[0] * vertical.stride, cells[1] * horizontal.stride, channels
    )
    whole = whole[:, vertical.before :, horizontal.before :][:, :height, :width]
    return whole.astype(values.dtype)


# Each of the two is the transpose of the other, for given x and numbers of cells in the windows.
_put, _take = multilinear(
    Form("max_pool_put", _library_put, cpu=_put_taps, gpu=_put_taps),
    Form("max_pool_take", _library_take, cpu=_take_taps, gpu=_take_taps),
    residuals=2,
)


@functools.partial(jax.jit, static_argnums=1)
def _place_of_maximum(x: Array, windows: _Windows) -> Array:
    tap = _maximum_and_tap(x, windows)[1].astype(jnp.int32)
    places = []
    for axis, (window, step) in enumerate(
        zip(windows, divmod(tap, windows[1].size), strict=True), start=1
    ):
        start = lax.broadcasted_iota(jnp.int32, tap.shape, axis) * window.stride - window.before
        # If all values of a window are the least value of the dtype, the padding is its maximum.
        places.append(jnp.maximum(start + step, 0))
    return places[0] * x.shape[2] + places[1]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _avg_pool(x: Array, windows: _Windows, count_include_pad: bool) -> Array:
    total = at_least_float32(x)
    for part in _passes(windows, x.shape[1]):
        total = functools.reduce(jnp.add, _taps(total, part, 0))
    counts = []
    for cells, window in zip(x.shape[1:3], windows, strict=True):
        start = np.arange(window.count) * window.stride - window.before
        margin = window.before if count_include_pad else 0
        stop = np.minimum(start + window.size, cells + margin)
        counts.append(stop - np.maximum(start, -margin))
    count = np.outer(*counts)[None, :, :, None]
    return (total / jnp.asarray(count, total.dtype)).astype(x.dtype)


@functools.partial(jax.jit, static_argnums=1)
def _adaptive_avg_pool(x: Array, size: tuple[int, int]) -> Array:
    mean = at_least_float32(x)
    for axis, bins in enumerate(size, start=1):
        cells = x.shape[axis]
        if cells % bins == 0:
            split = (*mean.shape[:axis], bins, cells // bins, *mean.shape[axis + 1 :])
            mean = mean.reshape(split).mean(axis + 1)
        else:
            ends = [(n * cells // bins, -(-(n + 1) * cells // bins)) for n in range(bins)]
            parts = [lax.slice_in_dim(mean, *end, axis=axis).mean(axis) for end in ends]
            mean = jnp.stack(parts, axis)
    return mean.astype(x.dtype)
