"""Drawn neighbors: rows of pictures of one size, with frames in the colours of their classes."""

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.predict import Neighbor, draw_neighbors
from jaxvision.predict.neighbors import OTHER, SAME


def test_rows_of_neighbors():
    white = np.full((20, 10, 3), 255, np.uint8)
    row = [Neighbor(white, "query"), Neighbor(white, "a", True), Neighbor(white, "b", False)]
    sheet = draw_neighbors([row, row])
    colors = [(sheet == np.uint8(color)).all(axis=-1).any(axis=0) for color in (SAME, OTHER)]
    same, other = (np.flatnonzero(columns) for columns in colors)
    assert 130 < same[0] < same[-1] < other[0]
    assert same[-1] - same[0] == other[-1] - other[0]
    for rows in ([], [[]], [row, row[:2]]):
        with pytest.raises(InputError, match="give rows of the same length"):
            draw_neighbors(rows)
