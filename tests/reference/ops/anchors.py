"""Anchors in plain python floats, one at a time."""

import math

import jax
import numpy as np


def anchor_shapes(scales, aspect_ratios):
    return np.array([[s / math.sqrt(r), s * math.sqrt(r)] for r in aspect_ratios for s in scales])


def grid_anchors(shapes, *, feature_size, stride, offset=0.0):
    vertical, horizontal = stride if isinstance(stride, tuple) else (stride, stride)
    anchors = []
    for row in range(feature_size[0]):
        for column in range(feature_size[1]):
            for w, h in np.asarray(shapes, float):
                x, y = (column + offset) * horizontal, (row + offset) * vertical
                anchors.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return np.array(anchors).reshape(-1, 4)


def ssd_default_boxes(
    feature_sizes, *, image_size, sizes, aspect_ratios, clip=False, limit_sides=False
):
    """With the maps covering the image evenly."""
    height, width = image_size
    boxes = []
    for k, (rows, columns) in enumerate(feature_sizes):
        s, extra = sizes[k], math.sqrt(sizes[k] * sizes[k + 1])
        shapes = [(s, s), (extra, extra)]
        for a in aspect_ratios[k]:
            shapes.append((s * math.sqrt(a), s / math.sqrt(a)))
            shapes.append((s / math.sqrt(a), s * math.sqrt(a)))
        if limit_sides:
            shapes = [(min(w, width), min(h, height)) for w, h in shapes]
        for row in range(rows):
            for column in range(columns):
                for w, h in shapes:
                    x, y = (column + 0.5) / columns * width, (row + 0.5) / rows * height
                    box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                    if clip:
                        limits = [width, height] * 2
                        box = [min(max(v, 0), m) for v, m in zip(box, limits, strict=True)]
                    boxes.append(box)
    return np.array(boxes)


def iou(a, b):
    a, b = [float(x) for x in a], [float(x) for x in b]
    if min(a + b) <= 0:
        return 0.0
    both = min(a[0], b[0]) * min(a[1], b[1])
    return both / (a[0] * a[1] + b[0] * b[1] - both)


def shape_iou(shapes1, shapes2):
    return np.array([[iou(a, b) for b in shapes2] for a in shapes1]).reshape(
        len(shapes1), len(shapes2)
    )


def _valid(shapes, mask):
    used = [True] * len(shapes) if mask is None else mask
    return [bool(u) and min(s) > 0 for s, u in zip(shapes, used, strict=True)]


def average_iou(shapes, anchors, mask=None):
    valid = _valid(shapes, mask)
    best = [max(iou(s, a) for a in anchors) for s, v in zip(shapes, valid, strict=True) if v]
    return np.array(sum(best) / len(best) if best else 0.0)


def kmeans_anchors(key, shapes, mask=None, *, k, distance="iou", iterations=300):
    """Draws with the same random numbers, and is plain otherwise."""
    valid = _valid(shapes, mask)
    shapes = [[float(w), float(h)] for w, h in shapes]

    def apart(a, b):
        if distance == "iou":
            return 1 - iou(a, b)
        return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2

    if not any(valid):
        return np.zeros((k, 2))
    centres = []
    for step in jax.random.split(key, k):
        gumbel = np.asarray(jax.random.gumbel(step, (len(shapes),)), float)
        weights = [
            min([apart(s, c) for c in centres], default=1.0) * v
            for s, v in zip(shapes, valid, strict=True)
        ]
        if max(weights) == 0:
            weights = [float(v) for v in valid]
        values = [
            g + math.log(w) if w > 0 else -math.inf for g, w in zip(gumbel, weights, strict=True)
        ]
        centres.append(shapes[int(np.argmax(values))])

    def nearest(s):
        return int(np.argmin([apart(s, c) for c in centres]))

    clusters = [nearest(s) for s in shapes]
    for _ in range(iterations):
        for j in range(k):
            members = [s for s, v, c in zip(shapes, valid, clusters, strict=True) if v and c == j]
            if members:
                centres[j] = [sum(m[axis] for m in members) / len(members) for axis in (0, 1)]
        moved = [nearest(s) for s in shapes]
        if all(a == b or not v for a, b, v in zip(moved, clusters, valid, strict=True)):
            break
        clusters = moved
    return np.array(sorted(centres, key=lambda c: c[0] * c[1]))
