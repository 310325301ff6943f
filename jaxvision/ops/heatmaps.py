"""Heatmaps: maps with a landmark each, from its coordinates and back.

Coordinates are (x, y) in pixels of the map, of any fraction; the centre of the first pixel is
(1/2, 1/2).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range


def gaussian_heatmaps(points: Array, *, size: tuple[int, int], sigma: float) -> Array:
    """A Gaussian around each point, 1 at its height, wherever between the pixels that is.

    With c(i, j) = (j + 1/2, i + 1/2) the centre of a pixel: h_k(i, j) =
    exp(-|c(i, j) - p_k|^2 / (2 sigma^2)).

    Args:
      points: f32[K, 2], xy, pixels of the map; they may lie outside it.
      size: (height, width) of the maps.
      sigma: pixels of the map, more than 0.
    Returns:
      f32[H, W, K], in [0, 1].
    Raises:
      AssertionError: points has another shape or is no float.
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
    """Where each map is highest, and how high.

    Of the highest pixel (the first one, where several are) the centre; with `subpixel`, along each
    axis plus the place of the vertex of the parabola through the logarithms of its value b and of
    those of its neighbours a and c: (ln a - ln c) / (2 (ln a - 2 ln b + ln c)), which is in
    [-1/2, 1/2]. This is exact for a Gaussian along the axes. Without two neighbours, or where one
    of the three is not above 0, the centre it is.

    Args:
      heatmaps: f32[H, W, K], one for each landmark.
      subpixel: as above.
    Returns:
      points f32[K, 2], xy, pixels of the map, and scores f32[K], the values of the highest pixels.
    Raises:
      AssertionError: heatmaps has another shape, is no float or has no pixel.
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
        plateau = a + c == 0  # has no vertex of its own
        return jnp.where(plateau, 0, (a - c) / jnp.where(plateau, 1, 2 * (a + c)))

    points = jnp.stack([column, row], axis=-1) + jnp.asarray(0.5, maps.dtype)
    if subpixel:
        height, width, _ = maps.shape
        # Beyond the border these read some other pixel, which is not used.
        left, right = (maps[row, column + step, landmark] for step in (-1, 1))
        above, below = (maps[row + step, column, landmark] for step in (-1, 1))
        moves = vertex(left, right, column, width), vertex(above, below, row, height)
        points += jnp.stack(moves, axis=-1)
    return points, scores


def soft_argmax(logits: Array, *, temperature: float = 1.0, radius: float | None = None) -> Array:
    """Where each map is highest, as an expectation, which has a gradient.

    p_k = softmax(x_k / temperature) over the pixels of map k; the point is the sum over all pixels
    of p_k(i, j) (j + 1/2, i + 1/2). With `radius` softmax and sum are only over the pixels that are
    at most so many columns and rows away from the highest one (the first, where several are): what
    is far away then draws nothing towards itself. That pixel's place is taken for constant.

    Args:
      logits: f32[H, W, K], one map for each landmark.
      temperature: more than 0; the smaller, the nearer to the highest pixel.
      radius: pixels, at least 0, or None for all of the map.
    Returns:
      f32[K, 2], xy, pixels of the map.
    Raises:
      AssertionError: logits has another shape, is no float or has no pixel.
      ValueError: an option out of its range.
    Source: Sun et al. 2018 ("Integral human pose regression"), section 2; with a temperature: Finn
      et al. 2016 ("Deep spatial autoencoders for visuomotor learning"). The radius is our own.
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
    """Row and column of the highest pixel of each map, i32[K] both."""
    height, width, count = maps.shape
    return jnp.divmod(jnp.argmax(maps.reshape(height * width, count), axis=0), width)
