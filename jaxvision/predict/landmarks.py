"""Draws landmarks into pictures."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxvision.core import InputError
from jaxvision.predict.arrays import check_host_array, check_picture
from jaxvision.predict.canvas import (
    Rectangle,
    dot_frame,
    dot_radius,
    draw_dot,
    draw_tag,
    font_of,
    one_line,
    outline_width,
    tag_place,
    tag_size,
)
from jaxvision.predict.colors import class_color


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
    radius, outline, font = dot_radius(canvas), outline_width(canvas), font_of(canvas)
    within = ((points >= 0) & (points <= canvas.size)).all(axis=1)
    shown = np.flatnonzero(visible & within).tolist()
    dots = [dot_frame(points[k], radius + outline) for k in shown]
    if names is not None:
        draw = ImageDraw.Draw(canvas)
        tags: list[Rectangle] = []
        for k, dot in zip(shown, dots, strict=True):
            text = one_line(names[k])
            size = tag_size(text, font)
            tags.append(tag_place(size, _tag_corners(size, dot), [*dots, *tags], canvas))
            draw_tag(draw, tags[-1], text, class_color(k), font, outline)
    for k in shown:
        draw_dot(canvas, points[k], radius, class_color(k), outline)
    return np.array(canvas)


def _tag_corners(size: tuple[int, int], dot: Rectangle) -> Iterator[tuple[int, int]]:
    """Yields the corners of a tag: to the right and left of its dot, then above and below it."""
    width, height = size
    above, beside, below = dot.y1 - height, (dot.y1 + dot.y2 - height) // 2, dot.y2
    yield from ((x, y) for y in (beside, above, below) for x in (dot.x2, dot.x1 - width))
    yield from (((dot.x1 + dot.x2 - width) // 2, y) for y in (above, below))
