"""Masks of polygons, one point of the boundary after the other."""

import itertools
import math

import numpy as np


def polygon_mask(corners, size):
    """bool[H, W]: each crossing of a column's middle turns over all pixels below it."""
    height, width = size
    mask = np.zeros(size, bool)
    points = [(math.trunc(5 * x + 0.5), math.trunc(5 * y + 0.5)) for x, y in corners.tolist()]
    for (u1, v1), (u2, v2) in zip(points, points[1:] + points[:1], strict=True):
        walk = boundary(u1, v1, u2, v2)
        for (u, v), (next_u, next_v) in itertools.pairwise(walk):
            column = (min(u, next_u) - 2) / 5
            if u != next_u and column in range(width):
                row = math.ceil((min(v, next_v) - 2) / 5)
                mask[min(max(row, 0), height) :, int(column)] ^= True
    return mask


def boundary(u1, v1, u2, v2):
    """The points from one corner to the next, either of which may be the first."""
    if abs(v2 - v1) > abs(u2 - u1):
        return [(u, v) for v, u in boundary(v1, u1, v2, u2)]
    if u1 > u2:
        u1, v1, u2, v2 = u2, v2, u1, v1
    if u1 == u2:
        return [(u1, v1)]
    slope = (v2 - v1) / (u2 - u1)
    return [(u, math.trunc(v1 + slope * (u - u1) + 0.5)) for u in range(u1, u2 + 1)]
