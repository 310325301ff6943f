"""Layers in plain numpy, in float64."""

import numpy as np


def group_norm(x, scale, bias, *, groups, epsilon=1e-5):
    """x [B, H, W, C]."""
    y = np.zeros(x.shape)
    size = x.shape[-1] // groups
    for example in range(len(x)):
        for first in range(0, x.shape[-1], size):
            group = x[example, :, :, first : first + size].astype(np.float64)
            deviation = np.sqrt(((group - group.mean()) ** 2).mean() + epsilon)
            y[example, :, :, first : first + size] = (group - group.mean()) / deviation
    return y * scale + bias


def layer_norm(x, scale, bias, *, epsilon=1e-5):
    """x [..., C]."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        values = x[place].astype(np.float64)
        y[place] = (values - values.mean()) / np.sqrt(values.var() + epsilon)
    return y * scale + bias


def instance_norm(x, scale, bias, *, epsilon=1e-5):
    """x [B, H, W, C]."""
    return group_norm(x, scale, bias, groups=x.shape[-1], epsilon=epsilon)


def squeeze_excite(x, se_fc1, se_fc2):
    """x [B, H, W, C]; layers with a 1x1 kernel and a bias; ReLU, then the sigmoid."""
    y = np.zeros(x.shape)
    for example, values in enumerate(x.astype(np.float64)):
        hidden = values.mean(axis=(0, 1)) @ se_fc1["kernel"][0, 0] + se_fc1["bias"]
        gate = np.maximum(hidden, 0) @ se_fc2["kernel"][0, 0] + se_fc2["bias"]
        y[example] = values / (1 + np.exp(-gate))
    return y
