"""YOLOv4's loss and the gradients of Darknet's code in plain python floats, one predictor at a
time."""

import math

import numpy as np

from tests.reference.losses_detection import _binary_cross_entropy, _objects, _sigmoid, _terms
from tests.reference.ops import box_coding
from tests.reference.ops.boxes import complete_iou, iou


def decode(t, anchor, row, column, stride, scale=1.0, squared=False):
    """(x1, y1, x2, y2), pixels."""
    x, y = (scale * _sigmoid(v) - (scale - 1) / 2 for v in t[:2])
    if squared:
        w, h = ((2 * _sigmoid(v)) ** 2 * s for v, s in zip(t[2:4], anchor, strict=True))
    else:
        w, h = (math.exp(min(v, 10.0)) * s for v, s in zip(t[2:4], anchor, strict=True))
    x, y = (x + column) * stride, (y + row) * stride
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def assign(logits, boxes, box_mask, anchors, strides, masks, iou_threshold):
    """{(level, row, column, index in the map): objects}."""
    result = {}
    anchors = [[float(x) for x in anchor] for anchor in anchors]
    for g in _objects(boxes, box_mask):
        w, h = (float(boxes[g][n + 2]) - float(boxes[g][n]) for n in (0, 1))
        overlaps = [iou([0, 0, w, h], [0, 0, *anchor]) for anchor in anchors]
        best = overlaps.index(max(overlaps))
        for level, (of_map, stride, mask) in enumerate(zip(logits, strides, masks, strict=True)):
            height, width = of_map.shape[:2]
            (row,), (column,) = box_coding.cell_index(
                boxes[g : g + 1],
                grid_size=(height, width),
                image_size=(height * stride, width * stride),
            )
            for index, number in enumerate(mask):
                if number == best or overlaps[number] > iou_threshold:
                    result.setdefault((level, int(row), int(column), index), []).append(g)
    return result


def _predictors(
    logits, boxes, labels, box_mask, anchors, *, strides, masks, iou_threshold, scale_x_y, squared
):
    """Of each predictor: its place, logits, box, objects and their classes."""
    assigned = assign(logits, boxes, box_mask, anchors, strides, masks, iou_threshold)
    for level, of_map in enumerate(logits):
        for row, column, index in np.ndindex(of_map.shape[:3]):
            t = [float(x) for x in of_map[row, column, index]]
            anchor = [float(x) for x in anchors[masks[level][index]]]
            scale = 1.0 if scale_x_y is None else scale_x_y[level]
            box = decode(t, anchor, row, column, strides[level], scale, squared)
            objects = assigned.get((level, row, column, index), [])
            yield (level, row, column, index), t, box, objects, {int(labels[g]) for g in objects}


def yolov4_loss(
    logits,
    boxes,
    labels,
    box_mask,
    anchors,
    *,
    strides,
    masks,
    scale_x_y=None,
    squared=False,
    iou_threshold=0.213,
    ignore_threshold=0.7,
    ignore_score=0.25,
    box_weight=0.07,
    objectness_weight=1.0,
    class_weight=1.0,
    label_smoothing=0.0,
    box_gradient="exact",
    max_delta=5.0,
):
    del box_gradient, max_delta  # which change the gradients alone
    if isinstance(objectness_weight, float):
        objectness_weight = [objectness_weight] * len(logits)
    box = found = empty = classes = 0.0
    how = {"strides": strides, "masks": masks, "iou_threshold": iou_threshold}
    how |= {"scale_x_y": scale_x_y, "squared": squared}
    for (level, *_), t, predicted, objects, of_objects in _predictors(
        logits, boxes, labels, box_mask, anchors, **how
    ):
        weight = objectness_weight[level]
        if objects:
            for g in objects:
                box += (1 - complete_iou(predicted, boxes[g])) / len(of_objects)
            found += weight * _binary_cross_entropy(t[4], 1)
            for c, v in enumerate(t[5:]):
                target = 1 - label_smoothing / 2 if c in of_objects else label_smoothing / 2
                classes += _binary_cross_entropy(v, target)
            continue
        best = max((iou(predicted, boxes[g]) for g in _objects(boxes, box_mask)), default=0)
        if not (best > ignore_threshold and _sigmoid(max(t[5:])) > ignore_score):
            empty += weight * _binary_cross_entropy(t[4], 0)
    return _terms(
        **{
            "box": box_weight * box,
            "objectness": found,
            "no_objectness": empty,
            "class": class_weight * classes,
        }
    )


def slope_of_complete_iou(predicted, target, factor):
    """What Darknet takes for the gradient of CIoU by (tx, ty, tw, th).

    Args:
      predicted: (x1, y1, x2, y2) relative to the image.
      target: likewise.
      factor: (exp(tw), exp(th)).
    """
    x, y, w, h = _centre(predicted)
    goal_x, goal_y, goal_w, goal_h = _centre(target)
    left, top, right, bottom = _iou_slopes(predicted, target)
    slope = [left + right, top + bottom, right - left, bottom - top]

    beyond = [a < b for a, b in zip(predicted[:2], target[:2], strict=True)]
    beyond += [a > b for a, b in zip(predicted[2:], target[2:], strict=True)]
    hull_w = max(predicted[2], target[2]) - min(predicted[0], target[0])
    hull_h = max(predicted[3], target[3]) - min(predicted[1], target[1])
    squares, diagonal = (x - goal_x) ** 2 + (y - goal_y) ** 2, hull_w**2 + hull_h**2
    for n, (offset, hull, low, high) in enumerate(
        [
            (x - goal_x, hull_w, beyond[0], beyond[2]),
            (y - goal_y, hull_h, beyond[1], beyond[3]),
        ]
    ):
        by_place, by_size = high - low, (high + low) / 2
        slope[n] -= (2 * offset * diagonal - squares * 2 * hull * by_place) / diagonal**2
        slope[n + 2] += squares * 2 * hull * by_size / diagonal**2

    angle = math.atan(goal_w / goal_h) - math.atan(w / h)
    v = 4 / math.pi**2 * angle**2
    alpha = v / (1 - iou(predicted, target) + v + 1e-6)
    slope[2] += alpha * 8 / math.pi**2 * angle * h
    slope[3] -= alpha * 8 / math.pi**2 * angle * w
    return [slope[0], slope[1], slope[2] * factor[0], slope[3] * factor[1]]


def _centre(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def _iou_slopes(a, b):
    """The gradient of the IoU by the sides (x1, y1, x2, y2) of a."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return [0.0] * 4
    both = width * height
    own = [a[2] - a[0], a[3] - a[1]]
    union = own[0] * own[1] + (b[2] - b[0]) * (b[3] - b[1]) - both
    of_both = [-height * (a[0] > b[0]), -width * (a[1] > b[1])]
    of_both += [height * (a[2] < b[2]), width * (a[3] < b[3])]
    of_area = [-own[1], -own[0], own[1], own[0]]
    return [
        (i * union - both * (area - i)) / union**2 for i, area in zip(of_both, of_area, strict=True)
    ]


def yolov4_deltas(
    logits,
    boxes,
    labels,
    box_mask,
    anchors,
    *,
    strides,
    masks,
    scale_x_y,
    iou_threshold=0.213,
    ignore_threshold=0.7,
    max_delta=5.0,
):
    """What Darknet's yolo layer hands back: minus the gradient by the logits."""
    deltas = [np.zeros(of_map.shape) for of_map in logits]
    how = {"strides": strides, "masks": masks, "iou_threshold": iou_threshold}
    for (level, *place), t, predicted, objects, of_objects in _predictors(
        logits, boxes, labels, box_mask, anchors, scale_x_y=scale_x_y, squared=False, **how
    ):
        delta = deltas[level][tuple(place)]
        height, width = (side * strides[level] for side in logits[level].shape[:2])
        sides = [width, height, width, height]
        if objects:
            for g in objects:
                slopes = slope_of_complete_iou(
                    [v / s for v, s in zip(predicted, sides, strict=True)],
                    [float(v) / s for v, s in zip(boxes[g], sides, strict=True)],
                    [math.exp(v) for v in t[2:4]],
                )
                for n, slope in enumerate(slopes):
                    delta[n] += min(max(0.07 * slope, -max_delta), max_delta)
            delta[:4] /= len(of_objects)
            delta[4] = 1 - _sigmoid(t[4])
            for c, v in enumerate(t[5:]):
                delta[5 + c] = (c in of_objects) - _sigmoid(v)
            continue
        best = max((iou(predicted, boxes[g]) for g in _objects(boxes, box_mask)), default=0)
        if not (best > ignore_threshold and _sigmoid(max(t[5:])) > 0.25):
            delta[4] = -_sigmoid(t[4])
    return deltas
