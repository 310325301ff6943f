"""Draws dots, text and tags whose size depends on the picture; tags avoid each other."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxvision.predict.colors import Color, text_color

GROUND = (56, 56, 56)  # the colour beside and below pictures
OPACITY = 0.45  # of the colours that are laid over an image

_RADIUS = 1.5  # of a dot, in widths of the line around a box
_STROKE = 0.15  # around letters, because lines thinner than a pixel are pale


class Rectangle(NamedTuple):
    """A rectangle of whole pixels: x1 <= x < x2, y1 <= y < y2."""

    x1: int
    y1: int
    x2: int
    y2: int

    def grown(self, by: int) -> "Rectangle":
        """Returns the rectangle that is larger by some pixels on every side."""
        return Rectangle(self.x1 - by, self.y1 - by, self.x2 + by, self.y2 + by)

    def overlap(self, other: "Rectangle") -> int:
        """Counts the pixels that are in both rectangles."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(width, 0) * max(height, 0)


def side(image: Image.Image) -> float:
    """Computes the side of the square that has the area of the image, in pixels."""
    return math.sqrt(image.width * image.height)


def line_width(image: Image.Image) -> int:
    """Computes the width of the lines in a picture, in pixels."""
    return math.ceil(side(image) / 300)


def outline_width(image: Image.Image) -> int:
    """Computes the width of the outlines around these lines, in pixels."""
    return max(1, line_width(image) // 4)


def dot_radius(image: Image.Image) -> float:
    """Computes the radius of the dots in a picture, in pixels, without their outline."""
    return _RADIUS * line_width(image)


def dot_frame(center: np.ndarray, radius: float) -> Rectangle:
    """Computes the rectangle of the pixels that a disc touches."""
    low, high = np.floor(center - radius), np.ceil(center + radius)
    return Rectangle(*map(int, (*low, *high)))


def draw_dot(
    canvas: Image.Image, center: np.ndarray, radius: float, color: Color, outline: int
) -> None:
    """Draws a disc in a ring of so many pixels, black or white, that stands out from it.

    Args:
      canvas: the picture.
      center: f64[2], xy, pixels: the centre of the first pixel is (0.5, 0.5).
      radius: of the disc, pixels.
      color: of the disc.
      outline: width of the ring, pixels.
    """
    _draw_disc(canvas, center, radius + outline, text_color(color))
    _draw_disc(canvas, center, radius, color)


def _draw_disc(canvas: Image.Image, center: np.ndarray, radius: float, color: Color) -> None:
    """Draws a disc; a pixel at its edge gets as much of the colour as the disc covers of it."""
    x1, y1, x2, y2 = dot_frame(center, radius + 0.5)
    x, y = np.arange(x1, x2) + 0.5 - center[0], np.arange(y1, y2) + 0.5 - center[1]
    share = np.clip(radius + 0.5 - np.hypot(x[None], y[:, None]), 0, 1)
    canvas.paste(color, (x1, y1), Image.fromarray(np.round(255 * share).astype(np.uint8)))


def font_of(image: Image.Image) -> ImageFont.FreeTypeFont:
    """Loads the font for the text in a picture."""
    return _load_font(max(11, round(side(image) / 42)))


_load_font = functools.lru_cache(ImageFont.load_default)


def one_line(text: str) -> str:
    """Returns the text without line breaks."""
    return " ".join(text.split())


def text_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Computes (width, height) of a line of text, in pixels."""
    return math.ceil(font.getlength(text)), sum(font.getmetrics())


def draw_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    ground: Color,
    font: ImageFont.FreeTypeFont,
) -> None:
    """Writes text to the right of and below the point `place`, on a background of a colour."""
    draw.text(place, text, text_color(ground), font, stroke_width=_STROKE)


def tag_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Computes (width, height) of a tag, in pixels."""
    width, height = text_size(text, font)
    return width + 2 * _padding(font), height


def tag_place(
    size: tuple[int, int],
    corners: Iterable[tuple[int, int]],
    others: Sequence[Rectangle],
    canvas: Image.Image,
) -> Rectangle:
    """Chooses the place of a tag: the first one at which it covers the least of other rectangles.

    Args:
      size: (width, height) of the tag.
      corners: the candidates for the tag's top left corner, (x, y). A tag that reaches beyond the
        picture is moved into it; of one that is too wide, the left end is in the picture.
      others: rectangles that the tag should not cover.
      canvas: the picture.
    """
    width, height = size
    places = []
    for x, y in corners:
        left = max(0, min(x, canvas.width - width))
        top = max(0, min(y, canvas.height - height))
        places.append(Rectangle(left, top, left + width, top + height))
    return min(places, key=lambda place: sum(map(place.overlap, others)))


def draw_tag(
    draw: ImageDraw.ImageDraw,
    tag: Rectangle,
    text: str,
    color: Color,
    font: ImageFont.FreeTypeFont,
    outline: int,
) -> None:
    """Draws a tag: text on a background of a colour, with an outline of a width in pixels."""
    x1, y1, x2, y2 = tag
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color, outline=text_color(color), width=outline)
    draw_text(draw, (x1 + _padding(font), y1), text, color, font)


def _padding(font: ImageFont.FreeTypeFont) -> int:
    """Computes the space to the left and to the right of a tag's text, in pixels."""
    return round(font.size / 4)
