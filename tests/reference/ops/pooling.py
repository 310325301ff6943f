"""Pooling with one loop for each axis, and the cells of each window listed one by one."""

import math

import numpy as np


def _both(value):
    return value if isinstance(value, tuple) else (value, value)


def _places(cells, size, stride, padding, ceil_mode):
    """The start of each window along an axis; it may be in the padding."""
    rounded = math.ceil if ceil_mode else math.floor
    count = rounded((cells + 2 * padding - size) / stride) + 1
    starts = [n * stride - padding for n in range(count)]
    if ceil_mode and starts[-1] >= cells:
        starts.pop()
    return starts


def _pooled(x, reduce_window, kernel_size, stride, padding, ceil_mode):
    """reduce_window(values, (rows, columns), starts) -> one value, for each window."""
    sizes, paddings = _both(kernel_size), _both(padding)
    strides = sizes if stride is None else _both(stride)
    options = list(zip(x.shape[1:3], sizes, strides, paddings, strict=True))
    tops, lefts = (_places(*option, ceil_mode) for option in options)
    result = np.zeros((len(x), len(tops), len(lefts), x.shape[3]))
    for b, i, j, c in np.ndindex(*result.shape):
        cells = [
            (row, column)
            for row in range(tops[i], tops[i] + sizes[0])
            for column in range(lefts[j], lefts[j] + sizes[1])
        ]
        result[b, i, j, c] = reduce_window(np.asarray(x[b, :, :, c], np.float64), cells)
    return result


def _inside(plane, cell):
    return 0 <= cell[0] < plane.shape[0] and 0 <= cell[1] < plane.shape[1]


def _first_maximum(plane, cells):
    best = None
    for cell in cells:
        if _inside(plane, cell) and (best is None or plane[cell] > plane[best]):
            best = cell
    return best


def max_pool(x, kernel_size, *, stride=None, padding=0, ceil_mode=False):
    def maximum(plane, cells):
        return plane[_first_maximum(plane, cells)]

    return _pooled(x, maximum, kernel_size, stride, padding, ceil_mode)


def max_pool_with_indices(x, kernel_size, *, stride=None, padding=0, ceil_mode=False):
    def index(plane, cells):
        row, column = _first_maximum(plane, cells)
        return row * plane.shape[1] + column

    options = kernel_size, stride, padding, ceil_mode
    return (
        max_pool(x, kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode),
        _pooled(x, index, *options).astype(np.int32),
    )


def max_pool_gradient(x, gradient, kernel_size, **options):
    """Each output's gradient added up at the first maximum of its window."""
    indices = max_pool_with_indices(x, kernel_size, **options)[1]
    result = np.zeros((len(x), x.shape[1] * x.shape[2], x.shape[3]))
    for b, i, j, c in np.ndindex(*indices.shape):
        result[b, indices[b, i, j, c], c] += gradient[b, i, j, c]
    return result.reshape(x.shape)


def max_unpool(x, indices, *, output_size):
    height, width = output_size
    result = np.zeros((len(x), height, width, x.shape[3]))
    for b, i, j, c in np.ndindex(*x.shape):
        if 0 <= indices[b, i, j, c] < height * width:
            row, column = divmod(int(indices[b, i, j, c]), width)
            result[b, row, column, c] = x[b, i, j, c]
    return result


def avg_pool(x, kernel_size, *, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    margins = _both(padding)

    def mean(plane, cells):
        values = [plane[cell] if _inside(plane, cell) else 0.0 for cell in cells]
        limits = [(-m, n + m) for m, n in zip(margins, plane.shape, strict=True)]
        if not count_include_pad:
            limits = [(0, n) for n in plane.shape]
        counted = [
            all(low <= x < high for x, (low, high) in zip(cell, limits, strict=True))
            for cell in cells
        ]
        return sum(values) / sum(counted)

    return _pooled(x, mean, kernel_size, stride, padding, ceil_mode)


def adaptive_avg_pool(x, output_size):
    size = _both(output_size)
    result = np.zeros((len(x), *size, x.shape[3]))
    for b, i, j, c in np.ndindex(*result.shape):
        (top, bottom), (left, right) = (
            (math.floor(n * cells / bins), math.ceil((n + 1) * cells / bins))
            for n, cells, bins in zip((i, j), x.shape[1:3], size, strict=True)
        )
        values = [float(x[b, r, s, c]) for r in range(top, bottom) for s in range(left, right)]
        result[b, i, j, c] = sum(values) / len(values)
    return result


def global_avg_pool(x):
    return np.array(
        [[np.asarray(x[b, :, :, c], "f8").mean() for c in range(x.shape[3])] for b in range(len(x))]
    ).reshape(len(x), x.shape[3])
