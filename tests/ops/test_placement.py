"""Where an original image lies in a network's input: boxes both ways, and masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.ops.placement import (
    PLACEMENTS,
    Placement,
    center_crop,
    letterbox,
    paste,
    place_mask,
    placed_size,
    stretch,
    to_input,
    to_original,
)


def test_letterbox_by_hand():
    placement = letterbox((20, 40), (30, 32))
    assert placement == Placement(0.8, 0.8, 0, 7)
    boxes = np.array([[0, 0, 40, 20], [10, 5, 20, 15.0]])
    np.testing.assert_allclose(to_input(boxes, placement), [[0, 7, 32, 23], [8, 11, 16, 19]])


def test_stretch_by_hand():
    assert stretch((20, 40), (30, 32)) == Placement(0.8, 1.5, 0, 0)


def test_center_crop_by_hand():
    assert center_crop((20, 40), (10, 8)) == Placement(0.5, 0.5, -6, 0)
    assert center_crop((40, 20), (10, 10), 12) == Placement(0.6, 0.6, -1, -7)
    # Of the longer side a part of a pixel is left out: 21 * 8 / 10 = 16.8.
    assert center_crop((21, 10), (6, 6), 8) == Placement(0.8, 16 / 21, -1, -5)


def test_an_image_of_the_right_size_stays_where_it_is():
    for find in PLACEMENTS.values():
        assert find((9, 12), (9, 12)) == Placement(1, 1, 0, 0) or find is center_crop
    assert center_crop((12, 12), (12, 12)) == Placement(1, 1, 0, 0)


sides = st.integers(1, 70)


@given(st.sampled_from(sorted(PLACEMENTS)), sides, sides, sides, sides)
@settings(max_examples=60, deadline=None)
def test_boxes_go_there_and_back_and_pixels_lie_in_their_box(method, height, width, rows, columns):
    placement = PLACEMENTS[method]((height, width), (rows, columns))
    size = placed_size((height, width), placement)
    result = np.zeros((rows, columns), bool)
    paste(np.ones(size, bool), result, placement)
    whole = to_input(np.array([[0.0, 0, width, height]]), placement)[0]
    # The image is just where its box is, as far as that is in the input.
    inside = np.clip(whole, 0, [columns, rows, columns, rows])
    ys, xs = np.nonzero(result)
    np.testing.assert_allclose(inside, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1e-9)
    if method == "crop":
        assert result.all()
    else:
        np.testing.assert_allclose(inside, whole, atol=1e-9)
    boxes = np.random.default_rng(0).uniform(0, 1, (5, 4)) * [width, height, width, height]
    np.testing.assert_allclose(to_original(to_input(boxes, placement), placement), boxes, atol=1e-9)


@pytest.mark.parametrize("offset", [(-2, -3), (-2, 1), (3, -1), (2, 2), (0, 0), (-9, 0), (0, 9)])
def test_paste_leaves_out_what_lies_beyond_the_border(offset):
    image = np.arange(1, 21).reshape(5, 4)
    result = np.zeros((6, 6), int)
    paste(image, result, Placement(1, 1, offset[1], offset[0]))
    for row in range(6):
        for column in range(6):
            y, x = row - offset[0], column - offset[1]
            inside = 0 <= y < 5 and 0 <= x < 4
            assert result[row, column] == (image[y, x] if inside else 0)


def test_a_mask_by_hand():
    mask = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 0, 0, 0, 1]], bool)
    # 2 x 6 becomes 1 x 3: of each two pixels the second, of the two rows the lower.
    placed = place_mask(mask, (3, 3), Placement(0.5, 0.5, 0, 1))
    np.testing.assert_array_equal(placed, np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]], bool))
    enlarged = place_mask(mask, (5, 12), Placement(2, 2, 0, 0))
    np.testing.assert_array_equal(enlarged[:4], mask.repeat(2, axis=0).repeat(2, axis=1))
    assert not enlarged[4].any()
    cut = place_mask(mask, (2, 2), Placement(1, 1, -4, 0))
    np.testing.assert_array_equal(cut, mask[:, 4:])


@pytest.mark.long
@given(st.sampled_from(sorted(PLACEMENTS)), sides, sides, sides, sides)
@settings(max_examples=60, deadline=None)
def test_masks_lie_where_their_image_does(method, height, width, rows, columns):
    """The pixel in which a centre lies, by the placement itself."""
    mask = np.random.default_rng(0).random((height, width)) < 0.5
    placement = PLACEMENTS[method]((height, width), (rows, columns))
    placed = place_mask(mask, (rows, columns), placement)
    assert placed.shape == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            centre = np.array([[column, row, column, row]]) + 0.5
            ((x, y, _, _),) = to_original(centre, placement)
            if min(abs(x - round(x)), abs(y - round(y))) > 1e-6:
                inside = 0 < x < width and 0 < y < height
                assert placed[row, column] == (inside and mask[int(y), int(x)])
