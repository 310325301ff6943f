"""Cells moved one by one."""

import numpy as np


def space_to_depth(x, block_size, *, order):
    s = block_size
    if order == "darknet":
        return _darknet(x, s, forward=True)
    height, width, channels = x.shape[-3:]
    result = np.zeros((*x.shape[:-3], height // s, width // s, channels * s * s), x.dtype)
    for row, column, c in np.ndindex(height, width, channels):
        dy, dx = row % s, column % s
        place = {
            "space_first": (dy * s + dx) * channels + c,
            "channel_first": (c * s + dy) * s + dx,
        }[order]
        result[..., row // s, column // s, place] = x[..., row, column, c]
    return result


def depth_to_space(x, block_size, *, order):
    s = block_size
    if order == "darknet":
        return _darknet(x, s, forward=False)
    height, width, channels = x.shape[-3:]
    channels //= s * s
    result = np.zeros((*x.shape[:-3], height * s, width * s, channels), x.dtype)
    for row, column, c in np.ndindex(height * s, width * s, channels):
        dy, dx = row % s, column % s
        place = {
            "space_first": (dy * s + dx) * channels + c,
            "channel_first": (c * s + dy) * s + dx,
        }[order]
        result[..., row, column, c] = x[..., row // s, column // s, place]
    return result


def _darknet(x, s, *, forward):
    """Darknet's reorg layer (stride s, not reversed) on flat memory, one element at a time.

    The layer's input is [planes, rows, columns]. The value at (plane, row, column) of an array of
    that shape comes from an array of [planes / s^2, rows s, columns s], both flat in memory: there
    it lies in plane (plane mod planes / s^2), at the place that the quotient numbers in the block
    that (row, column) becomes.
    """
    results = []
    for image in x.reshape(-1, *x.shape[-3:]):
        rows, columns, planes = image.shape
        if not forward:
            rows, columns, planes = rows * s, columns * s, planes // s**2
        given = np.moveaxis(image, -1, 0).ravel()
        result = np.zeros_like(given)
        for plane, row, column in np.ndindex(planes, rows, columns):
            place, large_plane = divmod(plane, planes // s**2)
            large_row, large_column = row * s + place // s, column * s + place % s
            small = (plane * rows + row) * columns + column
            large = (large_plane * rows * s + large_row) * columns * s + large_column
            if forward:
                result[small] = given[large]
            else:
                result[large] = given[small]
        shape = (planes * s * s, rows // s, columns // s) if forward else (planes, rows, columns)
        results.append(np.moveaxis(result.reshape(shape), 0, -1))
    return np.stack(results).reshape(*x.shape[:-3], *results[0].shape)


def channel_shuffle(x, groups):
    result = np.zeros_like(x)
    each = x.shape[-1] // groups
    for group in range(groups):
        for i in range(each):
            result[..., i * groups + group] = x[..., group * each + i]
    return result
