"""Functions that crop and resize windows of images, boxes and points, and draw random windows."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.augment.options import check_limits
from jaxvision.core import OptionError, at_least_float32, check_array, check_range, lookup
from jaxvision.ops.primitives import by_platform

GREY = 127.0
"""The default value of pixels outside an image: half of white, as in Darknet."""


def resized_crop(
    image: Array,
    window: Array,
    *,
    size: tuple[int, int] | None = None,
    method: str = "bilinear",
    fill: float | tuple[float, ...] = GREY,
    extent: Array | None = None,
) -> Array:
    """Crops a window of an image and resizes it.

    The centre of pixel i of n of the result is at u = x1 + (i + 1/2) (x2 - x1) / n in the image,
    and likewise in y. If it is inside the image, the colour is interpolated between the centres of
    pixels, and is constant beyond the outermost centres. Otherwise the colour is `fill`.

    Args:
      image: [H, W, C], numbers or bool: an image or masks.
      window: f32[4], xyxy, pixels of the image, with x1 < x2, y1 < y2; it may reach beyond the
        image.
      size: (height, width) of the result; None: that of the image.
      method: "bilinear" interpolates between the nearest two pixels along each axis, even if the
        window shrinks. "antialiased" widens the triangle of weights along an axis that shrinks, as
        Pillow's bilinear, and equals "bilinear" along an axis that grows. "nearest" takes the
        pixel that contains the position.
      fill: value of the pixels outside the image, or one for each channel; masks need 0.
      extent: i32[2], (height, width) of the image without its padding, which counts as outside the
        image; None: there is none.
    Returns:
      [height, width, C]: of the image's dtype for "nearest", float32 otherwise.
    Raises:
      InputError: method is unknown, or a side of the result is less than 1.
    """
    image = check_array("image", image, ("H", "W", "C"), "number or bool")
    window = check_array("window", window, (4,))
    height, width = image.shape[:2] if size is None else size
    for side in (height, width):
        check_range("a side of the result", side, least=1)
    extent = _extent(image, extent)
    sample = lookup(_METHODS, method, "method")
    fill = tuple(fill) if np.ndim(fill) else fill
    return _resized_crop(image, window, extent, (height, width), sample, fill)


def inside_extent(image: Array, extent: Array, *, fill: float | tuple[float, ...] = GREY) -> Array:
    """Returns an image [H, W, ...] with `fill` in place of its padding.

    Args:
      image: [H, W] or [H, W, C], numbers or bool; its dtype is kept.
      extent: i32[2], (height, width) of the image without its padding.
      fill: one value, or one for each channel.
    """
    height, width = extent
    rows, columns = jnp.arange(image.shape[0]) < height, jnp.arange(image.shape[1]) < width
    inside = (rows[:, None] & columns[None]).reshape(*image.shape[:2], *(1,) * (image.ndim - 2))
    return jnp.where(inside, image, fill_like(image, fill))


def resized_crop_points(points: Array, window: Array, *, size: tuple[int, int]) -> Array:
    """Moves points as `resized_crop` moves the image.

    x' = (x - x1) width / (x2 - x1), and likewise in y.

    Args:
      points: f32[..., 2], xy, pixels.
      window: f32[4], as for `resized_crop`.
      size: (height, width) of the result.
    Returns:
      f32[..., 2]; half precision is computed in float32.
    """
    x, y = jnp.moveaxis(at_least_float32(check_array("points", points, ("...", 2))), -1, 0)
    left, top, right, bottom = check_array("window", window, (4,))
    height, width = size
    scale_x, scale_y = width / (right - left), height / (bottom - top)
    return jnp.stack([(x - left) * scale_x, (y - top) * scale_y], axis=-1)


def resized_crop_boxes(boxes: Array, window: Array, *, size: tuple[int, int]) -> Array:
    """Moves boxes as `resized_crop` moves the image: both corners move as points.

    Args:
      boxes: f32[..., 4], xyxy, pixels.
      window: f32[4], as for `resized_crop`.
      size: (height, width) of the result.
    Returns:
      f32[..., 4], not clipped; half precision is computed in float32.
    """
    boxes = check_array("boxes", boxes, ("...", 4))
    corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
    return resized_crop_points(corners, window, size=size).reshape(boxes.shape)


def scale_and_translate_window(
    key: Array,
    size: tuple[int, int] | Array,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    translate: float,
) -> Array:
    """Draws the window for a random scaling about the image's centre and a random translation.

    With s uniform in `scale`, r log-uniform in `ratio` and t uniform in [-translate, translate] for
    each axis, x' = W / 2 + s sqrt(r) (x - W / 2) + t_x W and
    y' = H / 2 + s / sqrt(r) (y - H / 2) + t_y H. The window is the part of the image that is mapped
    to [0, W] x [0, H].

    Args:
      key: key[].
      size: (height, width) of the image.
      scale: the least and the largest factor, more than 0; more than 1 enlarges.
      ratio: the least and the largest factor of width / height, more than 0.
      translate: the largest move, as a fraction of the side, at least 0.
    Returns:
      f32[4], xyxy, pixels, for `resized_crop`.
    Raises:
      InputError: an option is out of range.
    """
    check_limits("scale", scale, more_than=0, less_than=math.inf)
    check_limits("ratio", ratio, more_than=0, less_than=math.inf)
    check_range("translate", translate, least=0, less_than=math.inf)
    scale_key, ratio_key, translate_key = jax.random.split(key, 3)
    s = jax.random.uniform(scale_key, minval=scale[0], maxval=scale[1])
    logarithm = jax.random.uniform(ratio_key, minval=math.log(ratio[0]), maxval=math.log(ratio[1]))
    stretch = jnp.exp(logarithm / 2)
    t = jax.random.uniform(translate_key, (2,), minval=-translate, maxval=translate)
    sides = jnp.asarray(size, jnp.float32)[::-1]
    factor = s * jnp.stack([stretch, 1 / stretch])
    centre, half = sides * (0.5 - t / factor), sides / factor / 2
    return jnp.concatenate([centre - half, centre + half])


def random_resized_crop_window(
    key: Array,
    size: tuple[int, int] | Array,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Array:
    """Draws a window of a random size, aspect ratio and position in an image, in whole pixels.

    The fraction of the area is uniform in `scale`, width / height is log-uniform in `ratio`, and
    the position is uniform. If none of ten draws fits into the image, the result is the largest
    centred window with an allowed aspect ratio.

    Args:
      key: key[].
      size: (height, width) of the image.
      scale: the least and the largest fraction of the image's area, more than 0, at most 1.
      ratio: the least and the largest width / height, more than 0.
    Returns:
      f32[4], xyxy, pixels, for `resized_crop`.
    Raises:
      InputError: an option is out of range.
    Source: Szegedy et al. 2015 ("Going deeper with convolutions"), section 6; the number of draws
      and the fallback are those of torchvision's RandomResizedCrop.
    """
    check_limits("scale", scale, more_than=0, most=1)
    check_limits("ratio", ratio, more_than=0, less_than=math.inf)
    height, width = size = jnp.asarray(size, jnp.int32)
    area_key, form_key, place_key = jax.random.split(key, 3)
    least, most = (math.log(limit) for limit in ratio)
    area = height * width * jax.random.uniform(area_key, (10,), minval=scale[0], maxval=scale[1])
    form = jnp.exp(jax.random.uniform(form_key, (10,), minval=least, maxval=most))
    sides = jnp.round(jnp.sqrt(jnp.stack([area * form, area / form], axis=1))).astype(jnp.int32)
    whole = size[::-1]
    fits = ((sides > 0) & (sides <= whole[None])).all(axis=1)
    drawn = jnp.where(fits.any(), sides[jnp.argmax(fits)], _largest_of_form(size, ratio))
    largest_place = whole - drawn
    place = jax.random.randint(place_key, (2,), 0, largest_place + 1)
    place = jnp.where(fits.any(), place, largest_place // 2)
    return jnp.concatenate([place, place + drawn]).astype(jnp.float32)


def _largest_of_form(size: Array, ratio: tuple[float, float]) -> Array:
    """Returns the (width, height), i32[2], of the largest window with an allowed aspect ratio."""
    height, width = size
    form = jnp.clip(width / height, *ratio)
    largest = jnp.round(jnp.stack([height * form, width / form])).astype(jnp.int32)
    return jnp.minimum(size[::-1], largest)


def warp(
    image: Array,
    places: Array,
    *,
    method: str = "bilinear",
    fill: float = GREY,
    extent: Array | None = None,
) -> Array:
    """Samples an image at any positions.

    Args:
      image: [H, W, C], numbers or bool.
      places: f32[..., 2], (x, y), pixels from the image's upper left corner: the centre of the
        first pixel is (1/2, 1/2).
      method: "bilinear" interpolates between the centres of pixels, with constant values beyond the
        outermost centres; "nearest" takes the pixel that contains the position.
      fill: the value at positions outside the image.
      extent: as for `resized_crop`.
    Returns:
      [..., C]: float32 for "bilinear", the image's dtype for "nearest".
    Raises:
      InputError: method is unknown.
    """
    image = check_array("image", image, ("H", "W", "C"), "number or bool")
    x, y = jnp.moveaxis(check_array("places", places, ("...", 2)), -1, 0)
    height, width = extent = _extent(image, extent)
    inside = ((y >= 0) & (y <= height) & (x >= 0) & (x <= width))[..., None]
    sampled = lookup(_WARPS, method, "method")(image, y, x, extent)
    return jnp.where(inside, sampled, jnp.asarray(fill, sampled.dtype))


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _resized_crop(
    image: Array,
    window: Array,
    extent: Array,
    size: tuple[int, int],
    sample: Callable[..., Array],
    fill: float | tuple[float, ...],
) -> Array:
    height, width = size
    x1, y1, x2, y2 = window.astype(jnp.float32)
    step_x, step_y = (x2 - x1) / width, (y2 - y1) / height
    x = x1 + (jnp.arange(width) + 0.5) * step_x
    y = y1 + (jnp.arange(height) + 0.5) * step_y
    inside_x = (x >= 0) & (x <= extent[1])
    inside = ((y >= 0) & (y <= extent[0]))[:, None] & inside_x[None]
    sampled = sample(image, y, x, (step_y, step_x), extent)
    return jnp.where(inside[:, :, None], sampled, fill_like(sampled, fill))


def _extent(image: Array, extent: Array | None) -> Array:
    """Returns the (height, width), i32[2], of an image without its padding."""
    if extent is None:
        return jnp.array(image.shape[:2], jnp.int32)
    return check_array("extent", extent, (2,), "int")


def fill_like(image: Array, fill: float | tuple[float, ...]) -> Array:
    """Returns the fill in an image's dtype: f[], or f[C] if there is one for each channel."""
    count = np.size(fill)
    if count > 1 and image.shape[-1] != count:
        raise OptionError(
            "fill",
            f"fill has {count} numbers and the image {image.shape[-1]} channels: give one number "
            "for each channel, or one for all",
        )
    return jnp.asarray(fill, image.dtype)


# Each method takes positions in pixels from the image's upper left corner, their distances, and the
# image's size without its padding.
def _bilinear(image: Array, y: Array, x: Array, steps: tuple[Array, Array], extent: Array) -> Array:
    del steps
    last_y, last_x = extent - 1
    return _interpolate(image, jnp.clip(y - 0.5, 0, last_y), jnp.clip(x - 0.5, 0, last_x))


@jax.custom_jvp
def _interpolate(image: Array, y: Array, x: Array) -> Array:
    """Interpolates by the fastest form for the platform, with the derivatives of `_by_products`."""
    return by_platform(image, y, x, default=_by_products, cpu=_by_gathers)


@_interpolate.defjvp
def _interpolate_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    return _interpolate(*primals), jax.jvp(_by_products, primals, tangents)[1]


def _by_gathers(image: Array, y: Array, x: Array) -> Array:
    """Interpolates by gathers.

    On one core of a CPU this is 8 times as fast as `_by_products` (416 x 416, batches of 8).
    """

    def row(place: Array) -> Array:
        return _between(_between(image, place), x)

    # The loop also prevents XLA from computing the image again for each of the four reads.
    return jax.lax.map(row, y, batch_size=32)


def _between(values: Array, place: Array) -> Array:
    """Interpolates linearly along the first axis."""
    before = jnp.floor(place).astype(jnp.int32)
    share = (place - before).reshape(*place.shape, *(1,) * (values.ndim - 1))
    a, b = (
        jnp.take(values, index, axis=0, mode="clip").astype(jnp.float32)
        for index in (before, before + 1)
    )
    return a + share * (b - a)


def _by_products(image: Array, y: Array, x: Array) -> Array:
    """Interpolates by two matrix products, because gathers are slow on a TPU."""

    def weights(place: Array, count: int) -> Array:
        place = jnp.clip(place, 0, count - 1)
        return jnp.maximum(1 - jnp.abs(place[:, None] - jnp.arange(count)[None]), 0)

    height, width, _ = image.shape
    return _products(image, weights(y, height), weights(x, width))


def _products(image: Array, along_y: Array, along_x: Array) -> Array:
    """Multiplies the image by the weights of its rows, [y, H], and of its columns, [x, W]."""
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    rows = product("yi,ijc->yjc", along_y, image.astype(jnp.float32))
    return product("xj,yjc->yxc", along_x, rows)


def _antialiased(
    image: Array, y: Array, x: Array, steps: tuple[Array, Array], extent: Array
) -> Array:
    def weights(place: Array, step: Array, count: int, last: Array) -> Array:
        pixel = jnp.arange(count)[None]
        distance = jnp.abs(place[:, None] - 0.5 - pixel)
        triangle = jnp.maximum(1 - distance / jnp.maximum(step, 1), 0) * (pixel < last)
        total = triangle.sum(axis=1, keepdims=True)
        return triangle / jnp.where(total > 0, total, 1)  # 0 far outside the image

    along_y, along_x = (
        weights(place, step, count, last)
        for place, step, count, last in zip((y, x), steps, image.shape[:2], extent, strict=True)
    )
    return _products(image, along_y, along_x)


def _nearest(image: Array, y: Array, x: Array, steps: tuple[Array, Array], extent: Array) -> Array:
    del steps
    for axis, place in ((1, x), (0, y)):
        index = jnp.minimum(jnp.floor(place).astype(jnp.int32), extent[axis] - 1)
        image = jnp.take(image, index, axis=axis, mode="clip")
    return image


_METHODS = {"bilinear": _bilinear, "antialiased": _antialiased, "nearest": _nearest}


def _at(image: Array, row: Array, column: Array, extent: Array) -> Array:
    """Returns pixels by row and column; indices beyond the border are clipped to it."""
    last_row, last_column = extent - 1
    return image[jnp.clip(row, 0, last_row), jnp.clip(column, 0, last_column)]


def _warp_nearest(image: Array, y: Array, x: Array, extent: Array) -> Array:
    return _at(image, jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32), extent)


def _warp_bilinear(image: Array, y: Array, x: Array, extent: Array) -> Array:
    y, x = y - 0.5, x - 0.5
    top, left = jnp.floor(y), jnp.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    row, column = top.astype(jnp.int32), left.astype(jnp.int32)
    image = image.astype(jnp.float32)

    def along_x(row: Array) -> Array:
        a, b = _at(image, row, column, extent), _at(image, row, column + 1, extent)
        # Not (1 - right) a + right b: XLA may compute `right` twice, and round it up and down.
        return a + right * (b - a)

    above = along_x(row)
    return above + down * (along_x(row + 1) - above)


_WARPS = {"bilinear": _warp_bilinear, "nearest": _warp_nearest}
