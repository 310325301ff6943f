"""Regions of interest, one sample of one bin of one box at a time."""

import math

import numpy as np


def _both(value):
    return value if isinstance(value, tuple) else (value, value)


def _bilinear(x, y, height, width):
    """[(row, column, weight)] of a sample at column x, row y."""
    if y < -1 or y > height or x < -1 or x > width:
        return []
    neighbours = []
    for value, cells in ((y, height), (x, width)):
        value = max(value, 0.0)
        low = math.floor(value)
        if low >= cells - 1:
            neighbours.append([(cells - 1, 1.0)])
        else:
            neighbours.append([(low, 1 - (value - low)), (low + 1, value - low)])
    return [(i, j, a * b) for i, a in neighbours[0] for j, b in neighbours[1]]


def _align_terms(box, shape, output_size, spatial_scale, sampling_ratio, aligned):
    """For each bin of a box the cells it sums: {(bin row, bin column): [(row, column, weight)]}."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (float(value) * spatial_scale - shift for value in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    bins = _both(output_size)
    # As many samples as a bin has cells, for a ratio of -1.
    down, across = (
        sampling_ratio if sampling_ratio > 0 else math.ceil(side / count)
        for side, count in zip((height, width), bins, strict=True)
    )
    terms = {}
    for i, j in np.ndindex(*bins):
        terms[i, j] = []
        for a, b in np.ndindex(down, across):
            y = y1 + (i + (a + 0.5) / down) * height / bins[0]
            x = x1 + (j + (b + 0.5) / across) * width / bins[1]
            terms[i, j] += [
                (row, column, weight / (down * across))
                for row, column, weight in _bilinear(x, y, *shape[:2])
            ]
    return terms


def multilevel_roi_align(
    features, boxes, levels, *, output_size, spatial_scales, sampling_ratio=2, aligned=True
):
    result = np.zeros((len(boxes), *_both(output_size), features[0].shape[2]))
    for n, (box, level) in enumerate(zip(boxes, levels, strict=True)):
        x = np.asarray(features[level], np.float64)
        options = output_size, spatial_scales[level], sampling_ratio, aligned
        for place, cells in _align_terms(box, x.shape, *options).items():
            for row, column, weight in cells:
                result[(n, *place)] += weight * x[row, column]
    return result


def multilevel_roi_align_gradient(
    features,
    boxes,
    levels,
    gradient,
    *,
    output_size,
    spatial_scales,
    sampling_ratio=2,
    aligned=True,
):
    result = [np.zeros(x.shape) for x in features]
    for n, (box, level) in enumerate(zip(boxes, levels, strict=True)):
        options = output_size, spatial_scales[level], sampling_ratio, aligned
        for place, cells in _align_terms(box, features[level].shape, *options).items():
            for row, column, weight in cells:
                result[level][row, column] += weight * gradient[(n, *place)]
    return result


def roi_align(features, boxes, *, spatial_scale, **options):
    levels = [0] * len(boxes)
    return multilevel_roi_align(
        [features], boxes, levels, spatial_scales=[spatial_scale], **options
    )


def roi_align_gradient(features, boxes, gradient, *, spatial_scale, **options):
    levels = [0] * len(boxes)
    return multilevel_roi_align_gradient(
        [features], boxes, levels, gradient, spatial_scales=[spatial_scale], **options
    )[0]


def _pool_cells(box, shape, output_size, spatial_scale):
    """{(bin row, bin column): [(row, column)]}, row by row."""

    def rounded(value):
        value = float(value) * spatial_scale
        return int(math.copysign(math.floor(abs(value) + 0.5), value))

    x1, y1, x2, y2 = (rounded(value) for value in box)
    height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    bins = _both(output_size)

    def span(start, count, number, total, cells):
        first = start + (number * count) // total
        last = start + -((-(number + 1) * count) // total)
        return range(max(first, 0), min(last, cells))

    return {
        (i, j): [
            (row, column)
            for row in span(y1, height, i, bins[0], shape[0])
            for column in span(x1, width, j, bins[1], shape[1])
        ]
        for i, j in np.ndindex(*bins)
    }


def _first_maxima(features, boxes, output_size, spatial_scale):
    """((box, bin row, bin column, channel), (row, column)) of each bin that is not empty."""
    for n, box in enumerate(boxes):
        bins = _pool_cells(box, features.shape, output_size, spatial_scale)
        for place, cells in bins.items():
            for channel in range(features.shape[2]) if cells else ():
                yield (
                    (n, *place, channel),
                    max(cells, key=lambda cell, c=channel: features[(*cell, c)]),
                )


def roi_pool(features, boxes, *, output_size, spatial_scale):
    result = np.zeros((len(boxes), *_both(output_size), features.shape[2]))
    for place, cell in _first_maxima(features, boxes, output_size, spatial_scale):
        result[place] = features[(*cell, place[-1])]
    return result


def roi_pool_gradient(features, boxes, gradient, *, output_size, spatial_scale):
    result = np.zeros(features.shape)
    for place, cell in _first_maxima(features, boxes, output_size, spatial_scale):
        result[(*cell, place[-1])] += gradient[place]
    return result


def assign_levels(boxes, *, min_level, max_level, canonical_size=224, canonical_level=4):
    levels = []
    for x1, y1, x2, y2 in np.asarray(boxes, np.float64):
        level = min_level
        if x2 > x1 and y2 > y1:
            side = math.sqrt((x2 - x1) * (y2 - y1))
            level = math.floor(canonical_level + math.log2(side / canonical_size) + 1e-6)
        levels.append(min(max(level, min_level), max_level))
    return np.array(levels, np.int32)
