"""Masks of M x M cells in frames of their own, one cell or pixel at a time."""

import math

import numpy as np


def crop_mask(mask, size):
    """The mean over each cell's area: every pixel by the share of the cell that it covers."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return np.zeros((size, size)), np.zeros(4)
    left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    height, width = (bottom - top) / size, (right - left) / size
    cells = np.zeros((size, size))
    for i, j in np.ndindex(size, size):
        y1, x1 = top + i * height, left + j * width
        for y, x in zip(ys, xs, strict=True):
            down = min(y + 1, y1 + height) - max(y, y1)
            across = min(x + 1, x1 + width) - max(x, x1)
            cells[i, j] += max(down, 0) * max(across, 0) / (height * width)
    return 255 * cells, np.array([left, top, right, bottom])


def value_at(cells, frame, x, y):
    """The value of a mask at a point of the image, in 0..1."""
    x1, y1, x2, y2 = map(float, frame)
    if not (x1 <= x < x2 and y1 <= y < y2):
        return 0.0
    count, total = len(cells), 0.0
    u, v = (x - x1) / (x2 - x1) * count - 0.5, (y - y1) / (y2 - y1) * count - 0.5
    u, v = min(max(u, 0), count - 1), min(max(v, 0), count - 1)
    for i in (math.floor(v), math.floor(v) + 1):
        for j in (math.floor(u), math.floor(u) + 1):
            share = (1 - abs(v - i)) * (1 - abs(u - j))
            if share > 0:
                total += share * float(cells[i, j]) / 255
    return total


def paint_masks(masks, frames, *, size):
    result = np.zeros((len(masks), *size))
    for n, y, x in np.ndindex(result.shape):
        result[n, y, x] = value_at(masks[n], frames[n], x + 0.5, y + 0.5)
    return result


def mean_in_cells(x, frames, *, cells):
    result = np.zeros((len(frames), cells, cells))
    for n, i, j in np.ndindex(result.shape):
        x1, y1, x2, y2 = map(float, frames[n])
        height, width = (y2 - y1) / cells, (x2 - x1) / cells
        if min(height, width) <= 0:
            continue
        for row, column in np.ndindex(x.shape):
            down = min(row + 1, y1 + (i + 1) * height) - max(row, y1 + i * height)
            across = min(column + 1, x1 + (j + 1) * width) - max(column, x1 + j * width)
            share = max(down, 0) * max(across, 0) / (height * width)
            result[n, i, j] += share * float(x[row, column])
    return result


def clip_masks(masks, frames, window):
    result = np.zeros_like(masks)
    for n, i, j in np.ndindex(masks.shape):
        x1, y1, x2, y2 = map(float, frames[n])
        height, width = (y2 - y1) / masks.shape[1], (x2 - x1) / masks.shape[1]
        down = min(y1 + (i + 1) * height, window[3]) - max(y1 + i * height, window[1])
        across = min(x1 + (j + 1) * width, window[2]) - max(x1 + j * width, window[0])
        if min(height, width) > 0 and down > 1e-3 * height and across > 1e-3 * width:
            result[n, i, j] = masks[n, i, j]
    return result
