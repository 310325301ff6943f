"""Where an original image lies in a network's input: the geometry of resizing, and its inverse."""

from typing import Any, NamedTuple

import numpy as np


class Placement(NamedTuple):
    """x' = scale_x x + offset_x and y' = scale_y y + offset_y, in pixels.

    A pixel's left edge is x, its right edge x + 1, so that boxes map exactly.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float


def letterbox(size: tuple[int, int], target: tuple[int, int]) -> Placement:
    """Makes an image as large as fits, keeps its aspect ratio (to a pixel), and centres it.

    Args:
      size: (height, width) of the original.
      target: (height, width) of the network's input.
    """
    (height, width), (rows, columns) = size, target
    scale = min(rows / height, columns / width)
    new_height = min(rows, max(1, round(height * scale)))
    new_width = min(columns, max(1, round(width * scale)))
    return Placement(
        new_width / width,
        new_height / height,
        (columns - new_width) // 2,
        (rows - new_height) // 2,
    )


def stretch(size: tuple[int, int], target: tuple[int, int]) -> Placement:
    """Makes an image as large as the network's input and does not keep its aspect ratio.

    The arguments are those of `letterbox`.
    """
    return Placement(target[1] / size[1], target[0] / size[0], 0, 0)


def center_crop(
    size: tuple[int, int], target: tuple[int, int], shorter_side: int | None = None
) -> Placement:
    """Resizes the shorter side of an image and keeps the centre, as large as the network's input.

    Args:
      size: (height, width) of the original.
      target: (height, width) of the network's input.
      shorter_side: pixels of the resized image's shorter side, at least those of the larger side
        of `target`; None: as many.
    Returns:
      A placement whose offsets are 0 or negative.
    """
    side = max(target) if shorter_side is None else shorter_side
    factor = side / min(size)
    # Of the longer side a part of a pixel is left out, as torchvision does.
    height, width = (max(side, int(x * factor)) for x in size)
    top, left = (round((x - y) / 2) for x, y in zip((height, width), target, strict=True))
    return Placement(width / size[1], height / size[0], -left, -top)


PLACEMENTS = {"letterbox": letterbox, "stretch": stretch, "crop": center_crop}


def place_mask(
    mask: np.ndarray, target: tuple[int, int], placement: Placement, *, fill: int = 0
) -> np.ndarray:
    """Moves a mask, or labels of pixels, to where the image lies in the network's input.

    Each pixel of the result gets the value of the mask's pixel in which its centre lies: of h rows
    in the result, row i shows row (i + 1/2) H / h of the mask's H rows. An object that is smaller
    than such a pixel may lose all of its mask.

    Args:
      mask: [H, W], of bools or numbers.
      target: (height, width) of the network's input.
      placement: of the image.
      fill: the value of pixels that the image does not cover.
    Returns:
      [height, width], of the mask's dtype.
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(placed_size(mask, placement), mask.shape, strict=True)
    )
    result = np.full(target, fill, mask.dtype)
    # Columns first: decoded run-lengths lie column by column in memory.
    paste(mask[:, columns][rows], result, placement)
    return result


def placed_size(image: np.ndarray, placement: Placement) -> tuple[int, int]:
    """Returns the (height, width) that an image has once it is resized for the network's input."""
    height, width = image.shape[:2]
    return round(height * placement.scale_y), round(width * placement.scale_x)


def paste(image: np.ndarray, result: np.ndarray, placement: Placement) -> None:
    """Writes a resized image into the network's input, and leaves out what lies beyond its border.

    Args:
      image: [h, w, ...], of `placed_size`.
      result: [height, width, ...], which is changed.
      placement: of the image.
    """
    top, left = int(placement.offset_y), int(placement.offset_x)
    image = image[max(-top, 0) :, max(-left, 0) :]
    window = result[max(top, 0) :, max(left, 0) :]
    height, width = (min(pair) for pair in zip(image.shape[:2], window.shape[:2], strict=True))
    window[:height, :width] = image[:height, :width]


def to_input(boxes: Any, placement: Any) -> Any:
    """Moves boxes of the original image to pixels of the network's input.

    Args:
      boxes: f[N, 4], xyxy, of numpy or JAX.
      placement: `Placement`, or its four numbers as an array, f[4].
    Returns:
      f[N, 4].
    """
    scale, offset = _pairs(placement)
    return boxes * scale + offset


def to_original(boxes: Any, placement: Any) -> Any:
    """Moves boxes of the network's input to pixels of the original: the inverse of `to_input`."""
    scale, offset = _pairs(placement)
    return (boxes - offset) / scale


_ORDER = np.array([0, 1, 0, 1])


def _pairs(placement: Any) -> tuple[Any, Any]:
    """Returns the scale and the offset of both corners, [1, 4] each."""
    numbers = np.asarray(placement) if isinstance(placement, tuple) else placement
    return numbers[_ORDER][None], numbers[_ORDER + 2][None]
