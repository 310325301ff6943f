"""Boxes in plain python floats, one pair at a time."""

import math

import numpy as np


def _box(box):
    return [float(x) for x in box]


def area(box):
    x1, y1, x2, y2 = _box(box)
    return (x2 - x1) * (y2 - y1) if x2 > x1 and y2 > y1 else 0.0


def _intersection(a, b):
    a, b = _box(a), _box(b)
    return area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])


def _hull(a, b):
    a, b = _box(a), _box(b)
    return [min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]


def iou(a, b):
    if area(a) == 0 or area(b) == 0:
        return 0.0
    both = _intersection(a, b)
    return both / (area(a) + area(b) - both)


def generalized_iou(a, b):
    if area(a) == 0 or area(b) == 0:
        return 0.0
    union = area(a) + area(b) - _intersection(a, b)
    hull = area(_hull(a, b))
    return iou(a, b) - (hull - union) / hull


def distance_iou(a, b):
    if area(a) == 0 or area(b) == 0:
        return 0.0
    hull = _hull(a, b)
    a, b = _box(a), _box(b)
    distance = math.dist(
        ((a[0] + a[2]) / 2, (a[1] + a[3]) / 2), ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2)
    )
    diagonal = math.dist(hull[:2], hull[2:])
    return iou(a, b) - distance**2 / diagonal**2


def complete_iou(a, b):
    if area(a) == 0 or area(b) == 0:
        return 0.0
    angles = [math.atan((float(x[2]) - x[0]) / (float(x[3]) - x[1])) for x in (a, b)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    alpha = v / (1 - iou(a, b) + v) if v else 0.0
    return distance_iou(a, b) - alpha * v


def pairwise(measure):
    def matrix(boxes1, boxes2):
        values = [[measure(a, b) for b in boxes2] for a in boxes1]
        return np.array(values).reshape(len(boxes1), len(boxes2))

    return matrix


def elementwise(measure):
    return lambda boxes1, boxes2: np.array(
        [measure(a, b) for a, b in zip(boxes1, boxes2, strict=True)]
    )


box_iou = pairwise(iou)
generalized_box_iou = pairwise(generalized_iou)
distance_box_iou = pairwise(distance_iou)
complete_box_iou = pairwise(complete_iou)
elementwise_box_iou = elementwise(iou)
elementwise_generalized_box_iou = elementwise(generalized_iou)
elementwise_distance_box_iou = elementwise(distance_iou)
elementwise_complete_box_iou = elementwise(complete_iou)


def box_area(boxes):
    return np.array([area(box) for box in boxes])


def box_convert(boxes, in_fmt, out_fmt):
    result = []
    for box in boxes:
        a, b, c, d = _box(box)
        if in_fmt == "xywh":
            a, b, c, d = a, b, a + c, b + d
        if in_fmt == "cxcywh":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        if out_fmt == "xywh":
            a, b, c, d = a, b, c - a, d - b
        if out_fmt == "cxcywh":
            a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
        result.append([a, b, c, d])
    return np.array(result).reshape(len(boxes), 4)


def clip_boxes_to_image(boxes, size):
    height, width = (float(x) for x in size)
    limits = [width, height, width, height]
    clipped = [[min(max(float(x), 0.0), m) for x, m in zip(b, limits, strict=True)] for b in boxes]
    return np.array(clipped).reshape(len(boxes), 4)
