"""Features of regions of interest: RoIPool, RoIAlign, and RoIAlign over a feature pyramid.

Each function takes one image and computes the same number of bins for every box. Boxes are xyxy in
pixels of the network input; `spatial_scale` is the size of a feature map over the size of the input
(1 / stride). Only the features have a gradient; the gradient of the boxes is zero, as in
torchvision.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array
from jaxvision.ops.boxes import box_area
from jaxvision.ops.primitives import Form, by_platform, multilinear
from jaxvision.ops.static import integer, pair


def roi_pool(
    features: Array, boxes: Array, *, output_size: int | Sequence[int], spatial_scale: float
) -> Array:
    """Computes the maximum in each of h x w bins of each box, as Fast R-CNN's RoIPool.

    The scaled corners are rounded to cells, halves away from zero. The cells of both corners belong
    to the box, so that a box has at least one cell. Bin i of h over n cells has the cells from
    floor(i n / h) to ceil((i + 1) n / h) that are on the map.

    Args:
      features: float[H, W, C].
      boxes: float[N, 4], xyxy, pixels of the network input.
      output_size: number of bins, or (vertical, horizontal).
      spatial_scale: H over the height of the network input.
    Returns:
      float[N, h, w, C]; 0 for a bin outside the map. The first cell (row by row) that contains the
      maximum gets the gradient.
    Raises:
      AssertionError: the map has no cells.
      ValueError: output_size or spatial_scale is not positive.
    Source: Girshick 2015 ("Fast R-CNN"), section 2.1. Rounding is that of torchvision.ops.roi_pool,
      but bins are computed in integers; torchvision's float32 can make a bin larger by one cell.
    """
    size = pair("output_size", output_size)
    scale = _check_scale("spatial_scale", spatial_scale)
    features = _check_map("features", features)
    boxes = at_least_float32(check_array("boxes", boxes, ("N", 4)))
    return _roi_pool(features, boxes, size, scale)


def roi_align(
    features: Array,
    boxes: Array,
    *,
    output_size: int | Sequence[int],
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Array:
    """Computes the mean of bilinear samples in each of h x w bins of each box.

    A sample more than one cell outside the map is 0; closer samples have the value of the border.

    Args:
      features: float[H, W, C].
      boxes: float[N, 4], xyxy, pixels of the network input.
      output_size: number of bins, or (vertical, horizontal).
      spatial_scale: H over the height of the network input.
      sampling_ratio: number of samples along each side of a bin.
      aligned: whether the centre of pixel (0, 0) is at (0.5, 0.5). Otherwise it is at (0, 0), which
        shifts features by half a cell, and the sides of a box are at least one cell long.
    Returns:
      float[N, h, w, C]; half precision is summed in float32.
    Raises:
      AssertionError: the map has no cells.
      ValueError: an option is not positive. sampling_ratio = -1 is not supported, because a number
        of samples that depends on the box has no static size.
    Source: He et al. 2017 ("Mask R-CNN"), section 3; sampling as in torchvision.ops.roi_align.
    """
    scale = _check_scale("spatial_scale", spatial_scale)
    features = _check_map("features", features)
    boxes = at_least_float32(check_array("boxes", boxes, ("N", 4)))
    grid = _check_grid(output_size, sampling_ratio, aligned)
    return _roi_align((features,), boxes, jnp.zeros(len(boxes), jnp.int32), (scale,), grid)


def assign_levels(
    boxes: Array,
    *,
    min_level: int,
    max_level: int,
    canonical_size: float = 224,
    canonical_level: int = 4,
) -> Array:
    """Returns the level of a feature pyramid for each box, by the size of the box.

    k = floor(k0 + log2(sqrt(area) / size0)), clipped to min_level and max_level; level k has stride
    2^k. As in torchvision, 1e-6 is added before rounding down.

    Args:
      boxes: float[N, 4], xyxy, pixels of the network input.
      min_level: the finest level.
      max_level: the coarsest level.
      canonical_size: size0, the side of a square box on level k0, pixels.
      canonical_level: k0.
    Returns:
      i32[N], in min_level..max_level; min_level for a box without area. Subtract min_level to get
      an index into a list of maps.
    Raises:
      ValueError: max_level is less than min_level, or canonical_size is not positive.
    Source: Lin et al. 2017 ("Feature pyramid networks"), equation 1.
    """
    if max_level < min_level:
        raise ValueError(f"max_level is {max_level}: give at least min_level, {min_level}")
    size = _check_scale("canonical_size", canonical_size)
    side = jnp.sqrt(box_area(check_array("boxes", boxes, ("N", 4))))
    # The least side of each level above the lowest one. Counting the sides that a box reaches needs
    # no logarithm.
    steps = np.arange(min_level + 1, max_level + 1) - canonical_level - 1e-6
    passed = side[:, None] >= jnp.asarray(size * 2.0**steps, side.dtype)[None]
    return min_level + passed.sum(1, dtype=jnp.int32)


def multilevel_roi_align(
    features: Sequence[Array],
    boxes: Array,
    *,
    output_size: int | Sequence[int],
    spatial_scales: Sequence[float],
    levels: Array | None = None,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Array:
    """Computes `roi_align` of each box on one of several maps.

    Args:
      features: float[H_l, W_l, C] for each level.
      boxes: float[N, 4], xyxy, pixels of the network input.
      output_size: number of bins, or (vertical, horizontal).
      spatial_scales: spatial_scale of `roi_align` for each level.
      levels: i32[N], index of the map in `features` for each box, clipped to the valid indices.
        None: computed by `assign_levels`; each scale must then be half of the scale before.
      sampling_ratio: number of samples along each side of a bin.
      aligned: as for `roi_align`.
    Returns:
      float[N, h, w, C]; half precision is summed in float32.
    Raises:
      AssertionError: a map has no cells.
      ValueError: an option is not positive; the number of scales is not the number of maps; or
        levels is None and the scales are not descending powers of 2.
    Source: Lin et al. 2017 ("Feature pyramid networks"), section 4.2.
    """
    if not features or len(features) != len(spatial_scales):
        raise ValueError(
            f"spatial_scales has {len(spatial_scales)} numbers for {len(features)} maps of "
            "features: give one for each"
        )
    scales = tuple(_check_scale("spatial_scales", scale) for scale in spatial_scales)
    channels = jnp.shape(features[0])[-1:]
    features = tuple(
        _check_map(f"features[{level}]", x, *channels) for level, x in enumerate(features)
    )
    boxes = at_least_float32(check_array("boxes", boxes, ("N", 4)))
    grid = _check_grid(output_size, sampling_ratio, aligned)
    if levels is None:
        first = round(-math.log2(scales[0]))
        if any(scale != 2.0 ** -(first + n) for n, scale in enumerate(scales)):
            raise ValueError(
                f"spatial_scales is {spatial_scales}: give levels, or scales that are powers of 2 "
                "and each half the one before"
            )
        levels = assign_levels(boxes, min_level=first, max_level=first + len(scales) - 1) - first
    levels = check_array("levels", levels, (len(boxes),), "int")
    levels = jnp.clip(levels.astype(jnp.int32), 0, len(features) - 1)
    return _roi_align(features, boxes, levels, scales, grid)


def _check_map(name: str, features: Array, channels: int | str = "C") -> Array:
    features = check_array(name, features, ("H", "W", channels))
    if 0 in features.shape[:2]:
        raise AssertionError(f"{name} is {features.dtype}{list(features.shape)}: it has no cells")
    return features


def _check_scale(name: str, scale: float) -> float:
    if not scale > 0 or not math.isfinite(scale):
        raise ValueError(f"{name} is {scale!r}: give a positive number")
    return float(scale)


class _Grid(NamedTuple):
    """The bins and samples of a box."""

    bins: tuple[int, int]
    ratio: int
    aligned: bool


def _check_grid(output_size: int | Sequence[int], sampling_ratio: int, aligned: bool) -> _Grid:
    bins = pair("output_size", output_size)
    try:
        ratio = integer("sampling_ratio", sampling_ratio)
    except ValueError as error:
        raise ValueError(
            f"{error}; a number of samples that depends on the box would have no static size"
        ) from None
    return _Grid(bins, ratio, bool(aligned))


# The maps of all levels are stored in one table of cells [sum of H_l W_l, C], so that one gather
# serves boxes of all levels.


# Number of boxes whose gradients are scattered at once, measured by benchmarks/roi.py. It is larger
# on an accelerator, for fewer launches.
_CHUNK_ON_CPU = 32
_CHUNK = 256


class _Samples(NamedTuple):
    """Bilinear samples along one axis of a map, S for each of N boxes.

    Each tuple has two entries: for the cell before the sample, and for the next cell, which at the
    border is the same cell with weight 0.
    """

    index: tuple[Array, Array]  # i32[N, S]
    weight: tuple[Array, Array]  # f32[N, S]


def _samples_along(start: Array, size: Array, cells: Array, bins: int, ratio: int) -> _Samples:
    """Returns samples for boxes at `start` with sides `size`, on maps of `cells` cells; all [N]."""
    count = bins * ratio
    steps = jnp.asarray((np.arange(count) + 0.5) / count, start.dtype)
    position = start[:, None] + size[:, None] * steps[None]
    cells = cells[:, None]
    inside = (position >= -1) & (position <= cells)
    position = jnp.clip(position, 0, cells - 1)
    before = jnp.floor(position)
    share = position - before
    index = before.astype(jnp.int32)
    return _Samples(
        (index, jnp.minimum(index + 1, cells - 1)),
        tuple(jnp.where(inside, w / ratio, 0) for w in (1 - share, share)),
    )


def _samples(
    boxes: Array,
    levels: Array,
    sizes: tuple[tuple[int, int], ...],
    scales: tuple[float, ...],
    grid: _Grid,
) -> tuple[_Samples, _Samples]:
    """Returns vertical samples, with the row's first cell in the table as index, and horizontal."""
    heights, widths = np.asarray(sizes, np.int32).T
    offsets = np.cumsum(np.append(0, heights * widths)[:-1], dtype=np.int32)
    height, width, offset = (jnp.asarray(x)[levels] for x in (heights, widths, offsets))
    scaled = boxes * jnp.asarray(scales, boxes.dtype)[levels][:, None]
    start, size = scaled[:, :2], scaled[:, 2:] - scaled[:, :2]
    if grid.aligned:
        start = start - 0.5
    else:
        size = jnp.maximum(size, 1)
    vertical, horizontal = (
        _samples_along(start[:, axis], size[:, axis], cells, bins, grid.ratio)
        for axis, cells, bins in zip((1, 0), (height, width), grid.bins, strict=True)
    )
    rows = tuple(offset[:, None] + index * width[:, None] for index in vertical.index)
    return vertical._replace(index=rows), horizontal


@functools.partial(jax.jit, static_argnums=(3, 4))  # so that an eager call compiles once
def _roi_align(
    features: tuple[Array, ...],
    boxes: Array,
    levels: Array,
    scales: tuple[float, ...],
    grid: _Grid,
) -> Array:
    channels = features[0].shape[-1]
    table = jnp.concatenate([x.reshape(-1, channels) for x in features])
    sizes = tuple(x.shape[:2] for x in features)
    return _gather(lax.stop_gradient(boxes), levels, table, sizes=sizes, scales=scales, grid=grid)


def _gather_samples(
    boxes: Array,
    levels: Array,
    table: Array,
    *,
    sizes: tuple[tuple[int, int], ...],
    scales: tuple[float, ...],
    grid: _Grid,
) -> Array:
    """Computes the outputs as a sum of gathers.

    It compiles to one loop over the outputs, which needs no further memory. Its transpose is a
    scatter of pairs of cells, a few boxes at a time: the updates are fewer and larger than those of
    the transposed gathers, and the memory is bounded.
    """
    vertical, horizontal = _samples(boxes, levels, sizes, scales, grid)
    shape = (len(boxes), *grid.bins, table.shape[-1])
    total = jnp.zeros(shape, at_least_float32(table[:0]).dtype)
    for row, column, down, right in np.ndindex(grid.ratio, grid.ratio, 2, 2):
        rows, columns = np.s_[:, row :: grid.ratio, None], np.s_[:, None, column :: grid.ratio]
        index = vertical.index[down][rows] + horizontal.index[right][columns]
        weight = vertical.weight[down][rows] * horizontal.weight[right][columns]
        cells = table.at[index].get(mode="promise_in_bounds")
        total += weight[..., None].astype(total.dtype) * cells
    return total.astype(table.dtype)


def _scatter_samples(
    boxes: Array,
    levels: Array,
    values: Array,
    *,
    sizes: tuple[tuple[int, int], ...],
    scales: tuple[float, ...],
    grid: _Grid,
    chunk: int,
) -> Array:
    samples = _samples(boxes, levels, sizes, scales, grid)
    table = _scatter(at_least_float32(values), *samples, sizes=sizes, chunk=chunk)
    return table[:-1].astype(values.dtype)


# Each of the two is the transpose of the other, for given boxes and levels.
_, _gather = multilinear(
    Form(
        "roi_align_transposed",
        functools.partial(_scatter_samples, chunk=_CHUNK),
        functools.partial(_scatter_samples, chunk=_CHUNK_ON_CPU),
    ),
    Form("roi_align", _gather_samples, _gather_samples),
    residuals=2,
)


def _scatter(
    gradient: Array,
    vertical: _Samples,
    horizontal: _Samples,
    *,
    sizes: tuple[tuple[int, int], ...],
    chunk: int,
) -> Array:
    """Computes the gradient of the table from that of the outputs, f32[N, h, w, C], in chunks."""
    count, height, width, channels = gradient.shape
    # One extra cell: a pair that starts at the last cell has a second cell of weight 0.
    table = jnp.zeros((sum(map(math.prod, sizes)) + 1, channels), gradient.dtype)
    if count == 0:
        return table
    chunk = min(chunk, count)

    def add(number: Array, table: Array) -> Array:
        first = number * chunk
        # The last chunk is as long as the others; boxes that it repeats must not count twice.
        start = jnp.minimum(first, count - chunk)
        v, h, g = jax.tree.map(
            lambda x: lax.dynamic_slice_in_dim(x, start, chunk), (vertical, horizontal, gradient)
        )
        fresh = start + jnp.arange(chunk) >= first
        g = jnp.where(fresh[:, None, None, None], g, 0)
        # index is the start of each pair, [chunk, height, ratio, 2, width, ratio].
        rows = jnp.stack(v.index, axis=-1).reshape(chunk, height, -1, 2)
        columns = h.index[0].reshape(chunk, width, -1)
        index = rows[..., None, None] + columns[:, None, None, None]
        down = jnp.stack(v.weight, axis=-1).reshape(*rows.shape).astype(g.dtype)
        right = jnp.stack(h.weight, axis=-1).reshape(*columns.shape, 2).astype(g.dtype)
        weight = down[..., None, None, None] * right[:, None, None, None]
        updates = weight[..., None] * g[:, :, None, None, :, None, None]
        return lax.scatter_add(
            table,
            index.reshape(-1, 1),
            updates.reshape(-1, 2, channels),
            lax.ScatterDimensionNumbers(
                update_window_dims=(1, 2),
                inserted_window_dims=(),
                scatter_dims_to_operand_dims=(0,),
            ),
            mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )

    return lax.fori_loop(0, -(-count // chunk), add, table)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _roi_pool(features: Array, boxes: Array, size: tuple[int, int], scale: float) -> Array:
    spans = _bins(lax.stop_gradient(boxes), features.shape[:2], size, scale)
    return _maxima_of_bins(features, spans)[0]


class _Bins(NamedTuple):
    """The first cell of each bin along one axis, and the cell after its last, i32[N, bins]."""

    start: Array
    stop: Array


def _bins(
    boxes: Array, cells: tuple[int, int], size: tuple[int, int], scale: float
) -> tuple[_Bins, _Bins]:
    """Returns the vertical and the horizontal bins."""
    # The limit prevents overflow of the products and does not change the result.
    limit = 2**28 // max(size)
    scaled = jnp.clip(boxes * scale, -limit, limit)
    # Halves are rounded away from zero, as in C.
    corners = (jnp.sign(scaled) * jnp.floor(jnp.abs(scaled) + 0.5)).astype(jnp.int32)
    result = []
    for axis in (1, 0):
        start, last = corners[:, axis, None], corners[:, axis + 2, None]
        count = jnp.maximum(last - start + 1, 1)
        bins = size[1 - axis]
        number = jnp.arange(bins, dtype=jnp.int32)[None]
        edges = start + number * count // bins, start - (-(number + 1) * count // bins)
        result.append(_Bins(*(jnp.clip(edge, 0, cells[1 - axis]) for edge in edges)))
    return result[0], result[1]


@jax.custom_jvp
def _maxima_of_bins(features: Array, spans: tuple[_Bins, _Bins]) -> tuple[Array, Array]:
    return by_platform(
        features,
        spans,
        default=functools.partial(_maxima, chunk=None),
        # Few boxes at a time, so that their outputs stay in the cache.
        cpu=functools.partial(_maxima, chunk=16),
    )


@_maxima_of_bins.defjvp
def _maxima_of_bins_jvp(
    primals: tuple[Array, tuple[_Bins, _Bins]], tangents: tuple[Array, Any]
) -> tuple[tuple[Array, Array], tuple[Array, Any]]:
    maximum, place = _maxima_of_bins(*primals)
    cells = at_least_float32(tangents[0]).reshape(-1)
    tangent = cells.at[place].get(mode="fill", fill_value=0, wrap_negative_indices=False)
    return (maximum, place), (
        tangent.astype(maximum.dtype),
        np.zeros(place.shape, jax.dtypes.float0),
    )


def _maxima(
    features: Array, bins: tuple[_Bins, _Bins], *, chunk: int | None
) -> tuple[Array, Array]:
    """Returns the maximum of each bin and its position in the flat map.

    The position of an empty bin is out of range. The loop takes one step for each cell of the
    largest bin.
    """
    _, width, channels = features.shape
    table = features.reshape(-1, channels)

    def pool(bins: tuple[_Bins, _Bins]) -> tuple[Array, Array]:
        top, bottom = (x[:, :, None] for x in bins[0])
        left, right = (x[:, None, :] for x in bins[1])
        rows, columns = (jnp.max(x.stop - x.start, initial=0) for x in bins)

        def visit(step: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            maximum, cell = best
            row, column = top + step // columns, left + step % columns
            inside = (row < bottom) & (column < right)
            here = jnp.where(inside, row * width + column, 0)
            value = table.at[here].get(mode="promise_in_bounds")
            better = inside[..., None] & ((cell < 0) | (value > maximum))
            return jnp.where(better, value, maximum), jnp.where(better, here[..., None], cell)

        shape = (*jnp.broadcast_shapes(top.shape, left.shape), channels)
        start = jnp.zeros(shape, table.dtype), jnp.full(shape, -1, jnp.int32)
        maximum, cell = lax.fori_loop(0, rows * columns, visit, start)
        place = cell * channels + lax.broadcasted_iota(jnp.int32, shape, 3)
        return maximum, jnp.where(cell < 0, features.size, place)

    count = len(bins[0].start)
    if chunk is None or count <= chunk:
        return pool(bins)
    missing = -count % chunk
    # Empty bins fill the last chunk.
    chunks = jax.tree.map(
        lambda x: jnp.pad(x, ((0, missing), (0, 0))).reshape(-1, chunk, x.shape[1]), bins
    )
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], lax.map(pool, chunks))
