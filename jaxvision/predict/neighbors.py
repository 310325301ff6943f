"""Draws nearest neighbors: each row of pictures is a query and its neighbors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.core import InputError, Inputs
from jaxvision.data.transforms.placing import fit_image
from jaxvision.predict.arrays import check_picture
from jaxvision.predict.canvas import GROUND
from jaxvision.predict.colors import Color
from jaxvision.predict.draw import picture_grid

# People who cannot distinguish red from green see the difference: Okabe and Ito, "Color universal
# design".
SAME, OTHER = (0, 158, 115), (213, 94, 0)
"""The colours of the frames of neighbors of the query's class, and of another class."""

_SIDE, _FRAME = 128, 6  # of a picture and of the frame around it, pixels
_INSIDE = Inputs((_SIDE, _SIDE), resize="letterbox", fill=GROUND[0])


class Neighbor(NamedTuple):
    """One picture of a row.

    Attributes:
      image: u8[H, W, 3], of any size.
      caption: the line of text above it.
      same: whether it has the query's class; None: unknown.
    """

    image: np.ndarray
    caption: str
    same: bool | None = None


def draw_neighbors(rows: Sequence[Sequence[Neighbor]]) -> np.ndarray:
    """Draws rows of pictures of one size, with frames that show which neighbors have the class.

    Args:
      rows: at least one; each is a query and its neighbors, and all have the same length.
    Returns:
      u8[H, W, 3].
    Raises:
      AssertionError: an image has another shape or dtype.
      InputError: there are no rows, they are empty or have different lengths.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or not min(lengths):
        raise InputError(f"rows have {sorted(lengths)} pictures: give rows of the same length")
    cells = [cell for row in rows for cell in row]
    return picture_grid(
        [_framed(cell) for cell in cells],
        columns=len(rows[0]),
        captions=[cell.caption for cell in cells],
    )


def _framed(cell: Neighbor) -> np.ndarray:
    """Resizes a picture and draws its frame."""
    image = check_picture("image", cell.image)
    color: Color = GROUND if cell.same is None else SAME if cell.same else OTHER
    inside, _ = fit_image(image, _INSIDE)
    framed = np.empty((_SIDE + 2 * _FRAME, _SIDE + 2 * _FRAME, 3), np.uint8)
    framed[:] = color
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = inside
    return framed
