"""Nearest neighbors for the eye: a query and what is near it, in a row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.core import InputError
from jaxvision.data import place
from jaxvision.predict.arrays import check_picture
from jaxvision.predict.canvas import GROUND
from jaxvision.predict.colors import Color
from jaxvision.predict.draw import picture_grid

# Told apart by people who see no red or no green too: Okabe and Ito, "Color universal design".
SAME, OTHER = (0, 158, 115), (213, 94, 0)
"""Frames of neighbors of the query's class, and of another."""

_SIDE, _FRAME = 128, 6  # pixels


class Neighbor(NamedTuple):
    """A picture in a row.

    Attributes:
      image: u8[H, W, 3], of any size.
      caption: a line above it.
      same: whether it is of the query's class; None: not known.
    """

    image: np.ndarray
    caption: str
    same: bool | None = None


def draw_neighbors(rows: Sequence[Sequence[Neighbor]]) -> np.ndarray:
    """Rows of pictures of one size: a query each, then its neighbors, framed if their class tells.

    Args:
      rows: at least one; all of one length.
    Returns:
      u8[H, W, 3].
    Raises:
      AssertionError: an image has another shape or dtype.
      InputError: no rows, or rows of other lengths.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or not min(lengths):
        raise InputError(f"rows have {sorted(lengths)} pictures: give rows of one length")
    cells = [cell for row in rows for cell in row]
    return picture_grid(
        [_framed(cell) for cell in cells],
        columns=len(rows[0]),
        captions=[cell.caption for cell in cells],
    )


def _framed(cell: Neighbor) -> np.ndarray:
    image = check_picture("image", cell.image)
    color: Color = GROUND if cell.same is None else SAME if cell.same else OTHER
    inside, _ = place(image, (_SIDE, _SIDE), method="letterbox", fill=GROUND[0])
    framed = np.empty((_SIDE + 2 * _FRAME, _SIDE + 2 * _FRAME, 3), np.uint8)
    framed[:] = color
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = inside
    return framed
