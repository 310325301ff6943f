"""Ways to compute a convolution: the compiler's own, and those that are fast on CPU."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import at_least_float32
from jaxvision.ops.primitives import stored_together

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
"""Of images, kernels and results."""

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
    transposed: bool = False  # Whether its transpose is what was asked for.


def library(
    kernel: Array, x: Array, *, geometry: Geometry, size: tuple[int, int], taps: tuple[int, int]
) -> Array:
    """XLA's own convolution."""
    return _library(x, kernel, geometry)


def _library(x: Array, kernel: Array, geometry: Geometry) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.stride,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=DIMENSIONS,
        feature_group_count=geometry.groups,
    )


def library_dx(
    kernel: Array, y: Array, *, geometry: Geometry, size: tuple[int, int], taps: tuple[int, int]
) -> Array:
    """The transpose of `library` as a function of the images, which are of `size`."""
    return _dx(_library, kernel, y, geometry, size)


def library_dk(
    x: Array, y: Array, *, geometry: Geometry, size: tuple[int, int], taps: tuple[int, int]
) -> Array:
    """The transpose of `library` as a function of the kernel, which has `taps`."""
    return _dk(_library, x, y, geometry, taps)


def on_cpu(
    kernel: Array, x: Array, *, geometry: Geometry, size: tuple[int, int], taps: tuple[int, int]
) -> Array:
    """The convolution in the fastest form on a CPU, by `benchmarks/conv.py`."""
    return _fastest(kernel, geometry)(x, kernel, geometry)


def on_cpu_dx(
    kernel: Array, y: Array, *, geometry: Geometry, size: tuple[int, int], taps: tuple[int, int]
) -> Array:
    """`library_dx`, likewise."""
    kernel, y = stored_together(kernel, y)  # transposed copies are made when they are needed
    form = _fastest_to_transpose(kernel, geometry)
    if form is _depthwise:
        return _depthwise_dx(kernel, y, geometry, size)
    return _dx(form, kernel, y, geometry, size)


def on_cpu_dk(
    x: Array, y: Array, *, geometry: Geometry, size: tuple[int, int], taps: tuple[int, int]
) -> Array:
    """`library_dk`, likewise."""
    x, y = stored_together(x, y)
    form = _fastest_to_transpose(_kernel_like(x, y, geometry, taps), geometry)
    if form is _depthwise:
        return _depthwise_dk(x, y, geometry, taps)
    if form is _library:
        return _dense_dk(x, y, geometry, taps)
    return _dk(form, x, y, geometry, taps)


_Form = Callable[[Array, Array, Geometry], Array]
"""A way to compute a convolution."""


def _fastest(kernel: Array | jax.ShapeDtypeStruct, geometry: Geometry) -> _Form:
    kh, kw, inputs, _ = kernel.shape
    if inputs == 1 < geometry.groups and kh * kw <= _MOST_TAPS:
        return _depthwise
    if (kh, kw) == (1, 1) and geometry.padding == ((0, 0), (0, 0)):
        return _pointwise
    if geometry.groups == 1:
        return _tiles if geometry.transposed and _is_tiling(kernel, geometry) else _library
    lanes = inputs <= _LANE_INPUTS and kh * kw <= _FUSED_TAPS and geometry.groups >= _LANES
    return _group_lanes if lanes else _merged_groups


def _fastest_to_transpose(kernel: Array | jax.ShapeDtypeStruct, geometry: Geometry) -> _Form:
    form = _fastest(kernel, geometry)
    if form is _group_lanes:  # its transpose by the kernel is slow
        return _merged_groups
    return _tiles if form is _library and _is_tiling(kernel, geometry) else form


def _dx(form: _Form, kernel: Array, y: Array, geometry: Geometry, size: tuple[int, int]) -> Array:
    like = _images_like(kernel, y, geometry, size)
    return jax.linear_transpose(lambda x: form(x, kernel, geometry), like)(y)[0]


def _dk(form: _Form, x: Array, y: Array, geometry: Geometry, taps: tuple[int, int]) -> Array:
    like = _kernel_like(x, y, geometry, taps)
    return jax.linear_transpose(lambda kernel: form(x, kernel, geometry), like)(y)[0]


def _images_like(
    kernel: Array, y: Array, geometry: Geometry, size: tuple[int, int]
) -> jax.ShapeDtypeStruct:
    channels = kernel.shape[2] * geometry.groups
    return jax.ShapeDtypeStruct((y.shape[0], *size, channels), y.dtype)


def _kernel_like(
    x: Array, y: Array, geometry: Geometry, taps: tuple[int, int]
) -> jax.ShapeDtypeStruct:
    inputs = x.shape[-1] // geometry.groups
    return jax.ShapeDtypeStruct((*taps, inputs, y.shape[-1]), x.dtype)


def _dense_dk(x: Array, y: Array, geometry: Geometry, taps: tuple[int, int]) -> Array:
    """Of `library`, as a sum over strips of the image, of which each one stays near the processor.

    Of the whole at once it takes up to five times as long.
    """
    kernel = _kernel_like(x, y, geometry, taps)
    rows, _ = axes_of(x, kernel, geometry)
    strip = max(_STRIP_ROWS, -(-rows.count // _STRIPS))
    cut = geometry._replace(padding=((0, 0), geometry.padding[1]))
    total = jnp.zeros(kernel.shape, jnp.promote_types(x.dtype, jnp.float32))
    for first in range(0, rows.count, strip):
        part = at_least_float32(y[:, first : first + strip])
        seen = at_least_float32(_pad(x, rows.seen(first, part.shape[1]), (0, 0)))
        total += _dk(_library, seen, part, cut, taps)
    return total.astype(x.dtype)


def _is_tiling(kernel: Array | jax.ShapeDtypeStruct, geometry: Geometry) -> bool:
    """Whether the windows tile the image, so that each pixel is in one at most."""
    return (
        kernel.shape[:2] == geometry.stride
        and geometry.padding == ((0, 0), (0, 0))
        and geometry.dilation == (1, 1)
    )


def _tiles(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Windows that tile the image, and have no groups: one matrix product."""
    kh, kw, inputs, outputs = kernel.shape
    batch, height, width, _ = x.shape
    height, width = height // kh, width // kw
    x = x[:, : height * kh, : width * kw].reshape(batch, height, kh, width, kw, inputs)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch * height * width, kh * kw * inputs)
    rows = kernel.transpose(3, 0, 1, 2).reshape(outputs, kh * kw * inputs)
    return lax.dot_general(x, rows, (((1,), (1,)), ((), ()))).reshape(batch, height, width, outputs)


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


class Axis(NamedTuple):
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


def axes_of(x: Array, kernel: Array, geometry: Geometry) -> tuple[Axis, Axis]:
    options = zip(geometry.stride, geometry.padding, geometry.dilation, strict=True)
    sizes = zip(x.shape[1:3], kernel.shape[:2], strict=True)
    return tuple(
        Axis(size, taps, stride, low, high, dilation)
        for (size, taps), (stride, (low, high), dilation) in zip(sizes, options, strict=True)
    )


def _pad(x: Array, rows: tuple[int, ...], columns: tuple[int, ...]) -> Array:
    """Zeros (before, after) the image, and between its pixels where a third number is given."""
    edges = [(0, 0, 0), (*rows, 0)[:3], (*columns, 0)[:3], (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


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
    rows, columns = axes_of(x, kernel, geometry)
    x = _pad(x, *geometry.padding)
    return [at_least_float32(x[:, rows.met(i), columns.met(j)]) for i, j in _taps(kernel)]


def _depthwise(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """A sum over the kernel's taps of the image, shifted, times one number a channel."""
    x = _repeat(x, kernel)
    weights = _weights(kernel)
    if len(weights) <= _FUSED_TAPS:
        # Multiplied first and shifted then: the compiler makes one loop of it all, with no copy.
        rows, columns = axes_of(x, kernel, geometry)
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


def _depthwise_dx(kernel: Array, y: Array, geometry: Geometry, size: tuple[int, int]) -> Array:
    """The transpose of `_depthwise` as a function of the images."""
    inputs, outputs = geometry.groups, y.shape[-1]
    # Of the images in which each channel is repeated, then the sum over its copies.
    dx = _depthwise_dx_of_repeated(kernel, y, geometry, size)
    return dx if inputs == outputs else dx.reshape(*dx.shape[:3], inputs, -1).sum(axis=-1)


def _depthwise_dx_of_repeated(
    kernel: Array, y: Array, geometry: Geometry, size: tuple[int, int]
) -> Array:
    x = jax.ShapeDtypeStruct((y.shape[0], *size, y.shape[-1]), y.dtype)
    rows, columns = axes = axes_of(x, kernel, geometry)
    weights = _weights(kernel)
    dilated_steps = max(geometry.dilation) > 1 and max(geometry.stride) > 1
    if len(weights) <= _FUSED_TAPS or dilated_steps:
        wide = at_least_float32(y)

        def back(axis: Axis, tap: int) -> tuple[int, int, int]:
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
        return _depthwise(y, part[::-1, ::-1], plain)

    interleaved = [
        jnp.stack([plane(r, q) for q in range(columns.stride)], axis=3) for r in range(rows.stride)
    ]
    sizes = [axis.stride * size for axis, size in zip(axes, planes, strict=True)]
    dx = jnp.stack(interleaved, axis=2).reshape(len(x), *sizes, x.shape[-1])
    return _pad(
        dx,
        *((-axis.low, axis.low + axis.size - size) for axis, size in zip(axes, sizes, strict=True)),
    )


def _depthwise_dk(x: Array, y: Array, geometry: Geometry, taps: tuple[int, int]) -> Array:
    """The transpose of `_depthwise` as a function of the kernel."""
    kernel = _kernel_like(x, y, geometry, taps)
    wide = at_least_float32(y)
    terms = [window * wide for window in _windows(_repeat(x, kernel), kernel, geometry)]
    # One reduction for all taps reads the images once.
    sums = lax.reduce(
        terms,
        [jnp.zeros((), wide.dtype)] * len(terms),
        lambda totals, values: [t + v for t, v in zip(totals, values, strict=True)],
        (1,) if y.shape[1] >= _MANY_ROWS else (1, 2),
    )
    sums = jnp.stack(sums)
    sums = sums.sum(axis=range(1, sums.ndim - 1))
    return sums.reshape(kernel.shape).astype(x.dtype)
