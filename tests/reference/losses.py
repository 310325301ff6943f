"""Losses of one example in plain numpy."""

import math
from functools import partial

import numpy as np

from tests.reference.ops import boxes


def _smoothed(target, num_classes, label_smoothing):
    if np.ndim(target) == 0:
        target = [1.0 if k == target else 0.0 for k in range(num_classes)]
    return [(1 - label_smoothing) * float(q) + label_smoothing / num_classes for q in target]


def softmax(logits):
    logits = [float(x) for x in logits]
    exps = [math.exp(x - max(logits)) for x in logits]
    return [e / sum(exps) for e in exps]


def cross_entropy(logits, target, weight=1.0, *, label_smoothing=0.0):
    logits = [float(x) for x in logits]
    log_sum = max(logits) + math.log(sum(math.exp(x - max(logits)) for x in logits))
    total = 0.0
    for x, q in zip(logits, _smoothed(target, len(logits), label_smoothing), strict=True):
        total -= float(weight) * q * (x - log_sum)
    return np.array(total), np.array(float(weight))


def cross_entropy_gradient(logits, target, weight=1.0, *, label_smoothing=0.0):
    q = _smoothed(target, len(logits), label_smoothing)
    p = softmax(logits)
    return np.array([float(weight) * (p[k] - q[k]) for k in range(len(logits))])


def _log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def _rows(mask, *arrays):
    """The rows that count, in float64."""
    arrays = [np.asarray(x, np.float64) for x in arrays]
    mask = np.ones((), bool) if mask is None else np.asarray(mask)
    return [x[mask] for x in arrays]


def _summed(element, mask, *arrays):
    """The sum of a function of numbers over what counts, and over how many."""
    rows = _rows(mask, *arrays)
    total, count = 0.0, 0
    for numbers in zip(*(x.ravel() for x in rows), strict=True):
        total += element(*(float(x) for x in numbers))
        count += 1
    return np.array(total), np.array(float(count))


def l1_loss(predicted, target, mask=None):
    return _summed(lambda p, t: abs(p - t), mask, predicted, target)


def l2_loss(predicted, target, mask=None):
    return _summed(lambda p, t: (p - t) * (p - t), mask, predicted, target)


def huber_loss(predicted, target, mask=None, *, delta=1.0):
    def element(p, t):
        d = abs(p - t)
        return d * d / 2 if d <= delta else delta * (d - delta / 2)

    return _summed(element, mask, predicted, target)


def smooth_l1_loss(predicted, target, mask=None, *, beta=1.0):
    def element(p, t):
        d = abs(p - t)
        return d * d / (2 * beta) if d < beta else d - beta / 2

    return _summed(element, mask, predicted, target)


def binary_cross_entropy(logits, targets, mask=None, *, positive_weight=1.0):
    def element(x, t):
        return -positive_weight * t * _log_sigmoid(x) - (1 - t) * _log_sigmoid(-x)

    return _summed(element, mask, logits, targets)


def sigmoid_focal_loss(logits, targets, mask=None, *, alpha=0.25, gamma=2.0):
    def element(x, t):
        p = math.exp(_log_sigmoid(x))
        weight = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
        cross_entropy = -t * _log_sigmoid(x) - (1 - t) * _log_sigmoid(-x)
        return weight * (p * (1 - t) + (1 - p) * t) ** gamma * cross_entropy

    return _summed(element, mask, logits, targets)


def _pixels(logits, labels, mask):
    """(logits f64[K], label) of what counts."""
    num_classes = np.shape(logits)[-1]
    labels = np.asarray(labels)
    mask = np.ones(labels.shape, bool) if mask is None else np.asarray(mask)
    mask = np.array([mask.reshape(-1)[i // (labels.size // mask.size)] for i in range(labels.size)])
    flat = np.asarray(logits, np.float64).reshape(-1, num_classes)
    for row, label, counted in zip(flat, labels.reshape(-1), mask, strict=True):
        if counted:
            yield row, int(label)


def softmax_focal_loss(logits, labels, mask=None, *, alpha=None, gamma=2.0):
    total, count = 0.0, 0
    for row, label in _pixels(logits, labels, mask):
        p = softmax(row)[label]
        total -= (1 if alpha is None else alpha[label]) * (1 - p) ** gamma * math.log(p)
        count += 1
    return np.array(total), np.array(float(count))


def pixel_cross_entropy(logits, labels, mask=None, *, class_weights=None, ignore_label=255):
    total, weights = 0.0, 0.0
    for row, label in _pixels(logits, labels, mask):
        if label != ignore_label:
            weight = 1 if class_weights is None else class_weights[label]
            total -= weight * math.log(softmax(row)[label])
            weights += weight
    return np.array(total), np.array(float(weights))


def pixel_binary_cross_entropy(logits, labels, mask=None, *, positive_weight=1.0, ignore_label=255):
    total, count = 0.0, 0
    for (x,), label in _pixels(np.asarray(logits)[..., None], labels, mask):
        if label == 1:
            total -= positive_weight * _log_sigmoid(x)
        elif label == 0:
            total -= _log_sigmoid(-x)
        count += label != ignore_label
    return np.array(total), np.array(float(count))


def tversky_loss(probabilities, targets, mask=None, *, alpha=0.3, beta=0.7, smooth=1.0):
    total, num_classes = 0.0, np.shape(probabilities)[-1]
    for c in range(num_classes):
        hits = extra = missed = 0.0
        p, g = _rows(mask, np.asarray(probabilities)[..., c], np.asarray(targets)[..., c])
        for pi, gi in zip(p.ravel(), g.ravel(), strict=True):
            hits += pi * gi
            extra += pi * (1 - gi)
            missed += (1 - pi) * gi
        whole = hits + alpha * extra + beta * missed + smooth
        total += 1 - (hits + smooth) / whole if whole else 0
    return np.array(total), np.array(float(num_classes if p.size else 0))


def dice_loss(probabilities, targets, mask=None, *, smooth=1.0):
    total, num_classes = 0.0, np.shape(probabilities)[-1]
    for c in range(num_classes):
        p, g = _rows(mask, np.asarray(probabilities)[..., c], np.asarray(targets)[..., c])
        size = p.sum() + g.sum() + smooth
        total += 1 - (2 * (p * g).sum() + smooth) / size if size else 0
    return np.array(total), np.array(float(num_classes if p.size else 0))


def heatmap_l2_loss(heatmaps, targets, visible):
    total, count = 0.0, 0
    for k in np.flatnonzero(visible):
        total += ((np.float64(heatmaps[..., k]) - targets[..., k]) ** 2).sum()
        count += heatmaps[..., k].size
    return np.array(total), np.array(float(count))


def heatmap_cross_entropy(logits, targets, visible):
    total, count = 0.0, 0
    for k in np.flatnonzero(visible):
        target = np.float64(targets[..., k]).ravel()
        if target.sum():
            probabilities = softmax(logits[..., k].ravel())
            total -= sum(
                q * math.log(p) for q, p in zip(target / target.sum(), probabilities, strict=True)
            )
            count += 1
    return np.array(total), np.array(float(count))


def localization_loss(
    logits,
    box,
    target,
    target_box,
    has_box,
    *,
    box_loss="l2",
    box_weight=1.0,
    beta=0.1,
    label_smoothing=0.0,
):
    classification, _ = cross_entropy(logits, target, label_smoothing=label_smoothing)
    of_box = {
        "l1": l1_loss,
        "l2": l2_loss,
        "smooth_l1": partial(smooth_l1_loss, beta=beta),
        "iou": box_iou_loss,
        "giou": generalized_box_iou_loss,
        "diou": distance_box_iou_loss,
        "ciou": complete_box_iou_loss,
    }
    total, _ = of_box[box_loss](np.asarray(box), np.asarray(target_box))
    return {
        "classification": (classification, np.array(1.0)),
        "box": (np.array(box_weight * total if has_box else 0.0), np.array(1.0)),
    }


def _one_minus(overlap, boxes1, boxes2, mask):
    rows = _rows(mask, boxes1, boxes2)
    pairs = list(zip(*(x.reshape(-1, 4) for x in rows), strict=True))
    return np.array(sum(1 - overlap(a, b) for a, b in pairs) + 0.0), np.array(float(len(pairs)))


box_iou_loss = partial(_one_minus, boxes.iou)
generalized_box_iou_loss = partial(_one_minus, boxes.generalized_iou)
distance_box_iou_loss = partial(_one_minus, boxes.distance_iou)
complete_box_iou_loss = partial(_one_minus, boxes.complete_iou)
