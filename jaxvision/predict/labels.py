"""Draws the labels of pixels over an image, with a legend, and writes them as a palette PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxvision.core import InputError
from jaxvision.predict.arrays import check_host_array, check_picture, check_pixels
from jaxvision.predict.canvas import (
    GROUND,
    OPACITY,
    draw_text,
    font_of,
    line_width,
    one_line,
    text_size,
)
from jaxvision.predict.colors import BLACK, WHITE, class_color
from jaxvision.predict.files import write_png

_DARKNESS = 0.6  # opacity of the black lines between regions
_VALUES = 256  # a pixel of 8 bits has as many different values


def draw_labels(
    image: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    background: int | None = 0,
    ignore: int = 255,
) -> np.ndarray:
    """Draws the classes of the pixels over an image, and the names of the classes below it.

    Regions have the colours of their classes, and dark lines separate them; ignored pixels are
    hatched. The background is not coloured and is not in the legend. Legend, lines and text are
    larger in a larger picture. A picture that is narrower than a name in the legend is extended at
    the right.

    Args:
      image: u8[H, W, 3], RGB.
      labels: int[H, W], indices into `class_names`, or `ignore`.
      class_names: of the labels.
      background: the class that is not coloured; None: there is no such class.
      ignore: the label of pixels that do not count.
    Returns:
      u8[H + h, W + w, 3], with the image at the top left corner; h is 0 if the legend is empty, and
      w is 0 if the legend fits below the image. The image itself is not changed.
    Raises:
      AssertionError: an argument has another shape or dtype.
      InputError: a label has no name.
    """
    image = check_picture("image", image)
    labels = check_host_array("labels", labels, image.shape[:2], jnp.integer)
    ignored = labels == ignore
    unnamed = ~ignored & ((labels < 0) | (labels >= len(class_names)))
    if unnamed.any():
        y, x = np.unravel_index(unnamed.argmax(), unnamed.shape)
        raise InputError(
            f"labels[{y}, {x}] is {labels[y, x]}, but class_names has {len(class_names)} names: "
            "give a name for it"
        )

    canvas = Image.fromarray(image)
    line = line_width(canvas)
    stripe = 2 * line
    of_labels = np.array([class_color(label) for label in range(_VALUES)], np.uint8)
    colors = of_labels[labels.astype(np.uint8)]  # colours repeat after that many
    colors[ignored] = _hatching(*image.shape[:2], stripe=stripe)[ignored]
    colored = np.uint8(255 * OPACITY) * (ignored | (labels != background))
    canvas.paste(Image.fromarray(colors), mask=Image.fromarray(colored))
    borders = np.uint8(255 * _DARKNESS) * _borders(labels, line)
    canvas.paste(BLACK, mask=Image.fromarray(borders))

    present = [label for label in np.unique(labels[~ignored]).tolist() if label != background]
    texts = [one_line(class_names[label]) for label in present]
    side = round(font_of(canvas).size)
    swatches = [Image.new("RGB", (side, side), class_color(label)) for label in present]
    if ignored.any():
        texts.append("ignored")
        swatches.append(Image.fromarray(_hatching(side, side, stripe=stripe)))
    return np.array(_with_legend(canvas, swatches, texts) if texts else canvas)


def label_palette() -> list[int]:
    """Returns the palette of label images.

    The colours are those of `class_color`, except black for 0, as in VOC, and white for 255, the
    label of pixels that do not count.

    Returns:
      768 numbers in 0 to 255: red, green and blue of 256 labels.
    """
    colors = [BLACK, *map(class_color, range(1, _VALUES - 1)), WHITE]
    return [value for color in colors for value in color]


def write_label_png(path: Path | str, labels: np.ndarray) -> None:
    """Writes labels as the indices of a palette PNG; an interrupted call leaves no partial file.

    `jaxvision.data.sources.mask_folders.read_mask` reads them.

    Args:
      path: of the file; its suffix is .png.
      labels: int[H, W], 0 to 255.
    Raises:
      AssertionError: the labels have another shape or dtype.
      InputError: a label is out of range, or the file's name has another suffix.
    """
    labels = check_pixels("labels", labels, ("H", "W"), jnp.integer)
    wrong = (labels < 0) | (labels >= _VALUES)
    if wrong.any():
        y, x = np.unravel_index(wrong.argmax(), wrong.shape)
        raise InputError(f"labels[{y}, {x}] is {labels[y, x]}: give labels from 0 to {_VALUES - 1}")
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(label_palette())
    write_png(path, image)


def _hatching(height: int, width: int, *, stripe: int) -> np.ndarray:
    """Draws diagonal stripes of black and white: u8[height, width, 3]."""
    diagonal = np.arange(height)[:, None] + np.arange(width)[None]
    white = np.uint8(255) * (diagonal // stripe % 2)[:, :, None].astype(np.uint8)
    return np.broadcast_to(white, (height, width, 3)).copy()


def _borders(labels: np.ndarray, line: int) -> np.ndarray:
    """Finds the pixels of the lines between regions: bool[H, W]."""
    padded = np.pad(labels, (line // 2, line - line // 2), mode="edge")
    height, width = labels.shape
    across = padded[:, :width] != padded[:, line:]
    down = padded[:height] != padded[line:]
    inner = slice(line // 2, line // 2 + height), slice(line // 2, line // 2 + width)
    return across[inner[0]] | down[:, inner[1]]


def _with_legend(
    canvas: Image.Image, swatches: Sequence[Image.Image], texts: Sequence[str]
) -> Image.Image:
    """Puts the legend below the canvas: columns of swatches, each with its text."""
    font = font_of(canvas)
    side, gap = swatches[0].width, round(font.size / 2)
    widths, heights = zip(*(text_size(text, font) for text in texts), strict=True)
    cell, row = side + gap + max(widths) + gap, heights[0]
    columns = max(1, (canvas.width - gap) // cell)
    rows = math.ceil(len(texts) / columns)
    size = (max(canvas.width, gap + cell), canvas.height + gap + rows * row + gap)

    picture = Image.new("RGB", size, GROUND)
    picture.paste(canvas)
    draw = ImageDraw.Draw(picture)
    for number, (swatch, text) in enumerate(zip(swatches, texts, strict=True)):
        left = gap + number % columns * cell
        top = canvas.height + gap + number // columns * row
        picture.paste(swatch, (left, top + (row - side) // 2))
        draw_text(draw, (left + side + gap, top), text, GROUND, font)
    return picture
