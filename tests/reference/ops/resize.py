"""Resizing, one output at a time, along rows and then along columns."""

import math

import numpy as np


def _both(size):
    return size if isinstance(size, tuple) else (size, size)


def _separable(x, size, terms):
    """terms(output, inputs, outputs) -> [(input, weight)], for the height and then the width."""
    for axis, outputs in zip((x.ndim - 3, x.ndim - 2), _both(size), strict=True):
        x = np.moveaxis(x, axis, 0)
        rows = [
            sum(weight * x[cell] for cell, weight in terms(i, len(x), outputs))
            for i in range(outputs)
        ]
        x = np.moveaxis(np.stack(rows), 0, axis)
    return x


def resize_bilinear(x, size, *, align_corners=False):
    def terms(i, inputs, outputs):
        if align_corners:
            place = i * (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
        else:
            place = max((i + 0.5) * inputs / outputs - 0.5, 0.0)
        first = min(math.floor(place), inputs - 1)
        second = min(first + 1, inputs - 1)
        return [(first, 1 - (place - first)), (second, place - first)]

    return _separable(np.asarray(x, np.float64), size, terms)


def resize_nearest(x, size):
    height, width = _both(size)
    result = np.zeros((*x.shape[:-3], height, width, x.shape[-1]), x.dtype)
    for i, j in np.ndindex(height, width):
        row, column = i * x.shape[-3] // height, j * x.shape[-2] // width
        result[..., i, j, :] = x[..., row, column, :]
    return result


def _cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x <= 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


def resize_bicubic(x, size, *, antialias=True):
    """With cells counted from 1, as MATLAB does, and the mirrored border as a list of cells."""

    def terms(i, inputs, outputs):
        scale = outputs / inputs
        shrink = scale if antialias and scale < 1 else 1.0
        u = (i + 1) / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - 2 / shrink)
        cells = range(left, left + math.ceil(4 / shrink) + 2)
        weights = [_cubic(shrink * (u - cell)) for cell in cells]
        mirrored = [*range(1, inputs + 1), *range(inputs, 0, -1)]
        return [
            (mirrored[(cell - 1) % len(mirrored)] - 1, weight / sum(weights))
            for cell, weight in zip(cells, weights, strict=True)
        ]

    return _separable(np.asarray(x, np.float64), size, terms)
