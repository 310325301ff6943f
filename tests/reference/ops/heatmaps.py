"""Heatmaps, pixel by pixel."""

import math

import numpy as np


def gaussian_heatmaps(points, *, size, sigma):
    height, width = size
    result = np.zeros((height, width, len(points)))
    for row, column, k in np.ndindex(result.shape):
        x, y = map(float, points[k])
        square = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
        result[row, column, k] = math.exp(-square / (2 * sigma**2))
    return result


def _highest(heatmap):
    best = (0, 0)
    for place in np.ndindex(heatmap.shape):
        if heatmap[place] > heatmap[best]:
            best = place
    return best


def _vertex(values, index):
    """Of the parabola through three logarithms, by its coefficients; 0 where there is none."""
    if not 0 < index < len(values) - 1 or min(values[index - 1 : index + 2]) <= 0:
        return 0.0
    heights = [math.log(value) for value in values[index - 1 : index + 2]]
    square, slope, _ = np.linalg.solve([[1, -1, 1], [0, 0, 1], [1, 1, 1]], heights)
    return -slope / (2 * square) if len(set(heights)) > 1 else 0.0


def heatmap_argmax(heatmaps, *, subpixel=True):
    heatmaps = heatmaps.astype(np.float64)
    points, scores = [], []
    for k in range(heatmaps.shape[-1]):
        heatmap = heatmaps[..., k]
        row, column = _highest(heatmap)
        x, y = column + 0.5, row + 0.5
        if subpixel:
            x += _vertex(list(heatmap[row]), column)
            y += _vertex(list(heatmap[:, column]), row)
        points.append((x, y))
        scores.append(heatmap[row, column])
    return np.array(points).reshape(-1, 2), np.array(scores)


def soft_argmax(logits, *, temperature=1.0, radius=None):
    logits = logits.astype(np.float64)
    points = []
    for k in range(logits.shape[-1]):
        logit = logits[..., k]
        top, left = _highest(logit)
        total, x, y = 0.0, 0.0, 0.0
        for row, column in np.ndindex(logit.shape):
            if radius is not None and max(abs(row - top), abs(column - left)) > radius:
                continue
            share = math.exp((logit[row, column] - logit[top, left]) / temperature)
            total, x, y = total + share, x + share * (column + 0.5), y + share * (row + 0.5)
        points.append((x / total, y / total))
    return np.array(points).reshape(-1, 2)
