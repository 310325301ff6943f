"""Features of regions of interest: RoIPool, RoIAlign, and RoIAlign over a feature pyramid.

All work on one image and give every box the same number of bins. Boxes are xyxy in pixels of the
network input; `spatial_scale` is the size of a feature map over that of the input (1 / stride).
Derivatives are those by the features; those by the boxes are zero, as in torchvision.
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
    """The maximum in each of h x w bins of each box: Fast R-CNN's RoIPool.

    The scaled corners are rounded to cells, halves away from zero, and both count as inside, so
    that a box has at least one cell. Bin i of h over n cells has those from floor(i n / h) to
    ceil((i + 1) n / h), as far as they are on the map.

    Args:
      features: float[H, W, C].
      boxes: float[N, 4], xyxy, pixels of the network input.
      output_size: number of bins, or (vertical, horizontal).
      spatial_scale: H over the height of the network input.
    Returns:
      float[N, h, w, C]; 0 for a bin outside of the map. The first cell (row by row) that holds the
      maximum gets the gradient.
    Raises:
      AssertionError: an argument has another shape, is no float, or the map has no cells.
      ValueError: output_size or spatial_scale is no positive number.
    Source: Girshick 2015 ("Fast R-CNN"), section 2.1; rounding as torchvision.ops.roi_pool, but
      bins in integers, where torchvision's float32 can round them up by a cell.
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
    """The mean of bilinear samples in each of h x w bins of each box.

    A sample more than one cell outside of the map is 0; nearer ones take the border's value.

    Args:
      features: float[H, W, C].
      boxes: float[N, 4], xyxy, pixels of the network input.
      output_size: number of bins, or (vertical, horizontal).
      spatial_scale: H over the height of the network input.
      sampling_ratio: samples along each side of a bin.
      aligned: take pixel (0, 0) to have its centre at (0.5, 0.5). Otherwise it is at (0, 0), which
        shifts features by half a cell, and a box has sides of at least one cell.
    Returns:
      float[N, h, w, C]; half precision is summed in float32.
    Raises:
      AssertionError: an argument has another shape, is no float, or the map has no cells.
      ValueError: an option is no positive number. There is no sampling_ratio = -1: a number of
        samples that depends on the box has no fixed size.
    Source: He et al. 2017 ("Mask R-CNN"), section 3; sampling as torchvision.ops.roi_align.
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
    """The level of a feature pyramid whose cells fit the size of each box.

    k = floor(k0 + log2(sqrt(area) / size0)), within min_level and max_level; level k has stride
    2^k. As in torchvision, 1e-6 is added before rounding down.

    Args:
      boxes: float[N, 4], xyxy, pixels of the network input.
      min_level: the finest level there is.
      max_level: the coarsest.
      canonical_size: size0: side of a square box of level k0, pixels.
      canonical_level: k0.
    Returns:
      i32[N], from min_level to max_level; min_level for a box without area. Subtract min_level for
      positions in a list of maps.
    Raises:
      AssertionError: the boxes have another shape or are no floats.
      ValueError: max_level is below min_level, or the size is not positive.
    Source: Lin et al. 2017 ("Feature pyramid networks"), equation 1.
    """
    if max_level < min_level:
        raise ValueError(f"max_level is {max_level}: give at least min_level, {min_level}")
    size = _check_scale("canonical_size", canonical_size)
    side = jnp.sqrt(box_area(check_array("boxes", boxes, ("N", 4))))
    # The least side of each level above the lowest. Counting those passed needs no logarithm.
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
    """`roi_align` of each box on one of several maps.

    Args:
      features: float[H_l, W_l, C] for each level.
      boxes: float[N, 4], xyxy, pixels of the network input.
      output_size: number of bins, or (vertical, horizontal).
      spatial_scales: for each level, as `roi_align`'s spatial_scale.
      levels: i32[N], which of `features` each box is on; one out of range means the nearest. None:
        by `assign_levels`, if each scale is half the one before.
      sampling_ratio: samples along each side of a bin.
      aligned: as in `roi_align`.
    Returns:
      float[N, h, w, C]; half precision is summed in float32.
    Raises:
      AssertionError: an argument has another shape or dtype, or a map has no cells.
      ValueError: an option is no positive number; there are not as many scales as maps; or levels
        is None and the scales are no falling powers of 2.
    Source: Lin et al. 2017 ("Feature pyramid networks"), section 4.2.
    """
    if not features or len(features) != len(spatial_scales):
        raise ValueError(
            f"spatial_scales are {len(spatial_scales)} for {len(features)} maps of features: "
            "give one for each"
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
    """What of a box is sampled."""

    bins: tuple[int, int]
    ratio: int
    aligned: bool


def _check_grid(output_size: int | Sequence[int], sampling_ratio: int, aligned: bool) -> _Grid:
    bins = pair("output_size", output_size)
    try:
        ratio = integer("sampling_ratio", sampling_ratio)
    except ValueError as error:
        raise ValueError(
            f"{error}; a number of samples that depends on the box would have no fixed size"
        ) from None
    return _Grid(bins, ratio, bool(aligned))


# Maps of all levels lie in one table of cells [sum of H_l W_l, C], so that one gather serves boxes
# of all levels.


# Boxes whose gradients are scattered at once: benchmarks/roi.py. On an accelerator more, for fewer
# launches.
_CHUNK_ON_CPU = 32
_CHUNK = 256


class _Samples(NamedTuple):
    """Bilinear samples along one axis of a map, S for each of N boxes.

    Each tuple is of two: for the cell before the sample, and for the next one, which at the border
    is the same with weight 0.
    """

    index: tuple[Array, Array]  # i32[N, S]
    weight: tuple[Array, Array]  # f32[N, S]


def _samples_along(start: Array, size: Array, cells: Array, bins: int, ratio: int) -> _Samples:
    """Of boxes at `start` with sides `size` on maps of `cells` cells, each [N]."""
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
    """Vertical ones, indexed by a row's first cell in the table, and horizontal ones."""
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
    """A sum of gathers: it compiles to one loop over the outputs, which needs no memory of its own.

    Its transpose is a scatter of pairs of cells, a few boxes at a time: fewer and larger updates
    than the gathers' own transposes, in bounded memory.
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


# Each is the transpose of the other, for given boxes and levels.
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
    """Outputs' gradients f32[N, h, w, C] -> the table's, a chunk of boxes at a time."""
    count, height, width, channels = gradient.shape
    # One cell more: a pair that starts at the last cell has a second, of weight 0.
    table = jnp.zeros((sum(map(math.prod, sizes)) + 1, channels), gradient.dtype)
    if count == 0:
        return table
    chunk = min(chunk, count)

    def add(number: Array, table: Array) -> Array:
        first = number * chunk
        # The last chunk is as long as the others; what it repeats must not count twice.
        start = jnp.minimum(first, count - chunk)
        v, h, g = jax.tree.map(
            lambda x: lax.dynamic_slice_in_dim(x, start, chunk), (vertical, horizontal, gradient)
        )
        fresh = start + jnp.arange(chunk) >= first
        g = jnp.where(fresh[:, None, None, None], g, 0)
        # [chunk, height, ratio, 2, width, ratio]: where each pair starts; then the pairs.
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
    """First cell and the one after the last of each bin along one axis, i32[N, bins]."""

    start: Array
    stop: Array


def _bins(
    boxes: Array, cells: tuple[int, int], size: tuple[int, int], scale: float
) -> tuple[_Bins, _Bins]:
    """Vertical and horizontal ones."""
    # Farther away nothing changes but that products would overflow.
    limit = 2**28 // max(size)
    scaled = jnp.clip(boxes * scale, -limit, limit)
    # Halves away from zero, as C rounds.
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
        # So few boxes at a time that their outputs stay in the cache.
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
    """The maximum of each bin and its place in the flat map; out of range for an empty bin.

    One step for each cell of the largest bin.
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
    # Bins of nothing make the last chunk full.
    chunks = jax.tree.map(
        lambda x: jnp.pad(x, ((0, missing), (0, 0))).reshape(-1, chunk, x.shape[1]), bins
    )
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], lax.map(pool, chunks))
