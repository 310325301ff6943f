"""Cuts large images into overlapping squares of one size.

Of each tile `size - 2 margin` rows and columns in its middle are kept, and these lie side by side
from the image's first pixel on. Around them a tile has `margin` pixels of the image, or, beyond its
border, of its mirror image. With the border "zeros" a tile has nothing from beyond the image: the
outermost tiles end at its border and are kept up to there.

Source: Ronneberger et al. 2015 ("U-Net"), figure 2 ("overlap-tile strategy").
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxvision.core import InputError, check_range, lookup

BORDERS = {
    "reflect": "the mirror image, without repeating the pixels of the border",
    "symmetric": "the mirror image, which repeats the pixels of the border",
    "zeros": "nothing, so that a network pads its maps with zeros, as on the whole image",
}
"""What a tile has beyond the border of an image; the first two are named as in `numpy.pad`."""


def tile_origins(
    size: tuple[int, int], *, tile: int, margin: int, border: str = "reflect"
) -> Iterator[tuple[int, int]]:
    """Yields the (row, column) of each tile's corner in the image, row by row.

    Args:
      size: (height, width) of the image.
      tile: pixels a side.
      margin: around what is kept.
      border: a key of `BORDERS`. With "zeros" no corner is negative.
    Raises:
      InputError: the margin leaves nothing, the border is unknown, or it is "zeros" and the image
        is smaller than a tile.
    """
    check_range("margin", margin, least=0, less_than=tile / 2)
    lookup(BORDERS, border, "border")
    rows, columns = (_starts(side, tile=tile, margin=margin, border=border) for side in size)
    for row in rows:
        for column in columns:
            yield row, column


def _starts(side: int, *, tile: int, margin: int, border: str) -> list[int]:
    """Returns where the tiles begin along an axis."""
    kept = tile - 2 * margin
    if border != "zeros":
        return list(range(-margin, side - margin, kept))
    if side < tile:
        raise InputError(
            f"a side of the image has {side} pixels, fewer than a tile: lower tile from {tile}, or "
            "set border to 'reflect' or 'symmetric'"
        )
    return [*range(0, side - tile, kept), side - tile]


def kept_places(
    origin: Any, side: Any, *, tile: int, margin: int, border: str = "reflect"
) -> tuple[Any, Any]:
    """Returns which places along an axis of an image are kept of a tile of `tile_origins`.

    Args:
      origin: int, of numpy or JAX: where the tile begins.
      side: int, of the image.
      tile: pixels a side.
      margin: around what is kept.
      border: a key of `BORDERS`.
    Returns:
      (the first place, the one after the last), which may be beyond the image.
    """
    if border != "zeros":
        return origin + margin, origin + tile - margin
    kept = tile - 2 * margin
    number = -(-origin // kept)
    # The last tile may overlap the one before by more than twice the margin.
    first = (number * kept + margin) * (number > 0)
    return first, origin + tile - margin * (origin + tile < side)


def cut_tile(
    image: np.ndarray, origin: tuple[int, int], tile: int, *, border: str = "reflect"
) -> np.ndarray:
    """Cuts a square out of an image, which is mirrored at its borders as often as necessary.

    Args:
      image: [H, W, ...].
      origin: (row, column) of the corner.
      tile: pixels a side.
      border: "symmetric" repeats the pixels of the border, all others do not.
    Returns:
      [tile, tile, ...].
    """
    rows, columns = (
        _mirrored(np.arange(start, start + tile), side, repeated=border == "symmetric")
        for start, side in zip(origin, image.shape[:2], strict=True)
    )
    return image[rows[:, None], columns[None]]


def _mirrored(places: np.ndarray, side: int, *, repeated: bool) -> np.ndarray:
    """Returns the places 0..side - 1 that any places show when the borders are mirrors."""
    period = 2 * side if repeated else max(2 * (side - 1), 1)
    places = places % period
    if side == 1:
        return np.zeros_like(places)
    return np.minimum(places, period - repeated - places)
