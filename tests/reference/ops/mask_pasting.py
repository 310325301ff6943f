"""Masks of boxes in the image, one pixel after the other."""

import math

import numpy as np


def pasted(mask, box, size):
    """f64[H, W]: the probability of each pixel of the image, 0 outside of the enlarged box."""
    cells = len(mask) + 2
    padded = np.pad(np.asarray(mask, np.float64), 1)
    x1, y1, x2, y2 = (float(x) for x in box)
    scale = cells / len(mask)
    left, right = (math.trunc((x1 + x2) / 2 + sign * (x2 - x1) / 2 * scale) for sign in (-1, 1))
    top, bottom = (math.trunc((y1 + y2) / 2 + sign * (y2 - y1) / 2 * scale) for sign in (-1, 1))
    width, height = max(right - left + 1, 1), max(bottom - top + 1, 1)
    image = np.zeros(size)
    for y in range(max(top, 0), min(bottom + 1, size[0])):
        v = min(max((y - top + 0.5) * cells / height - 0.5, 0), cells - 1)
        for x in range(max(left, 0), min(right + 1, size[1])):
            u = min(max((x - left + 0.5) * cells / width - 0.5, 0), cells - 1)
            rows = [np.interp(u, range(cells), row) for row in padded]
            image[y, x] = np.interp(v, range(cells), rows)
    return image
