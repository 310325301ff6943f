"""Normalisation, one channel or one value at a time."""

import numpy as np


def batch_norm(x, scale, bias, *, epsilon=1e-5):
    x = np.asarray(x, np.float64)
    y, mean, var = np.zeros(x.shape), np.zeros(x.shape[-1]), np.zeros(x.shape[-1])
    for c in range(x.shape[-1]):
        values = x[..., c]
        mean[c] = values.mean()
        var[c] = ((values - mean[c]) ** 2).mean()
        y[..., c] = scale[c] * (values - mean[c]) / np.sqrt(var[c] + epsilon) + bias[c]
    return y, mean, var


def local_response_norm(x, *, size=5, alpha=1e-4, beta=0.75, k=1.0):
    x = np.asarray(x, np.float64)
    result = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        *where, c = place
        channels = range(c - size // 2, c + (size - 1) // 2 + 1)
        total = sum(x[(*where, j)] ** 2 for j in channels if 0 <= j < x.shape[-1])
        result[place] = x[place] / (k + alpha / size * total) ** beta
    return result
