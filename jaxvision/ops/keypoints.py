"""Keypoints in boxes: the cells of a map in which they are, and their places in predicted maps.

Coordinates are (x, y) in pixels of the image. A map of h x w cells covers a whole box.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range


def keypoint_cells(keypoints: Array, boxes: Array, *, size: int) -> tuple[Array, Array]:
    """Finds the cell of each keypoint in a map of its box.

    The cell of a point (x, y) in the box (x1, y1, x2, y2) is in column floor((x - x1) S / (x2 -
    x1)), and likewise its row. Points exactly on the right or lower edge are in the last column or
    row. On the edge between two cells, rounding decides, as in torchvision.

    Args:
      keypoints: f32[R, K, 3], xy, pixels, and visibility: more than 0 for labelled keypoints.
      boxes: f32[R, 4], xyxy, pixels.
      size: S, the side of the maps, at least 1.
    Returns:
      cells i32[R, K], row * S + column, and valid bool[R, K]. A keypoint that is outside its box or
      not labelled, or whose box has no area, has cell 0 and is not valid.
    Raises:
      ValueError: size is less than 1.
    Source: He et al. 2017 ("Mask R-CNN"), section 5, one-hot masks; the rounding is torchvision's.
    """
    check_range("size", size, least=1)
    keypoints = at_least_float32(check_array("keypoints", keypoints, ("R", "K", 3)))
    boxes = at_least_float32(check_array("boxes", boxes, (len(keypoints), 4)))
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    sides = high - low
    has_area = sides > 0
    points = keypoints[..., :2]
    # Torch divides a number by an array as here, which rounds twice.
    place = jnp.floor((points - low) * (size * (1 / jnp.where(has_area, sides, 1))))
    place = jnp.where(points == high, size - 1, place)
    valid = (has_area & (place >= 0) & (place < size)).all(axis=-1) & (keypoints[..., 2] > 0)
    column, row = jnp.moveaxis(jnp.where(valid[..., None], place, 0).astype(jnp.int32), -1, 0)
    return row * size + column, valid


def heatmaps_to_keypoints(
    heatmaps: Array, boxes: Array, *, image_size: tuple[int, int]
) -> tuple[Array, Array]:
    """Finds the maximum of each map, enlarged to the size of its box.

    A map is resized to (ceil(height), ceil(width)) of its box, at least 1 pixel each, by bicubic
    interpolation with a = -3/4, as torch's F.interpolate. The point is the centre of the highest
    pixel, or of the first one of equals; it is moved by the same factor as the pixels if the sides
    of the box are not whole numbers.

    No map is enlarged as a whole. Between the centres of four neighbouring cells the surface is
    bicubic, so that none of its values exceeds the largest of its 16 Bezier control points. The
    squares between cells are searched from the highest such bound on, until none exceeds the
    highest pixel found. The result is exact, but for pixels that are equal within rounding.

    Args:
      heatmaps: f32[R, h, w, K], a map of each keypoint in each box; logits or others.
      boxes: f32[R, 4], xyxy, pixels.
      image_size: (height, width) of the image, pixels. A side of a box that is longer than the
        image's is resized to so many pixels only.
    Returns:
      points f32[R, K, 2], xy, pixels, and scores f32[R, K], the values at the maxima. Derivatives
      treat the position of the highest pixel in its box as constant.
    Raises:
      AssertionError: a map has no cells.
      ValueError: a side of image_size is less than 1.
    Source: He et al. 2017 ("Mask R-CNN"), section 5; the resizing is torchvision's.
    """
    for side in image_size:
        check_range("a side of image_size", side, least=1)
    maps = at_least_float32(check_array("heatmaps", heatmaps, ("R", "h", "w", "K")))
    if 0 in maps.shape[1:3]:
        raise AssertionError(f"heatmaps is {maps.dtype}{list(maps.shape)}: give at least one cell")
    boxes = at_least_float32(check_array("boxes", boxes, (len(maps), 4)))
    return _points_in(maps, boxes, tuple(map(int, image_size)))


@functools.partial(jax.jit, static_argnums=2)
def _points_in(maps: Array, boxes: Array, image_size: tuple[int, int]) -> tuple[Array, Array]:
    lengths = jnp.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    limits = jnp.array([image_size[::-1]])
    counts = jnp.minimum(jnp.ceil(jax.lax.stop_gradient(lengths)), limits).astype(jnp.int32)
    # One cell on each side is repeated twice, for the squares at the border.
    padded = jnp.pad(maps, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")

    def one(padded: Array, counts: Array) -> tuple[Array, Array]:
        height, width = padded.shape[0] - 4, padded.shape[1] - 4
        rows = _Axis(height, counts[1], image_size[0])
        columns = _Axis(width, counts[0], image_size[1])
        row, column = pixel = _highest_pixel(jax.lax.stop_gradient(padded), rows, columns)
        square = rows.square(row), columns.square(column)
        score = _values(padded, square, row[None], column[None], rows, columns)
        return pixel, score[0, 0]

    of_keypoints = jax.vmap(one, in_axes=(2, None))
    pixels, scores = jax.vmap(of_keypoints)(padded, counts)
    places = (pixels[..., ::-1] + 0.5) * (lengths / counts)[:, None]
    return boxes[:, None, :2] + places, scores


class _Axis(NamedTuple):
    """The resizing of an axis of `cells` cells to `pixels` pixels, which are at most `most`.

    Square m is between the centres of the cells m - 1 and m; with one beyond each end, m is from 0
    to `cells`. The position of a pixel is exact, in integers: it is in square
    ((2 i + 1) cells + pixels) / (2 pixels), whose fraction is its place there.
    """

    cells: int
    pixels: Array
    most: int

    def first_pixels(self) -> Array:
        """Returns the first pixel of each square and the end of the last one, i32[cells + 2]."""
        square = jnp.arange(self.cells + 2)
        first = -((self.cells - self.pixels * (2 * square - 1)) // (2 * self.cells))
        return jnp.clip(first, 0, self.pixels)

    def square(self, pixel: Array) -> Array:
        return self._twice(pixel) // (2 * self.pixels)

    def weights(self, pixel: Array, dtype: Any) -> Array:
        """Returns the weights of the four cells around pixels: i32[N] -> f[N, 4]."""
        t = (self._twice(pixel) % (2 * self.pixels)).astype(dtype) / (2 * self.pixels)
        s = 1 - t
        near, far = (1 + (1.25 * x - 2.25) * x**2 for x in (t, s))
        return jnp.stack([-0.75 * t * s**2, near, far, -0.75 * s * t**2], axis=-1)

    def _twice(self, pixel: Array) -> Array:
        return (2 * pixel + 1) * self.cells + self.pixels


def _highest_pixel(padded: Array, rows: _Axis, columns: _Axis) -> Array:
    """Finds the highest pixel of a map [h + 4, w + 4], padded by 2, and returns (row, column)."""
    first_row, first_column = rows.first_pixels(), columns.first_pixels()
    filled = (jnp.diff(first_row) > 0)[:, None] & (jnp.diff(first_column) > 0)[None]
    first = first_row[:-1, None] * columns.pixels + first_column[None, :-1]
    down, right = (jnp.arange(-(-axis.most // axis.cells)) for axis in (rows, columns))

    def left(state: tuple[Array, Array, Array]) -> Array:
        """Returns which squares may have a higher pixel, or an equal one that comes before."""
        bounds, best, best_pixel = state
        return (bounds > best) | ((bounds == best) & (first < best_pixel))

    def search(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        bounds, best, best_pixel = state
        highest = jnp.argmax(jnp.where(left(state), bounds, -jnp.inf))
        m, n = jnp.divmod(highest, bounds.shape[1])
        row, column = first_row[m] + down, first_column[n] + right
        values = _values(padded, (m, n), row, column, rows, columns)
        inside = (row < first_row[m + 1])[:, None] & (column < first_column[n + 1])[None]
        values = jnp.where(inside, values, -jnp.inf).ravel()
        place = jnp.argmax(values)
        value = values[place]
        pixel = row[place // right.size] * columns.pixels + column[place % right.size]
        better = (value > best) | ((value == best) & (pixel < best_pixel))
        return (
            bounds.at[m, n].set(-jnp.inf),
            jnp.where(better, value, best),
            jnp.where(better, pixel, best_pixel),
        )

    bounds = jnp.where(filled, _bounds(padded), -jnp.inf)
    none_yet = jnp.array(-jnp.inf, padded.dtype), jnp.array(0, first.dtype)
    _, _, pixel = jax.lax.while_loop(lambda x: left(x).any(), search, (bounds, *none_yet))
    return jnp.stack(jnp.divmod(pixel, columns.pixels))


def _values(
    padded: Array,
    square: tuple[Array, Array],
    row: Array,
    column: Array,
    rows: _Axis,
    columns: _Axis,
) -> Array:
    """Computes the pixels of some rows [N] and columns [M] in one square: f[N, M]."""
    cells = jax.lax.dynamic_slice(padded, square, (4, 4))
    # Sums rather than matrix products, which may be of less precision.
    along = (columns.weights(column, cells.dtype)[:, None] * cells[None]).sum(axis=-1)
    return (rows.weights(row, cells.dtype)[:, None] * along[None]).sum(axis=-1)


def _bounds(padded: Array) -> Array:
    """Computes the largest control point of each square: [h + 4, w + 4] -> [h + 1, w + 1]."""
    points = [y for x in _control_points(padded) for y in _control_points(x.T)]
    return functools.reduce(jnp.maximum, points).T


def _control_points(x: Array) -> list[Array]:
    """Computes the Bezier points of the cubics along the last axis: [M, N + 3] -> 4 of [M, N]."""
    before, start, end, after = (x[:, k : x.shape[1] - 3 + k] for k in range(4))
    # The slopes at the ends are 3/4 of the difference of the neighbours, in a third of the length.
    return [start, start + (end - before) / 4, end - (after - start) / 4, end]
