"""Cuts large images into overlapping squares of one size; beyond its borders an image is mirrored.

Of each tile `size - 2 margin` rows and columns in its middle are kept, and these lie side by side
from the image's first pixel on. Around them a tile has `margin` pixels of the image, or, beyond its
border, of its mirror image.

Source: Ronneberger et al. 2015 ("U-Net"), figure 2 ("overlap-tile strategy").
"""

from collections.abc import Iterator

import numpy as np

from jaxvision.core import check_range


def tile_origins(size: tuple[int, int], *, tile: int, margin: int) -> Iterator[tuple[int, int]]:
    """Yields the (row, column) of each tile's corner in the image, row by row; negative at first.

    Args:
      size: (height, width) of the image.
      tile: pixels a side.
      margin: around what is kept.
    Raises:
      OptionError: the margin leaves nothing.
    """
    check_range("margin", margin, least=0, less_than=tile / 2)
    height, width = size
    kept = tile - 2 * margin
    for row in range(0, height, kept):
        for column in range(0, width, kept):
            yield row - margin, column - margin


def cut_tile(image: np.ndarray, origin: tuple[int, int], tile: int) -> np.ndarray:
    """Cuts a square out of an image, which is mirrored at its borders as often as necessary.

    The pixels of the border themselves are not repeated.

    Args:
      image: [H, W, ...].
      origin: (row, column) of the corner.
      tile: pixels a side.
    Returns:
      [tile, tile, ...].
    """
    rows, columns = (
        _mirrored(np.arange(start, start + tile), side)
        for start, side in zip(origin, image.shape[:2], strict=True)
    )
    return image[rows[:, None], columns[None]]


def _mirrored(places: np.ndarray, side: int) -> np.ndarray:
    """Returns the places 0..side - 1 that any places show when the borders are mirrors."""
    period = max(2 * (side - 1), 1)
    places = places % period
    return np.minimum(places, period - places) if side > 1 else np.zeros_like(places)
