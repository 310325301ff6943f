"""What pictures share: lines and text that grow with them, tags that make room for each other."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from jaxvision.predict.colors import Color, text_color

GROUND = (56, 56, 56)  # beside and below pictures
OPACITY = 0.45  # of what is laid over an image

_STROKE = 0.15  # around letters: lines thinner than a pixel are pale


class Rectangle(NamedTuple):
    """Whole pixels: x1 <= x < x2, y1 <= y < y2."""

    x1: int
    y1: int
    x2: int
    y2: int

    def grown(self, by: int) -> "Rectangle":
        return Rectangle(self.x1 - by, self.y1 - by, self.x2 + by, self.y2 + by)

    def overlap(self, other: "Rectangle") -> int:
        """Pixels in both."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(width, 0) * max(height, 0)


def side(image: Image.Image) -> float:
    """Of the square as large as the image."""
    return math.sqrt(image.width * image.height)


def line_width(image: Image.Image) -> int:
    """Of the lines in a picture."""
    return math.ceil(side(image) / 300)


def outline_width(image: Image.Image) -> int:
    """Of what sets them off from the picture."""
    return max(1, line_width(image) // 4)


def font_of(image: Image.Image) -> ImageFont.FreeTypeFont:
    """Of the text in a picture."""
    return _load_font(max(11, round(side(image) / 42)))


_load_font = functools.lru_cache(ImageFont.load_default)


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


def text_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """(width, height) of a line of text."""
    return math.ceil(font.getlength(text)), sum(font.getmetrics())


def draw_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    ground: Color,
    font: ImageFont.FreeTypeFont,
) -> None:
    """Writes from the top left corner `place`, on a ground of that colour."""
    draw.text(place, text, text_color(ground), font, stroke_width=_STROKE)


def tag_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """(width, height) of a tag."""
    width, height = text_size(text, font)
    return width + 2 * _padding(font), height


def tag_place(
    size: tuple[int, int],
    corners: Iterable[tuple[int, int]],
    others: Sequence[Rectangle],
    canvas: Image.Image,
) -> Rectangle:
    """Where a tag covers the least of others: the first such place.

    Args:
      size: (width, height) of the tag.
      corners: (x, y) of its top left corner, to choose from; it is pushed into the picture, its
        left end at least.
      others: what it would cover.
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
    """Text on a ground of a colour, with an outline as thick as that."""
    x1, y1, x2, y2 = tag
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color, outline=text_color(color), width=outline)
    draw_text(draw, (x1 + _padding(font), y1), text, color, font)


def _padding(font: ImageFont.FreeTypeFont) -> int:
    """To the left and right of a tag's text."""
    return round(font.size / 4)
