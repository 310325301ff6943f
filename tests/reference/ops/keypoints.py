"""Keypoints in boxes, one at a time; maps are enlarged as a whole."""

import math

import numpy as np


def keypoint_cells(keypoints, boxes, *, size):
    cells = np.zeros(keypoints.shape[:2], np.int32)
    valid = np.zeros(keypoints.shape[:2], bool)
    for r, k in np.ndindex(cells.shape):
        x, y, visibility = keypoints[r, k]
        x1, y1, x2, y2 = boxes[r]
        if not (visibility > 0 and x1 <= x <= x2 and y1 <= y <= y2 and x1 < x2 and y1 < y2):
            continue
        column = size - 1 if x == x2 else math.floor((x - x1) * (size * (1 / (x2 - x1))))
        row = size - 1 if y == y2 else math.floor((y - y1) * (size * (1 / (y2 - y1))))
        if column < size and row < size:
            cells[r, k], valid[r, k] = row * size + column, True
    return cells, valid


def heatmaps_to_keypoints(heatmaps, boxes, *, image_size):
    heatmaps, boxes = heatmaps.astype(np.float64), boxes.astype(np.float64)
    points, scores = [], []
    for maps, (x1, y1, x2, y2) in zip(heatmaps, boxes, strict=True):
        width, height = max(x2 - x1, 1), max(y2 - y1, 1)
        columns = min(math.ceil(width), image_size[1])
        rows = min(math.ceil(height), image_size[0])
        for k in range(maps.shape[-1]):
            enlarged = _matrix(maps.shape[0], rows) @ maps[..., k]
            enlarged = enlarged @ _matrix(maps.shape[1], columns).T
            row, column = np.unravel_index(enlarged.argmax(), enlarged.shape)
            x, y = (column + 0.5) * width / columns, (row + 0.5) * height / rows
            points.append((x1 + x, y1 + y))
            scores.append(enlarged[row, column])
    shape = len(boxes), heatmaps.shape[-1]
    return np.reshape(points, (*shape, 2)), np.reshape(scores, shape)


def _matrix(inputs, outputs):
    """Of bicubic interpolation, with the outermost cells repeated."""
    matrix = np.zeros((outputs, inputs))
    for output in range(outputs):
        place = (output + 0.5) * inputs / outputs - 0.5
        for cell in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[output, min(max(cell, 0), inputs - 1)] += _keys(abs(place - cell))
    return matrix


def _keys(x, a=-0.75):
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0
