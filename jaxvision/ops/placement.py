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
    """As large as fits without changing its form (to a pixel), in the middle.

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
    """All of the network's input, whatever that does to its form; arguments as in `letterbox`."""
    return Placement(target[1] / size[1], target[0] / size[0], 0, 0)


PLACEMENTS = {"letterbox": letterbox, "stretch": stretch}


def place_mask(
    mask: np.ndarray, target: tuple[int, int], placement: Placement, *, fill: int = 0
) -> np.ndarray:
    """A mask, or labels of pixels, where the image lies in the network's input.

    A pixel of the result is that of the mask in which its centre lies: row (i + 1/2) H / h of H,
    where h rows are left. An object of less than such a pixel may lose all of its mask.

    Args:
      mask: [H, W], of bools or numbers.
      target: (height, width).
      placement: of the image, from `place`.
      fill: what stands beside the image.
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
    """(height, width) of an image once it is resized for the network's input."""
    height, width = image.shape[:2]
    return round(height * placement.scale_y), round(width * placement.scale_x)


def paste(image: np.ndarray, result: np.ndarray, placement: Placement) -> None:
    """Writes an image that has its final size to where it lies in the network's input.

    What reaches beyond the network's input, as with a negative offset, is left out.
    """
    starts = int(placement.offset_y), int(placement.offset_x)
    into, out_of = [], []
    for start, length, most in zip(starts, image.shape[:2], result.shape[:2], strict=True):
        first, last = max(start, 0), min(start + length, most)
        into.append(slice(first, last))
        out_of.append(slice(first - start, last - start))
    result[into[0], into[1]] = image[out_of[0], out_of[1]]


def to_input(boxes: Any, placement: Any) -> Any:
    """Boxes of the original, in pixels of the network's input.

    Args:
      boxes: f[N, 4], xyxy, of numpy or JAX.
      placement: `Placement`, or its four numbers as an array, f[4].
    Returns:
      f[N, 4].
    """
    scale, offset = _pairs(placement)
    return boxes * scale + offset


def to_original(boxes: Any, placement: Any) -> Any:
    """The inverse of `to_input`."""
    scale, offset = _pairs(placement)
    return (boxes - offset) / scale


_ORDER = np.array([0, 1, 0, 1])


def _pairs(placement: Any) -> tuple[Any, Any]:
    """Scale and offset of both corners, [1, 4] each."""
    numbers = np.asarray(placement) if isinstance(placement, tuple) else placement
    return numbers[_ORDER][None], numbers[_ORDER + 2][None]
