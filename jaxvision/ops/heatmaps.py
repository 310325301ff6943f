"""Heatmaps: functions that draw one map for each landmark, and find the landmark in a map.

Coordinates are (x, y) in pixels of the map and may be fractions; the centre of the first pixel is
(1/2, 1/2).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range


def gaussian_heatmaps(points: Array, *, size: tuple[int, int], sigma: float) -> Array:
    """Draws a Gaussian around each point, with the maximum 1 exactly at the point.

    h_k(i, j) = exp(-|c(i, j) - p_k|^2 / (2 sigma^2)), with c(i, j) = (j + 1/2, i + 1/2) the centre
    of a pixel. A point may lie between the centres of pixels.

    Args:
      points: f32[K, 2], xy, pixels of the map; they may lie outside it.
      size: (height, width) of the maps.
      sigma: standard deviation, pixels of the map, more than 0.
    Returns:
      f32[H, W, K], in [0, 1].
    Raises:
      ValueError: sigma is out of range, or a side is less than 1.
    Source: Tompson et al. 2014 ("Joint training of a convolutional network and a graphical model"),
      section 3.1; centres between pixels: Zhang et al. 2020 ("Distribution-aware coordinate
      representation for human pose estimation"), "coordinate encoding".
    """
    check_range("sigma", sigma, more_than=0, less_than=math.inf)
    for side in size:
        check_range("a side of size", side, least=1)
    x, y = jnp.moveaxis(at_least_float32(check_array("points", points, ("K", 2))), -1, 0)

    def along(coordinate: Array, count: int) -> Array:
        distance = (_centres(count, x.dtype)[:, None] - coordinate[None]) / sigma
        return jnp.exp(-(distance**2) / 2)

    height, width = size
    return along(y, height)[:, None, :] * along(x, width)[None, :, :]


def heatmap_argmax(heatmaps: Array, *, subpixel: bool = True) -> tuple[Array, Array]:
    """Finds the maximum of each map and its position.

    The position is the centre of the highest pixel, or of the first one if there are several. With
    `subpixel` an offset is added along each axis: the vertex of the parabola through the logarithms
    of the pixel's value b and of the values a and c of its neighbours,
    (ln a - ln c) / (2 (ln a - 2 ln b + ln c)), which is in [-1/2, 1/2]. This is exact for a
    Gaussian along the axes. The offset is 0 if the pixel has only one neighbour along the axis, or
    if one of the three values is not above 0.

    Args:
      heatmaps: f32[H, W, K], one for each landmark.
      subpixel: whether to add the offset.
    Returns:
      points f32[K, 2], xy, pixels of the map, and scores f32[K], the values of the highest pixels.
    Raises:
      AssertionError: a map has no pixels.
    Source: Fisher & Naidu 1996 ("A comparison of algorithms for subpixel peak detection"), the
      Gaussian approximation; of heatmaps, with all second derivatives: Zhang et al. 2020
      ("Distribution-aware coordinate representation for human pose estimation"), "coordinate
      decoding".
    """
    maps = at_least_float32(_check("heatmaps", heatmaps))
    row, column = _highest(maps)
    landmark = jnp.arange(maps.shape[-1])
    scores = maps[row, column, landmark]

    def vertex(before: Array, after: Array, index: Array, count: int) -> Array:
        three = jnp.stack([before, scores, after])
        usable = (index > 0) & (index < count - 1) & (three > 0).all(axis=0)
        a, b, c = jnp.log(jnp.where(usable[None], three, 1))
        a, c = a - b, c - b  # at most 0
        plateau = a + c == 0  # three equal values have no vertex
        return jnp.where(plateau, 0, (a - c) / jnp.where(plateau, 1, 2 * (a + c)))

    points = jnp.stack([column, row], axis=-1) + jnp.asarray(0.5, maps.dtype)
    if subpixel:
        height, width, _ = maps.shape
        # An index beyond the border reads another pixel, whose value is not used.
        left, right = (maps[row, column + step, landmark] for step in (-1, 1))
        above, below = (maps[row + step, column, landmark] for step in (-1, 1))
        moves = vertex(left, right, column, width), vertex(above, below, row, height)
        points += jnp.stack(moves, axis=-1)
    return points, scores


def soft_argmax(logits: Array, *, temperature: float = 1.0, radius: float | None = None) -> Array:
    """Computes the position of each map's maximum as an expectation, which has a gradient.

    With p_k = softmax(x_k / temperature) over the pixels of map k, the point is the sum over all
    pixels of p_k(i, j) (j + 1/2, i + 1/2). With `radius`, softmax and sum include only the pixels
    that are at most `radius` columns and rows away from the highest pixel (the first one if there
    are several), so that distant pixels have no influence. The gradient treats the position of the
    highest pixel as a constant.

    Args:
      logits: f32[H, W, K], one map for each landmark.
      temperature: more than 0. A smaller value gives a point closer to the highest pixel.
      radius: pixels, at least 0. None includes the whole map.
    Returns:
      f32[K, 2], xy, pixels of the map.
    Raises:
      AssertionError: a map has no pixels.
      ValueError: an option is out of range.
    Source: Sun et al. 2018 ("Integral human pose regression"), section 2; with a temperature: Finn
      et al. 2016 ("Deep spatial autoencoders for visuomotor learning"). The radius is an addition
      of this library.
    """
    check_range("temperature", temperature, more_than=0, less_than=math.inf)
    maps = at_least_float32(_check("logits", logits))
    height, width, _ = maps.shape
    near = None
    if radius is not None:
        check_range("radius", radius, least=0)
        row, column = _highest(jax.lax.stop_gradient(maps))
        rows = jnp.abs(jnp.arange(height)[:, None] - row[None]) <= radius
        columns = jnp.abs(jnp.arange(width)[:, None] - column[None]) <= radius
        near = rows[:, None, :] & columns[None, :, :]
    p = jax.nn.softmax(maps / temperature, axis=(0, 1), where=near)
    x = (p.sum(axis=0) * _centres(width, p.dtype)[:, None]).sum(axis=0)
    y = (p.sum(axis=1) * _centres(height, p.dtype)[:, None]).sum(axis=0)
    return jnp.stack([x, y], axis=-1)


def _check(name: str, maps: Array) -> Array:
    maps = check_array(name, maps, ("H", "W", "K"))
    if 0 in maps.shape[:2]:
        raise AssertionError(f"{name} is {maps.dtype}{list(maps.shape)}: give at least one pixel")
    return maps


def _centres(count: int, dtype: Any) -> Array:
    return jnp.arange(count, dtype=dtype) + 0.5


def _highest(maps: Array) -> tuple[Array, Array]:
    """Returns the row and the column of the highest pixel of each map, both i32[K]."""
    height, width, count = maps.shape
    return jnp.divmod(jnp.argmax(maps.reshape(height * width, count), axis=0), width)
