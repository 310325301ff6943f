"""Metrics of one example in plain numpy."""

import numpy as np


def top_k_accuracy(logits, target, *, k=1):
    if np.ndim(target) == 1:
        target = max(range(len(target)), key=lambda c: (target[c], -c))
    ranked = sorted(range(len(logits)), key=lambda c: (-float(logits[c]), c))
    return np.array(float(target in ranked[:k])), np.array(1.0)


def expected_calibration_error(confidence, right, bins):
    error = 0.0
    for m in range(1, bins + 1):
        rows = [
            (float(c), float(r))
            for c, r in zip(confidence, right, strict=True)
            if (m - 1) / bins < c <= m / bins or (m == 1 and c == 0)
        ]
        if rows:
            mean_confidence, accuracy = (
                sum(column) / len(rows) for column in zip(*rows, strict=True)
            )
            error += len(rows) / len(confidence) * abs(accuracy - mean_confidence)
    return error


def _counted(predicted, target, mask, ignore_label):
    """The (predicted, target) labels of the pixels that count."""
    shown = np.ones(target.shape, bool) if mask is None else mask
    pixels = zip(predicted.ravel(), target.ravel(), shown.ravel(), strict=True)
    return [(int(p), int(t)) for p, t, m in pixels if m and t != ignore_label]


def confusion_matrix(predicted, target, mask=None, *, num_classes, ignore_label=255):
    matrix = np.zeros((num_classes, num_classes))
    for p, t in _counted(predicted, target, mask, ignore_label):
        if p in range(num_classes) and t in range(num_classes):
            matrix[t, p] += 1
    return matrix


def pixel_accuracy(predicted, target, mask=None, *, ignore_label=255):
    pixels = _counted(predicted, target, mask, ignore_label)
    return np.array(float(sum(p == t for p, t in pixels))), np.array(float(len(pixels)))


def _pixel_sets(predicted, target, mask, num_classes, ignore_label):
    """For each class the sets of pixels that have it in the prediction and in the target."""
    pixels = _counted(predicted, target, mask, ignore_label)
    pixels = [(p, t) for p, t in pixels if t in range(num_classes)]
    for c in range(num_classes):
        if c == ignore_label:
            yield set(), set()
        else:
            yield (
                {i for i, (p, _) in enumerate(pixels) if p == c},
                {i for i, (_, t) in enumerate(pixels) if t == c},
            )


def mean_iou(predicted, target, mask=None, *, num_classes, ignore_label=255):
    sets = list(_pixel_sets(predicted, target, mask, num_classes, ignore_label))
    return (
        np.array([float(len(p & t)) for p, t in sets]),
        np.array([float(len(p | t)) for p, t in sets]),
    )


def dice_score(predicted, target, mask=None, *, num_classes, ignore_label=255):
    sets = list(_pixel_sets(predicted, target, mask, num_classes, ignore_label))
    return (
        np.array([2.0 * len(p & t) for p, t in sets]),
        np.array([float(len(p) + len(t)) for p, t in sets]),
    )


def score_histogram(scores, target, mask=None, *, bins=1024):
    counts = np.zeros((2, bins))
    shown = np.ones(target.shape, bool) if mask is None else mask
    for score, has, counted in zip(scores.ravel(), target.ravel(), shown.ravel(), strict=True):
        if counted:
            score = min(max(float(score), 0.0), 1.0)
            counts[int(has), min(int(score * bins), bins - 1)] += 1
    return counts


def psnr(predicted, target, *, data_range, max_db=100.0):
    error = np.float64(predicted) - np.float64(target)
    mse = sum(e * e for e in error.ravel()) / error.size
    decibels = max_db if mse == 0 else min(max_db, 10 * np.log10(data_range**2 / mse))
    return np.array(decibels), np.array(1.0)


def ssim(predicted, target, windows=None, *, data_range):
    predicted, target = np.float64(predicted), np.float64(target)
    weights = np.array(
        [[np.exp(-(i**2 + j**2) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)]
    )
    weights /= weights.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    height, width, channels = predicted.shape
    values = []
    for row in range(height - 10):
        for column in range(width - 10):
            if windows is not None and not windows[row, column]:
                continue
            for c in range(channels):
                x = predicted[row : row + 11, column : column + 11, c]
                y = target[row : row + 11, column : column + 11, c]
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx = (weights * (x - mx) ** 2).sum()
                vy = (weights * (y - my) ** 2).sum()
                cov = (weights * (x - mx) * (y - my)).sum()
                luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
                values.append(luminance * (2 * cov + c2) / (vx + vy + c2))
    return np.array(sum(values) / max(len(values), 1)), np.array(float(len(values) > 0))


def normalized_landmark_error(predicted, target, visible, normalizer):
    total, count = 0.0, 0
    for p, t, shown in zip(np.float64(predicted), np.float64(target), visible, strict=True):
        if shown:
            total += np.hypot(*(p - t)) / float(normalizer)
            count += 1
    return np.array(total), np.array(float(count))
