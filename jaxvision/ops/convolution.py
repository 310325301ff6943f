"""Convolutions over two dimensions, with groups, and transposed.

XLA's own convolution is right on accelerators. On CPU its grouped and depthwise convolutions are
tens of times slower than they need to be, and their gradients hundreds of times. So each platform
gets its form when the program is lowered (`jax.lax.platform_dependent`): values and gradients are
the same but for rounding. `benchmarks/conv.py` shows what each form costs.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array
from jaxvision.ops.static import pair

Pair = int | Sequence[int]
"""One integer for both spatial axes, or one for each: (vertical, horizontal)."""
Padding = int | Sequence[int | Sequence[int]]
"""Zeros on every side, or (vertical, horizontal), or ((top, bottom), (left, right))."""

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# Groups are merged until a dense convolution has this many channels: smaller ones cost more to
# start than to compute, larger ones compute more zeros.
_MERGED_CHANNELS = 16
# Groups of few channels, if there are enough groups for the lanes of a vector unit, are convolved
# elementwise.
_LANE_INPUTS, _LANES = 4, 16
# Up to here the taps of a depthwise kernel are padded within one fused loop; with more taps the
# tests for the border cost more than a padded copy does.
_FUSED_TAPS = 9
# Depthwise kernels with more taps than that would take too long to compile.
_MOST_TAPS = 121
# Up to so many strips, of at least so many rows each, make up the gradient by a dense kernel.
_STRIPS, _STRIP_ROWS = 4, 16
# With so many rows, the gradient by a depthwise kernel first sums over rows alone, and over the
# columns of the much smaller result afterwards.
_MANY_ROWS = 28


class Geometry(NamedTuple):
    """What is static about a convolution."""

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int


def conv2d(
    x: Array,
    kernel: Array,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """Convolution over two dimensions (as in all networks, a cross-correlation).

    y[b, h, w, o] = sum over i, j, c of
    x[b, h stride + i dilation - top, w stride + j dilation - left, c] kernel[i, j, c, o],
    with x = 0 outside of the image, and c over the channels of the group that o belongs to.
    Differentiable in reverse mode only.

    Args:
      x: f32[B, H, W, C].
      kernel: f32[kh, kw, C / groups, D], of the dtype of x.
      stride: step of the window.
      padding: zeros around the image; "SAME" differs between libraries, so it has no name here.
      dilation: step between the kernel's taps.
      groups: of channels; output group n sees input group n only. C for a depthwise convolution.
    Returns:
      [B, (H + top + bottom - dilation (kh - 1) - 1) // stride + 1, ..., D], of the dtype of x;
      half precision is summed up in float32.
    Raises:
      AssertionError: an argument has another shape or dtype.
      ValueError: an option is not positive, or groups does not divide the channels.
    """
    geometry = _geometry(stride, padding, dilation, groups)
    x = check_array("x", x, ("B", "H", "W", "C"))
    _check_divisible("x", x, groups)
    kernel = check_array("kernel", kernel, ("kh", "kw", x.shape[-1] // groups, "D"))
    _check_kernel(x, kernel)
    _check_divisible("kernel", kernel, groups)
    if any(axis.count < 1 for axis in _axes(x, kernel, geometry)):
        raise AssertionError(f"x is {x.dtype}{list(x.shape)}: smaller than the kernel")
    return _convolve(x, kernel, geometry)


def conv_transpose2d(
    x: Array,
    kernel: Array,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Array:
    """Transposed convolution, as torch's: the gradient of `conv2d` by its input.

    Each pixel of x adds its multiple of the kernel to the output:
    y[b, h stride + i dilation - padding, w stride + j dilation - padding, o] +=
    x[b, h, w, c] kernel[i, j, c, o], where that lies inside.
    Differentiable in reverse mode only.

    Args:
      x: f32[B, H, W, C].
      kernel: f32[kh, kw, C, D / groups], of the dtype of x; torch's weight with the axes
        (2, 3, 0, 1), not flipped.
      stride: step between the pixels of x in the output.
      padding: rows and columns to cut off on every side.
      output_padding: rows and columns to add at the bottom and on the right; smaller than the
        stride or the dilation.
      groups: of channels.
      dilation: step between the kernel's taps.
    Returns:
      [B, (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1, ..., D].
    Raises:
      AssertionError: an argument has another shape or dtype.
      ValueError: an option is not positive, groups does not divide the channels, or the
        output_padding is too large.
    Source: Zeiler et al. 2010 ("Deconvolutional networks"); sizes as torch.nn.ConvTranspose2d.
    """
    extra = pair("output_padding", output_padding, least=0)
    sides = pair("padding", padding, least=0)
    geometry = _geometry(stride, sides, dilation, groups)
    if any(
        n >= max(s, d) for n, s, d in zip(extra, geometry.stride, geometry.dilation, strict=True)
    ):
        raise ValueError(
            f"output_padding is {output_padding!r}: give less than the stride or the dilation"
        )
    x = check_array("x", x, ("B", "H", "W", "C"))
    _check_divisible("x", x, groups)
    kernel = check_array("kernel", kernel, ("kh", "kw", x.shape[-1], "D / groups"))
    _check_kernel(x, kernel)
    # Of the convolution of which this is the gradient: its last window ends with its input.
    geometry = geometry._replace(
        padding=tuple((p, p - n) for p, n in zip(sides, extra, strict=True))
    )
    if min(_transposed_size(x, kernel, geometry)) < 1:
        raise ValueError(f"padding is {padding!r}: it leaves nothing of the output")
    return _convolve_transposed(x, kernel, geometry)


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> Array:
    """`jax.lax.conv_general_dilated`, with `conv2d` where that is the same.

    For layers that take a convolution, such as
    `flax.linen.Conv(..., conv_general_dilated_cls=lambda: conv_general_dilated)`. Other
    layouts than NHWC with HWIO, a dilated input, and any option beyond these arguments are left to
    the library.

    Args:
      lhs, rhs, ...: as of `jax.lax.conv_general_dilated`.
    Returns:
      What `jax.lax.conv_general_dilated` returns.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    plain = (
        lhs.ndim == 4
        and lhs.dtype == rhs.dtype
        and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _DIMENSIONS)
        and set(lhs_dilation or (1,)) == {1}
        and all(value is None for value in options.values())
    )
    if not plain:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            **options,
        )
    dilation = tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        extent = [d * (k - 1) + 1 for d, k in zip(dilation, rhs.shape[:2], strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], extent, window_strides, padding)
    geometry = Geometry(
        tuple(window_strides),
        tuple((low, high) for low, high in padding),
        dilation,
        feature_group_count,
    )
    return _convolve(lhs, rhs, geometry)


def _geometry(stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Geometry:
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"groups is {groups!r}: give a positive integer")
    sides = tuple(padding) if isinstance(padding, Sequence) else (padding, padding)
    if len(sides) != 2:
        raise ValueError(f"padding is {padding!r}: give one integer, a pair, or a pair of pairs")
    return Geometry(
        pair("stride", stride),
        tuple(pair("padding", side, least=0) for side in sides),
        pair("dilation", dilation),
        groups,
    )


def _check_divisible(name: str, x: Array, groups: int) -> None:
    if x.shape[-1] % groups:
        raise ValueError(
            f"groups is {groups}: it does not divide {x.shape[-1]}, the channels of {name}"
        )


def _check_kernel(x: Array, kernel: Array) -> None:
    if kernel.dtype != x.dtype or 0 in kernel.shape:
        raise AssertionError(
            f"kernel is {kernel.dtype}{list(kernel.shape)}: give {x.dtype}, and no empty axis"
        )


def _library(x: Array, kernel: Array, geometry: Geometry) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.stride,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=_DIMENSIONS,
        feature_group_count=geometry.groups,
    )


_Form = Callable[[Array, Array, Geometry], Array]
"""A way to compute a convolution."""


def _gradients(
    form: _Form, x: Array, kernel: Array, gradient: Array, geometry: Geometry
) -> tuple[Array, Array]:
    """By x and by the kernel, of a form that the compiler differentiates well."""
    return jax.vjp(functools.partial(form, geometry=geometry), x, kernel)[1](gradient)


# The derivative is defined around the choice of a platform, and not within: to differentiate the
# choice would be to compute what any of its branches needs.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _differentiable(x: Array, kernel: Array, geometry: Geometry) -> Array:
    form = _cpu_form(kernel, geometry)
    if form is _library:
        return _library(x, kernel, geometry)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(form, geometry=geometry),
        default=functools.partial(_library, geometry=geometry),
    )


def _forward(x: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    return _differentiable(x, kernel, geometry), (x, kernel)


def _backward(
    geometry: Geometry, residuals: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    form = _cpu_form(residuals[1], geometry)
    if form is _group_lanes:  # its own gradient by the kernel is slow
        form = _merged_groups
    own = {_depthwise: _depthwise_gradients, _library: _dense_gradients}
    gradients = own.get(form, functools.partial(_gradients, form))
    return lax.platform_dependent(
        *residuals,
        gradient,
        cpu=functools.partial(gradients, geometry=geometry),
        default=functools.partial(_gradients, _library, geometry=geometry),
    )


_differentiable.defvjp(_forward, _backward)
# Compiled in eager mode too: a fast form is many small operations, and only a program that is
# compiled knows its platform.
_convolve = jax.jit(_differentiable, static_argnums=2)


def _cpu_form(kernel: Array, geometry: Geometry) -> _Form:
    """The fastest form on a CPU, by `benchmarks/conv.py`."""
    kh, kw, inputs, _ = kernel.shape
    if inputs == 1 < geometry.groups and kh * kw <= _MOST_TAPS:
        return _depthwise
    if (kh, kw) == (1, 1) and geometry.padding == ((0, 0), (0, 0)):
        return _pointwise
    if geometry.groups == 1:
        return _library
    lanes = inputs <= _LANE_INPUTS and kh * kw <= _FUSED_TAPS and geometry.groups >= _LANES
    return _group_lanes if lanes else _merged_groups


def _dense_gradients(
    x: Array, kernel: Array, gradient: Array, geometry: Geometry
) -> tuple[Array, Array]:
    """Of `_library`, by x and by the kernel.

    The gradient by the kernel is a sum over strips of the image, of which each one stays near the
    processor: of the whole at once it takes up to five times as long.
    """
    dx = jax.vjp(lambda x: _library(x, kernel, geometry), x)[1](gradient)[0]
    rows, _ = _axes(x, kernel, geometry)
    strip = max(_STRIP_ROWS, -(-rows.count // _STRIPS))
    cut = geometry._replace(padding=((0, 0), geometry.padding[1]))
    total = like = jnp.zeros_like(at_least_float32(kernel))
    for first in range(0, rows.count, strip):
        part = at_least_float32(gradient[:, first : first + strip])
        seen = at_least_float32(_pad(x, rows.seen(first, part.shape[1]), (0, 0)))
        by_kernel = jax.vjp(lambda k, x=seen: _library(x, k, cut), like)[1]
        total += by_kernel(part)[0]
    return dx, total.astype(kernel.dtype)


def _merged_groups(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A dense convolution for every few groups, whose kernel is zero from group to group.

    An infinity in one group therefore gives NaN in those it is merged with.
    """
    kh, kw, inputs, outputs = kernel.shape
    groups = geometry.groups
    merged = math.gcd(groups, max(1, _MERGED_CHANNELS // inputs))
    parts = groups // merged
    blocks = kernel.reshape(kh, kw, 1, inputs, parts, merged, outputs // groups)
    own = jnp.eye(merged, dtype=bool).reshape(1, 1, merged, 1, 1, merged, 1)
    blocks = jnp.where(own, blocks, 0).reshape(kh, kw, merged * inputs, outputs)
    dense = geometry._replace(groups=1)
    pairs = zip(jnp.split(x, parts, axis=-1), jnp.split(blocks, parts, axis=-1), strict=True)
    return jnp.concatenate([_library(part, block, dense) for part, block in pairs], axis=-1)


def _group_lanes(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Elementwise over the groups: the channels of a group get an axis of their own."""
    kh, kw, inputs, outputs = kernel.shape
    groups = geometry.groups
    weights = at_least_float32(kernel).reshape(kh, kw, inputs, groups, -1).swapaxes(3, 4)
    y = 0
    for (i, j), window in zip(_taps(kernel), _windows(x, kernel, geometry), strict=True):
        window = window.reshape(*window.shape[:3], groups, inputs)
        for n in range(inputs):
            y += window[..., None, :, n] * weights[i, j, n][None, None, None]
    return y.swapaxes(3, 4).reshape(*y.shape[:3], outputs).astype(x.dtype)


def _pointwise(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """1x1 kernels: one matrix product a group."""
    _, _, inputs, outputs = kernel.shape
    vertical, horizontal = geometry.stride
    x = x[:, ::vertical, ::horizontal]
    if geometry.groups == 1:
        return (x.reshape(-1, inputs) @ kernel[0, 0]).reshape(*x.shape[:3], outputs)
    pixels = x.reshape(-1, geometry.groups, inputs)
    y = jnp.einsum("ngi,igo->ngo", pixels, kernel.reshape(inputs, geometry.groups, -1))
    return y.reshape(*x.shape[:3], outputs)


class _Axis(NamedTuple):
    """Where the windows of a convolution lie along one axis."""

    size: int
    taps: int
    stride: int
    low: int
    high: int
    dilation: int

    @property
    def padded(self) -> int:
        return self.size + self.low + self.high

    @property
    def count(self) -> int:
        """Of windows."""
        return (self.padded - self.dilation * (self.taps - 1) - 1) // self.stride + 1

    def met(self, tap: int) -> slice:
        """The padded pixels that a tap meets, one in each window."""
        start = tap * self.dilation
        return slice(start, start + self.stride * (self.count - 1) + 1, self.stride)

    def shift(self, tap: int) -> tuple[int, int]:
        """The padding (cropping, where negative) that leaves those pixels and what is between."""
        met = self.met(tap)
        return self.low - met.start, met.stop - self.low - self.size

    def seen(self, first: int, count: int) -> tuple[int, int]:
        """The padding (cropping, where negative) that leaves what `count` windows see."""
        start = first * self.stride - self.low
        stop = start + (count - 1) * self.stride + self.dilation * (self.taps - 1) + 1
        return -start, stop - self.size


def _axes(x: Array, kernel: Array, geometry: Geometry) -> tuple[_Axis, _Axis]:
    options = zip(geometry.stride, geometry.padding, geometry.dilation, strict=True)
    sizes = zip(x.shape[1:3], kernel.shape[:2], strict=True)
    return tuple(
        _Axis(size, taps, stride, low, high, dilation)
        for (size, taps), (stride, (low, high), dilation) in zip(sizes, options, strict=True)
    )


def _pad(x: Array, rows: tuple[int, ...], columns: tuple[int, ...]) -> Array:
    """Zeros (before, after) the image, and between its pixels where a third number is given."""
    config = [(0, 0, 0), (*rows, 0)[:3], (*columns, 0)[:3], (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _taps(kernel: Array) -> list[tuple[int, int]]:
    return list(itertools.product(*map(range, kernel.shape[:2])))


def _weights(kernel: Array) -> dict[tuple[int, int], Array]:
    """Tap of a depthwise kernel -> [1, 1, 1, D]."""
    wide = at_least_float32(kernel)
    return {(i, j): wide[i, j, None, None] for i, j in _taps(kernel)}


def _repeat(x: Array, kernel: Array) -> Array:
    """Each channel as often as a depthwise kernel has outputs for it."""
    times = kernel.shape[-1] // x.shape[-1]
    return x if times == 1 else jnp.repeat(x, times, axis=-1)


def _windows(x: Array, kernel: Array, geometry: Geometry) -> list[Array]:
    """For each tap the pixels that it meets, as slices of a padded copy, in single precision."""
    rows, columns = _axes(x, kernel, geometry)
    x = _pad(x, *geometry.padding)
    return [at_least_float32(x[:, rows.met(i), columns.met(j)]) for i, j in _taps(kernel)]


def _depthwise(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A sum over the kernel's taps of the image, shifted, times one number a channel."""
    x = _repeat(x, kernel)
    weights = _weights(kernel)
    if len(weights) <= _FUSED_TAPS:
        # Multiplied first and shifted then: the compiler makes one loop of it all, with no copy.
        rows, columns = _axes(x, kernel, geometry)
        vertical, horizontal = geometry.stride
        wide = at_least_float32(x)
        terms = [
            _pad(wide * weight, rows.shift(i), columns.shift(j))[:, ::vertical, ::horizontal]
            for (i, j), weight in weights.items()
        ]
    else:
        windows = zip(_windows(x, kernel, geometry), weights.values(), strict=True)
        terms = [window * weight for window, weight in windows]
    return sum(terms).astype(x.dtype)


def _depthwise_gradients(
    x: Array, kernel: Array, gradient: Array, geometry: Geometry
) -> tuple[Array, Array]:
    """Of `_depthwise`, by x and by the kernel."""
    repeated = _repeat(x, kernel)
    dx = _depthwise_input_gradient(repeated, kernel, gradient, geometry)
    if repeated is not x:
        dx = dx.reshape(*x.shape, -1).sum(axis=-1)
    dkernel = _depthwise_kernel_gradient(repeated, kernel, gradient, geometry)
    return dx, dkernel


def _depthwise_input_gradient(
    x: Array, kernel: Array, gradient: Array, geometry: Geometry
) -> Array:
    rows, columns = axes = _axes(x, kernel, geometry)
    weights = _weights(kernel)
    dilated_steps = max(geometry.dilation) > 1 and max(geometry.stride) > 1
    if len(weights) <= _FUSED_TAPS or dilated_steps:
        wide = at_least_float32(gradient)

        def back(axis: _Axis, tap: int) -> tuple[int, int, int]:
            before, after = axis.shift(tap)
            return -before, -after, axis.stride - 1

        terms = [
            _pad(wide * weight, back(rows, i), back(columns, j))
            for (i, j), weight in weights.items()
        ]
        return sum(terms).astype(x.dtype)

    # Pixels r rows and q columns after a multiple of the stride meet the taps r, r + stride, ...
    # and q, q + stride, ... only: each such plane is a convolution with that part of the kernel.
    planes = [-(-axis.padded // axis.stride) for axis in axes]

    def plane(r: int, q: int) -> Array:
        part = kernel[r :: rows.stride, q :: columns.stride]
        if 0 in part.shape:
            return jnp.zeros((len(x), *planes, x.shape[-1]), x.dtype)
        padding = tuple(
            (axis.dilation * (taps - 1), size - axis.count)
            for axis, taps, size in zip(axes, part.shape[:2], planes, strict=True)
        )
        plain = geometry._replace(stride=(1, 1), padding=padding)
        return _depthwise(gradient, part[::-1, ::-1], plain)

    interleaved = [
        jnp.stack([plane(r, q) for q in range(columns.stride)], axis=3) for r in range(rows.stride)
    ]
    sizes = [axis.stride * size for axis, size in zip(axes, planes, strict=True)]
    dx = jnp.stack(interleaved, axis=2).reshape(len(x), *sizes, x.shape[-1])
    return _pad(
        dx,
        *((-axis.low, axis.low + axis.size - size) for axis, size in zip(axes, sizes, strict=True)),
    )


def _depthwise_kernel_gradient(
    x: Array, kernel: Array, gradient: Array, geometry: Geometry
) -> Array:
    wide = at_least_float32(gradient)
    terms = [window * wide for window in _windows(x, kernel, geometry)]
    # One reduction for all taps reads the images once.
    sums = lax.reduce(
        terms,
        [jnp.zeros((), wide.dtype)] * len(terms),
        lambda totals, values: [t + v for t, v in zip(totals, values, strict=True)],
        (1,) if gradient.shape[1] >= _MANY_ROWS else (1, 2),
    )
    sums = jnp.stack(sums)
    sums = sums.sum(axis=range(1, sums.ndim - 1))
    return sums.reshape(kernel.shape).astype(kernel.dtype)


def _swapped(kernel: Array) -> Array:
    """The kernel of the convolution of which a transposed one is the gradient."""
    return kernel.swapaxes(2, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _differentiable_transposed(x: Array, kernel: Array, geometry: Geometry) -> Array:
    form = functools.partial(_transposed, geometry=geometry)
    if not _is_tiling(kernel, geometry):
        return form(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_tiled, default=form)


def _transposed_forward(
    x: Array, kernel: Array, geometry: Geometry
) -> tuple[Array, tuple[Array, Array]]:
    return _differentiable_transposed(x, kernel, geometry), (x, kernel)


def _transposed_backward(
    geometry: Geometry, residuals: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    gradients = functools.partial(_transposed_gradients, geometry=geometry)
    if not _is_tiling(residuals[1], geometry):
        return gradients(*residuals, gradient)
    return lax.platform_dependent(
        *residuals,
        gradient,
        cpu=lambda x, kernel, gradient: jax.vjp(_tiled, x, kernel)[1](gradient),
        default=gradients,
    )


_differentiable_transposed.defvjp(_transposed_forward, _transposed_backward)
_convolve_transposed = jax.jit(_differentiable_transposed, static_argnums=2)


def _transposed_size(x: Array, kernel: Array, geometry: Geometry) -> list[int]:
    """(height, width) of the output."""
    return [
        stride * (n - 1) + dilation * (taps - 1) + 1 - low - high
        for n, taps, stride, (low, high), dilation in zip(
            x.shape[1:3],
            kernel.shape[:2],
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            strict=True,
        )
    ]


def _transposed(x: Array, kernel: Array, geometry: Geometry) -> Array:
    sizes = _transposed_size(x, kernel, geometry)
    like = jnp.zeros((len(x), *sizes, kernel.shape[-1] * geometry.groups), x.dtype)
    return jax.vjp(lambda y: _convolve(y, _swapped(kernel), geometry), like)[1](x)[0]


def _transposed_gradients(
    x: Array, kernel: Array, gradient: Array, geometry: Geometry
) -> tuple[Array, Array]:
    # The compiler's own gradient by the kernel dilates both its arguments, at up to 70 times this.
    dx, by_kernel = jax.vjp(lambda k: _convolve(gradient, k, geometry), _swapped(kernel))
    return dx, _swapped(by_kernel(x)[0])


def _is_tiling(kernel: Array, geometry: Geometry) -> bool:
    """Whether each pixel of the output comes from exactly one of the input."""
    return (
        kernel.shape[:2] == geometry.stride
        and geometry.padding == ((0, 0), (0, 0))
        and geometry.dilation == (1, 1)
        and geometry.groups == 1
    )


def _tiled(x: Array, kernel: Array) -> Array:
    """The transposed convolution whose stride is the kernel's size: one matrix product."""
    b, h, w, c = x.shape
    kh, kw, _, d = kernel.shape
    y = x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, -1)
    y = y.reshape(b, h, w, kh, kw, d).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(b, h * kh, w * kw, d)
