"""Metrics of one example in plain numpy."""

import numpy as np


def top_k_accuracy(logits, target, *, k=1):
    if np.ndim(target) == 1:
        target = max(range(len(target)), key=lambda c: (target[c], -c))
    ranked = sorted(range(len(logits)), key=lambda c: (-float(logits[c]), c))
    return np.array(float(target in ranked[:k])), np.array(1.0)
