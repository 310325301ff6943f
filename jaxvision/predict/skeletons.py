"""Draws the keypoints of an object and the limbs between them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxvision.core import InputError
from jaxvision.data import COCO_SKELETON
from jaxvision.predict.canvas import dot_radius, draw_dot, line_width, outline_width
from jaxvision.predict.colors import class_color, text_color

Limbs = Sequence[tuple[int, int]]
"""Pairs of keypoints, by their indices."""


def limbs_between(count: int, limbs: Limbs | None) -> Limbs:
    """Returns the limbs to draw between so many keypoints, after a check.

    Args:
      count: of the keypoints.
      limbs: pairs of keypoints; None: those of COCO if there are as many keypoints, else none.
    Raises:
      InputError: a limb is not a pair of keypoints that exist.
    """
    if limbs is None:
        return COCO_SKELETON.limbs if count == len(COCO_SKELETON) else ()
    for number, limb in enumerate(limbs):
        if len(limb) != 2 or not all(0 <= point < count for point in limb):
            raise InputError(
                f"limbs[{number}] is {tuple(limb)}: give the indices of two of {count} keypoints"
            )
    return limbs


def draw_skeleton(canvas: Image.Image, points: np.ndarray, shown: np.ndarray, limbs: Limbs) -> None:
    """Draws limbs, each in the colour of its number, and dots in the colours of their numbers.

    Lines and dots have an outline in black or white, so that they stand out from any ground.

    Args:
      canvas: the picture.
      points: f64[K, 2], xy, pixels: the centre of the first pixel is (0.5, 0.5).
      shown: bool[K], False for keypoints that are not drawn, and neither are their limbs.
      limbs: pairs of keypoints.
    """
    draw = ImageDraw.Draw(canvas)
    line, outline = line_width(canvas), outline_width(canvas)
    shown = shown & ((points >= 0) & (points <= canvas.size)).all(axis=1)
    for number, (start, end) in enumerate(limbs):
        if shown[start] and shown[end]:
            # Pillow's coordinates are those of the centres of pixels.
            ends = (points[[start, end]] - 0.5).ravel().tolist()
            color = class_color(number)
            draw.line(ends, text_color(color), line + 2 * outline)
            draw.line(ends, color, line)
    for k in np.flatnonzero(shown).tolist():
        draw_dot(canvas, points[k], dot_radius(canvas), class_color(k), outline)
