"""Losses of one example in plain numpy."""

import math

import numpy as np


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
