"""Draws landmarks into pictures."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxvision.core import InputError
from jaxvision.predict.arrays import check_host_array, check_picture
from jaxvision.predict.canvas import (
    Rectangle,
    draw_tag,
    font_of,
    line_width,
    one_line,
    outline_width,
    tag_place,
    tag_size,
)
from jaxvision.predict.colors import Color, class_color, text_color

_RADIUS = 1.5  # of a dot, in widths of the line around a box


def draw_landmarks(
    image: np.ndarray,
    points: np.ndarray,
    visible: np.ndarray,
    *,
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """Draws landmarks into an image: each is a dot in the colour of its index, in a ring.

    The centre of a dot is exactly at its point. Dots and names are larger in a larger picture. A
    name is beside its dot, at the place where it covers the least of the dots and of earlier names;
    dots are drawn over all names. Points that are not visible or outside the picture are not drawn.

    Args:
      image: u8[H, W, 3], RGB.
      points: f[K, 2], xy, pixels of the image: the centre of its first pixel is (0.5, 0.5). The
        values of points that are not visible are not used.
      visible: bool[K].
      names: of the K landmarks, or None.
    Returns:
      u8[H, W, 3]; the image itself is not changed.
    Raises:
      AssertionError: an argument has another shape or dtype, or the number of names is wrong.
      InputError: a visible point is not finite.
    """
    image = check_picture("image", image)
    points = check_host_array("points", points, ("K", 2), jnp.floating).astype(np.float64)
    visible = check_host_array("visible", visible, (len(points),), np.bool_)
    if names is not None and len(names) != len(points):
        raise AssertionError(f"names has {len(names)} elements: give {len(points)}")
    wrong = visible & ~np.isfinite(points).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"points[{row}] is {points[row].tolist()}, not finite: mark it as not visible"
        )

    canvas = Image.fromarray(image)
    line, outline, font = line_width(canvas), outline_width(canvas), font_of(canvas)
    radius = _RADIUS * line
    within = ((points >= 0) & (points <= canvas.size)).all(axis=1)
    shown = np.flatnonzero(visible & within).tolist()
    dots = [_around(points[k], radius + outline) for k in shown]
    if names is not None:
        draw = ImageDraw.Draw(canvas)
        tags: list[Rectangle] = []
        for k, dot in zip(shown, dots, strict=True):
            text = one_line(names[k])
            size = tag_size(text, font)
            tags.append(tag_place(size, _tag_corners(size, dot), [*dots, *tags], canvas))
            draw_tag(draw, tags[-1], text, class_color(k), font, outline)
    for k in shown:
        color = class_color(k)
        _draw_disc(canvas, points[k], radius + outline, text_color(color))
        _draw_disc(canvas, points[k], radius, color)
    return np.array(canvas)


def _around(center: np.ndarray, radius: float) -> Rectangle:
    """Computes the rectangle of the pixels that a disc touches."""
    low, high = np.floor(center - radius), np.ceil(center + radius)
    return Rectangle(*map(int, (*low, *high)))


def _draw_disc(canvas: Image.Image, center: np.ndarray, radius: float, color: Color) -> None:
    """Draws a disc; a pixel at its edge gets as much of the colour as the disc covers of it."""
    x1, y1, x2, y2 = _around(center, radius + 0.5)
    x, y = np.arange(x1, x2) + 0.5 - center[0], np.arange(y1, y2) + 0.5 - center[1]
    share = np.clip(radius + 0.5 - np.hypot(x[None], y[:, None]), 0, 1)
    canvas.paste(color, (x1, y1), Image.fromarray(np.round(255 * share).astype(np.uint8)))


def _tag_corners(size: tuple[int, int], dot: Rectangle) -> Iterator[tuple[int, int]]:
    """Yields the corners of a tag: to the right and left of its dot, then above and below it."""
    width, height = size
    above, beside, below = dot.y1 - height, (dot.y1 + dot.y2 - height) // 2, dot.y2
    yield from ((x, y) for y in (beside, above, below) for x in (dot.x2, dot.x1 - width))
    yield from (((dot.x1 + dot.x2 - width) // 2, y) for y in (above, below))
