"""Detections drawn into pictures, and pictures laid out in a grid; on the host, with Pillow."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxvision.core import InputError, check_range

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)

_COLORS = 256  # classes with a colour of their own
_OPACITY = 0.45  # of masks
_STROKE = 0.15  # around letters: lines thinner than a pixel are pale
_GROUND = (56, 56, 56)  # between the pictures of a grid

# Oklab: from linear RGB to the eye's three receptors, and from their cube roots to lightness and
# two axes of hue. Ottosson, "A perceptual color space for image processing", 2020.
_TO_RECEPTORS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


class _Rectangle(NamedTuple):
    """Whole pixels: x1 <= x < x2, y1 <= y < y2."""

    x1: int
    y1: int
    x2: int
    y2: int

    def grown(self, by: int) -> "_Rectangle":
        return _Rectangle(self.x1 - by, self.y1 - by, self.x2 + by, self.y2 + by)

    def overlap(self, other: "_Rectangle") -> int:
        """Pixels in both."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(width, 0) * max(height, 0)


def class_color(label: int) -> Color:
    """The colour of a class: always the same, and far from those of other classes to the eye.

    Each class takes, of a grid of strong colours on which text has a contrast of at least 6.5, the
    one that is farthest from the colours of the classes before it; after 256 classes they start
    again. The distance is that in Oklab, where a difference in lightness counts 0.6 of one in hue,
    because people name colours by their hue.

    Args:
      label: of the class, at least 0.
    Returns:
      (red, green, blue), 0 to 255.
    Source: Ottosson, "A perceptual color space for image processing", 2020.
    """
    return _palette()[label % _COLORS]


def text_color(ground: Color) -> Color:
    """Black or white, whichever has more contrast to the ground: never below 4.58.

    The contrast of luminances a > b is (a + 0.05) / (b + 0.05). Those of a ground to white and to
    black multiply to 21, so that the larger is at least the root of 21.

    Args:
      ground: (red, green, blue), 0 to 255.
    Returns:
      (0, 0, 0) or (255, 255, 255).
    Source: W3C, Web Content Accessibility Guidelines 2.1, "contrast ratio".
    """
    return BLACK if _contrasts(np.array(ground)).argmax() == 0 else WHITE


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    class_names: Sequence[str],
    *,
    masks: np.ndarray | None = None,
) -> np.ndarray:
    """A picture with its boxes, each tagged with its class and score.

    Lines and text grow with the picture. A tag stands at a corner of its box, where it covers the
    tags of the detections before it least. The first detection, in `Detections` the surest, lies on
    top. Letters that Pillow's font lacks, which are all beyond ASCII, appear as empty frames.

    Args:
      image: u8[H, W, 3], RGB.
      boxes: f[K, 4], xyxy, pixels of the image; what reaches beyond it is drawn at its border.
      labels: int[K], indices into `class_names`.
      scores: f[K], or None for objects that have none.
      class_names: of the labels.
      masks: bool[K, H, W], laid over the image in the classes' colours, or None.
    Returns:
      u8[H, W, 3]; the image itself is left as it is.
    Raises:
      AssertionError: an argument has another shape or dtype.
      InputError: a box that is not finite or is turned inside out, or a label without a name.
    """
    image = _checked_picture("image", image)
    boxes = _checked("boxes", boxes, ("K", 4), jnp.floating).astype(np.float64)
    count = len(boxes)
    labels = _checked("labels", labels, (count,), jnp.integer).tolist()
    if scores is not None:
        scores = _checked("scores", scores, (count,), jnp.floating).tolist()
    if masks is not None:
        masks = _checked("masks", masks, (count, *image.shape[:2]), np.bool_)
    _check_boxes(boxes)
    for row, label in enumerate(labels):
        if not 0 <= label < len(class_names):
            raise InputError(
                f"labels[{row}] is {label}: give a name for it, there are {len(class_names)}"
            )

    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    line = math.ceil(_side(canvas) / 300)
    outline = max(1, line // 4)
    font = _font(canvas)
    colors = [class_color(label) for label in labels]
    frames = [_frame(box, line, canvas) for box in boxes]
    texts = [_one_line(class_names[label]) for label in labels]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
    tags: list[_Rectangle] = []
    for text, frame in zip(texts, frames, strict=True):
        places = _tag_places(_tag_size(text, font), frame.grown(outline), canvas)
        tags.append(min(places, key=lambda place: sum(map(place.overlap, tags))))

    first_on_top = range(count)[::-1]
    if masks is not None:
        for k in first_on_top:
            opacity = masks[k] * np.uint8(255 * _OPACITY)
            canvas.paste(colors[k], mask=Image.fromarray(opacity))
    for k in first_on_top:
        _draw_frame(draw, frames[k].grown(outline), text_color(colors[k]), line + 2 * outline)
        _draw_frame(draw, frames[k], colors[k], line)
    for k in first_on_top:
        x1, y1, x2, y2 = tags[k]
        ink = text_color(colors[k])
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colors[k], outline=ink, width=outline)
        draw.text((x1 + _padding(font), y1), texts[k], ink, font, stroke_width=_STROKE)
    return np.array(canvas)


def picture_grid(
    pictures: Sequence[np.ndarray], *, columns: int, captions: Sequence[str] | None = None
) -> np.ndarray:
    """Pictures side by side on a dark grey ground, row by row.

    A column is as wide as the widest in it, a row as high as its highest; nothing is resized.

    Args:
      pictures: u8[H, W, 3] each, of any sizes; at least one.
      columns: pictures in a row, at least 1; no more than there are pictures are laid out.
      captions: a line above each picture, or None.
    Returns:
      u8[height, width, 3].
    Raises:
      AssertionError: a picture has another shape or dtype, or captions are missing.
      InputError: there are no pictures, or columns below 1.
    """
    check_range("columns", columns, least=1)
    if not pictures:
        raise InputError("pictures has no elements: give at least one")
    images = [
        Image.fromarray(_checked_picture(f"pictures[{number}]", picture))
        for number, picture in enumerate(pictures)
    ]
    if captions is not None and len(captions) != len(images):
        raise AssertionError(f"captions has {len(captions)} elements: give {len(images)}")
    columns = min(columns, len(images))
    font = _font(max(images, key=_side))
    texts = [_one_line(caption) for caption in captions or [""] * len(images)]
    text_height = sum(font.getmetrics()) if captions else 0
    widths = [
        max(image.width, math.ceil(font.getlength(text)))
        for image, text in zip(images, texts, strict=True)
    ]
    heights = [image.height + text_height for image in images]
    starts = range(0, len(images), columns)
    gap = round(font.size / 2)
    lefts = _edges([max(widths[column::columns]) for column in range(columns)], gap)
    tops = _edges([max(heights[start : start + columns]) for start in starts], gap)

    canvas = Image.new("RGB", (lefts[-1], tops[-1]), _GROUND)
    draw = ImageDraw.Draw(canvas)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        left, top = lefts[number % columns], tops[number // columns]
        draw.text((left, top), text, text_color(_GROUND), font, stroke_width=_STROKE)
        canvas.paste(image, (left, top + text_height))
    return np.array(canvas)


def _linear(color: np.ndarray) -> np.ndarray:
    """sRGB's 0 to 255 as shares of light (IEC 61966-2-1)."""
    share = color / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _contrasts(ground: np.ndarray) -> np.ndarray:
    """The contrasts to black and white, [..., 2]; see `text_color`."""
    luminance = _linear(ground) @ [0.2126, 0.7152, 0.0722]
    return np.stack([(luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)], axis=-1)


@functools.cache
def _palette() -> list[Color]:
    levels = range(0, 256, 15)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = np.cbrt(_linear(grid) @ _TO_RECEPTORS.T) @ _TO_OKLAB.T
    # Neither greyish, nor nearly black or white.
    strong = (np.hypot(lab[:, 1], lab[:, 2]) > 0.12) & (np.abs(lab[:, 0] - 0.7) < 0.2)
    strong &= _contrasts(grid).max(axis=1) >= 6.5
    grid, lab = grid[strong], lab[strong] * [0.6, 1, 1]
    chosen = [int((lab[:, 1] + lab[:, 2]).argmax())]  # the one nearest to red
    distance = np.full(len(lab), np.inf)
    for _ in range(_COLORS - 1):
        distance = np.minimum(distance, np.square(lab - lab[chosen[-1]]).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return [tuple(color) for color in grid[chosen].tolist()]


def _side(image: Image.Image) -> float:
    """Of the square as large as the image."""
    return math.sqrt(image.width * image.height)


def _font(image: Image.Image) -> ImageFont.FreeTypeFont:
    return _load_font(max(11, round(_side(image) / 42)))


_load_font = functools.lru_cache(ImageFont.load_default)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _edges(sizes: Sequence[int], gap: int) -> list[int]:
    """Where each of a row of things starts, with a gap around each, and where the row ends."""
    return [int(edge) for edge in gap + np.cumsum([0, *(size + gap for size in sizes)])]


def _frame(box: np.ndarray, line: int, canvas: Image.Image) -> _Rectangle:
    """The outer edge of a line along the box's edge; all of it within the picture."""
    size = np.array(canvas.size)
    low = np.clip(np.round(box[:2]) - line // 2, 0, size - 1)
    high = np.clip(np.round(box[2:]) + line // 2, low + 1, size)
    return _Rectangle(*map(int, (*low, *high)))


def _draw_frame(draw: ImageDraw.ImageDraw, frame: _Rectangle, color: Color, line: int) -> None:
    x1, y1, x2, y2 = frame
    half = (min(x2 - x1, y2 - y1) + 1) // 2
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=color, width=min(line, half))


def _padding(font: ImageFont.FreeTypeFont) -> int:
    """To the left and right of a tag's text."""
    return round(font.size / 4)


def _tag_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    return math.ceil(font.getlength(text)) + 2 * _padding(font), sum(font.getmetrics())


def _tag_places(
    size: tuple[int, int], frame: _Rectangle, canvas: Image.Image
) -> Iterator[_Rectangle]:
    """Outside above and below, then inside; pushed into the picture, its left end at least."""
    width, height = size
    for y in (frame.y1 - height, frame.y2, frame.y1, frame.y2 - height):
        for x in (frame.x1, frame.x2 - width):
            left = max(0, min(x, canvas.width - width))
            top = max(0, min(y, canvas.height - height))
            yield _Rectangle(left, top, left + width, top + height)


def _checked_picture(name: str, x: Any) -> np.ndarray:
    x = _checked(name, x, ("H", "W", 3), np.uint8)
    if not x.size:
        raise AssertionError(f"{name} is uint8{list(x.shape)}: give at least one pixel")
    return x


def _checked(name: str, x: Any, shape: Sequence[int | str], kind: type) -> np.ndarray:
    """As `check_array`, but x stays on the host and keeps its dtype."""
    x = np.asarray(x)
    fits = x.ndim == len(shape) and all(
        size == actual for size, actual in zip(shape, x.shape, strict=True) if isinstance(size, int)
    )
    if not fits or not jnp.issubdtype(x.dtype, kind):
        wanted = ", ".join(str(size) for size in shape)
        raise AssertionError(f"{name} is {x.dtype}{list(x.shape)}: give {kind.__name__}[{wanted}]")
    return x


def _check_boxes(boxes: np.ndarray) -> None:
    for wrong, reason in (
        (~np.isfinite(boxes).all(axis=1), "not finite"),
        ((boxes[:, 2:] < boxes[:, :2]).any(axis=1), "turned inside out (x2 < x1 or y2 < y1)"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(f"boxes[{row}] is {boxes[row].tolist()}, {reason}: leave it out")
