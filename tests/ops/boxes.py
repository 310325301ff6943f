"""Boxes for the tests of operators on boxes."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

# Each stands for one way of being hard; no two overlap by less than rounding.
HARD = np.float32(
    [
        [0, 0, 2, 3],
        [0, 0, 2, 3],  # the same
        [1, 1, 4, 4],  # overlapping
        [2, 0, 5, 3],  # touching along a side
        [0.5, 0.5, 1, 1],  # within
        [-7, -9, -3, -5],  # left of the origin
        [5, 5, 1, 9],  # inverted in x
        [1, 9, 5, 5],  # inverted in y
        [3, 3, 1, 1],  # inverted in both: no area, though the product of the sides is positive
        [1, 1, 1, 4],  # a line
        [2, 2, 2, 2],  # a point
        [0, 0, 0, 0],  # padding
        [-1e6, -1e6, 1e6, 1e6],
        [999_999, 999_999, 1e6, 1e6],
        [0, 0, 1e-3, 1e-3],
        [0, 0, 1e6, 1e-6],  # aspect ratio 1e12
    ]
)


def random_boxes(rng, count, *, size=100.0, dtype=np.float32):
    """Boxes with an area."""
    corner = rng.uniform(0, size, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, size / 2, (count, 2))], 1).astype(dtype)


def any_boxes(count, magnitude=1e6):
    """A strategy: f32[count, 4] of any coordinates, inverted and empty boxes among them."""
    coordinates = st.one_of(
        st.floats(-magnitude, magnitude, width=32, allow_subnormal=False),
        st.integers(-4, 4).map(float),
    )
    return arrays(np.float32, (count, 4), elements=coordinates)
