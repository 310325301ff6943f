"""Convolutions as loops over pixels, taps and groups, in float64."""

import numpy as np


def _pair(value):
    return (value, value) if np.ndim(value) == 0 else tuple(value)


def conv2d(x, kernel, *, stride=1, padding=0, dilation=1, groups=1):
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    stride, dilation = _pair(stride), _pair(dilation)
    (top, bottom), (left, right) = (_pair(side) for side in _pair(padding))
    batch, height, width, _ = x.shape
    kh, kw, inputs, outputs = kernel.shape
    each = outputs // groups
    rows = (height + top + bottom - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (width + left + right - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((batch, rows, columns, outputs))
    for h, w, i, j in np.ndindex(rows, columns, kh, kw):
        row = h * stride[0] + i * dilation[0] - top
        column = w * stride[1] + j * dilation[1] - left
        if not (0 <= row < height and 0 <= column < width):
            continue
        for group in range(groups):
            seen = slice(group * inputs, (group + 1) * inputs)
            made = slice(group * each, (group + 1) * each)
            y[:, h, w, made] += x[:, row, column, seen] @ kernel[i, j, :, made]
    return y


def conv_transpose2d(x, kernel, *, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    output_padding = _pair(output_padding)
    batch, height, width, channels = x.shape
    kh, kw, _, each = kernel.shape
    inputs = channels // groups
    rows, columns = (
        (n - 1) * stride[a] - 2 * padding[a] + dilation[a] * (k - 1) + output_padding[a] + 1
        for a, (n, k) in enumerate(((height, kh), (width, kw)))
    )
    y = np.zeros((batch, rows, columns, groups * each))
    for h, w, i, j in np.ndindex(height, width, kh, kw):
        row = h * stride[0] + i * dilation[0] - padding[0]
        column = w * stride[1] + j * dilation[1] - padding[1]
        if not (0 <= row < rows and 0 <= column < columns):
            continue
        for group in range(groups):
            seen = slice(group * inputs, (group + 1) * inputs)
            made = slice(group * each, (group + 1) * each)
            y[:, row, column, made] += x[:, h, w, seen] @ kernel[i, j, seen]
    return y
