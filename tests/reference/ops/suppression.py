"""Non-maximum suppression as a plain loop, in the boxes' own precision.

The same precision, because a box may lie on the threshold but for the last digit.
"""

import math

import numpy as np


def _iou(box, others):
    """IoU of one box with each of others, rounded at each operation like the boxes."""
    zero = box.dtype.type(0)

    def area(b):
        return np.maximum(b[..., 2] - b[..., 0], zero) * np.maximum(b[..., 3] - b[..., 1], zero)

    both = np.concatenate(
        [np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])], axis=1
    )
    union = area(box) + area(others) - area(both)
    return np.where(area(both) > 0, area(both) / np.where(union > 0, union, 1), zero)


def _distance(box, others):
    """Squared distances of the centres over the squared diagonals of the hulls."""
    quarter, one = box.dtype.type(0.25), box.dtype.type(1)
    apart = box[:2] + box[2:] - others[:, :2] - others[:, 2:]
    hull = np.maximum(box[2:], others[:, 2:]) - np.minimum(box[:2], others[:, :2])
    diagonal = (hull**2).sum(axis=1)
    return quarter * (apart**2).sum(axis=1) / np.where(diagonal > 0, diagonal, one)


def _in_falling_order(scores, score_threshold):
    present = [i for i, s in enumerate(scores) if s > score_threshold]  # false for NaN
    return sorted(present, key=lambda i: (-float(scores[i]), i))


def _padded(rows, size, dtypes):
    """Rows of numbers as one padded array for each column, and the mask."""
    rows = rows[:size]
    columns = [np.zeros(size, dtype) for dtype in dtypes]
    for i, row in enumerate(rows):
        for column, value in zip(columns, row, strict=True):
            column[i] = value
    return *columns, np.arange(size) < len(rows)


def greedy(boxes, scores, classes, iou_threshold, score_threshold, distance_power=None):
    """Indices kept, in order."""
    boxes = np.asarray(boxes)
    threshold = boxes.dtype.type(iou_threshold)
    kept = []
    left = _in_falling_order(scores, score_threshold)
    while left:
        best, *left = left
        kept.append(best)
        overlaps = _iou(boxes[best], boxes[left])
        if distance_power is not None:
            overlaps = overlaps - _distance(boxes[best], boxes[left]) ** distance_power
        left = [
            i
            for i, overlap in zip(left, overlaps, strict=True)
            if classes[i] != classes[best] or not overlap > threshold
        ]
    return kept


def nms(
    boxes,
    scores,
    *,
    iou_threshold,
    max_detections,
    score_threshold=-math.inf,
    distance_power=None,
):
    how = iou_threshold, score_threshold, distance_power
    kept = greedy(boxes, scores, np.zeros(len(boxes)), *how)
    return _padded([[i] for i in kept], max_detections, ["i4"])


def batched_nms(
    boxes,
    scores,
    classes,
    *,
    iou_threshold,
    max_detections,
    score_threshold=-math.inf,
    distance_power=None,
):
    """Each class by itself, then all by score."""
    kept, how = [], (iou_threshold, score_threshold, distance_power)
    for c in set(classes.tolist()):
        own = np.flatnonzero(classes == c)
        alone = greedy(boxes[own], scores[own], np.zeros(len(own)), *how)
        kept += own[alone].tolist()
    kept.sort(key=lambda i: (-float(scores[i]), i))
    return _padded([[i] for i in kept], max_detections, ["i4"])


def multiclass_nms(
    boxes,
    scores,
    *,
    iou_threshold,
    max_detections,
    score_threshold=-math.inf,
    max_candidates=None,
    distance_power=None,
):
    n, c = scores.shape
    pairs = [(i, k) for i in range(n) for k in range(c)]
    flat = np.array([scores[i, k] for i, k in pairs], scores.dtype)
    candidates = _in_falling_order(flat, score_threshold)[:max_candidates]
    if not candidates:
        return _padded([], max_detections, ["i4", "i4"])
    pairs = [pairs[i] for i in candidates]
    own = np.stack([boxes[i, k] if boxes.ndim == 3 else boxes[i] for i, k in pairs])
    classes = [k for _, k in pairs]
    how = iou_threshold, score_threshold, distance_power
    kept = greedy(own, flat[candidates], classes, *how)
    return _padded([pairs[i] for i in kept], max_detections, ["i4", "i4"])


def soft_nms(
    boxes,
    scores,
    *,
    max_detections,
    method="gaussian",
    sigma=0.5,
    iou_threshold=0.3,
    score_threshold=0.001,
):
    scores = {i: float(s) for i, s in enumerate(scores) if s > score_threshold}
    rows = []
    while scores and len(rows) < max_detections:
        best = min(scores, key=lambda i: (-scores[i], i))
        rows.append((best, scores.pop(best)))
        for i in list(scores):
            u = float(_iou(boxes[best], boxes[i : i + 1])[0])
            if method == "gaussian":
                scores[i] *= math.exp(-(u**2) / sigma)
            elif u >= iou_threshold:
                scores[i] *= 1 - u
            if not scores[i] > score_threshold:
                del scores[i]
    return _padded(rows, max_detections, ["i4", "f4"])


def per_class_nms(
    boxes, scores, *, iou_threshold, max_detections, max_per_class, score_threshold=-math.inf
):
    pairs = []
    for c in range(scores.shape[1]):
        best = _in_falling_order(scores[:, c], score_threshold)[:max_per_class]
        pairs += [(i, c) for i in best]
    places, classes = (np.array([pair[k] for pair in pairs], int) for k in (0, 1))
    kept = greedy(boxes[places], scores[places, classes], classes, iou_threshold, score_threshold)
    return _padded([pairs[n] for n in kept], max_detections, ["i4", "i4"])
