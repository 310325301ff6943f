"""Images in the network's size: where they lie, and boxes both ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.core import InputError
from jaxvision.ops.placement import (
    PLACEMENTS,
    Placement,
    place,
    place_mask,
    to_input,
    to_original,
)


def test_letterbox_by_hand():
    image = np.full((20, 40, 3), 200, np.uint8)
    placed, placement = place(image, (30, 32), method="letterbox", fill=7)
    assert placement == Placement(0.8, 0.8, 0, 7)
    assert (placed[7:23] == 200).all()
    assert (placed[:7] == 7).all()
    assert (placed[23:] == 7).all()
    boxes = np.array([[0, 0, 40, 20], [10, 5, 20, 15.0]])
    np.testing.assert_allclose(to_input(boxes, placement), [[0, 7, 32, 23], [8, 11, 16, 19]])


def test_stretch_by_hand():
    image = np.full((20, 40, 3), 200, np.uint8)
    placed, placement = place(image, (30, 32), method="stretch")
    assert placement == Placement(0.8, 1.5, 0, 0)
    assert (placed == 200).all()
    assert placed.shape == (30, 32, 3)


def test_an_image_of_the_right_size_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    for method in PLACEMENTS:
        placed, placement = place(image, (9, 12), method=method)
        np.testing.assert_array_equal(placed, image)
        assert placement == Placement(1, 1, 0, 0)


sides = st.integers(1, 70)


@given(st.sampled_from(sorted(PLACEMENTS)), sides, sides, sides, sides)
@settings(max_examples=150, deadline=None)
def test_boxes_go_there_and_back_and_stay_inside(method, height, width, rows, columns):
    image = np.full((height, width, 3), 255, np.uint8)
    placed, placement = place(image, (rows, columns), method=method, fill=0)
    assert placed.shape == (rows, columns, 3)
    whole = to_input(np.array([[0.0, 0, width, height]]), placement)[0]
    # The image is just where its box is.
    ys, xs = np.nonzero(placed[:, :, 0] > 0)
    np.testing.assert_allclose(whole, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1e-9)
    boxes = np.random.default_rng(0).uniform(0, 1, (5, 4)) * [width, height, width, height]
    np.testing.assert_allclose(to_original(to_input(boxes, placement), placement), boxes, atol=1e-9)


def test_a_painted_box_is_found_where_it_should_be():
    image = np.zeros((60, 100, 3), np.uint8)
    image[20:40, 30:80] = 255
    placed, placement = place(image, (96, 96), method="letterbox", fill=0)
    x1, y1, x2, y2 = to_input(np.array([[30.0, 20, 80, 40]]), placement)[0]
    ys, xs = np.nonzero(placed[:, :, 0] >= 128)
    np.testing.assert_allclose(
        [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], [x1, y1, x2, y2], atol=0.5
    )


def test_a_mask_by_hand():
    mask = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 0, 0, 0, 1]], bool)
    # 2 x 6 becomes 1 x 3: of each two pixels the second, of the two rows the lower.
    placed = place_mask(mask, (3, 3), Placement(0.5, 0.5, 0, 1))
    np.testing.assert_array_equal(placed, np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]], bool))
    enlarged = place_mask(mask, (5, 12), Placement(2, 2, 0, 0))
    np.testing.assert_array_equal(enlarged[:4], mask.repeat(2, axis=0).repeat(2, axis=1))
    assert not enlarged[4].any()


@pytest.mark.slow
@given(st.sampled_from(sorted(PLACEMENTS)), sides, sides, sides, sides)
@settings(max_examples=150, deadline=None)
def test_masks_lie_where_their_image_does(method, height, width, rows, columns):
    """The pixel in which a centre lies, by the placement itself."""
    mask = np.random.default_rng(0).random((height, width)) < 0.5
    image = np.zeros((height, width, 3), np.uint8)
    _, placement = place(image, (rows, columns), method=method)
    placed = place_mask(mask, (rows, columns), placement)
    assert placed.shape == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            centre = np.array([[column, row, column, row]]) + 0.5
            ((x, y, _, _),) = to_original(centre, placement)
            if min(abs(x - round(x)), abs(y - round(y))) > 1e-6:
                inside = 0 < x < width and 0 < y < height
                assert placed[row, column] == (inside and mask[int(y), int(x)])


def test_a_painted_mask_is_its_image():
    y, x = np.mgrid[:60, :100]
    mask = (x - 50) ** 2 / 900 + (y - 25) ** 2 / 200 < 1
    image = np.repeat(np.uint8(255) * mask[:, :, None], 3, axis=2)
    # In an enlarged image a corner's pixel may have a quarter of the colour, or lack one; more in
    # one that is shrunk, which is antialiased.
    for target, share in (((200, 150), 0.25), ((96, 96), 0.05)):
        placed, placement = place(image, target, method="letterbox", fill=0)
        moved = place_mask(mask, target, placement)
        inside, outside = placed[:, :, 0] > 256 * (1 - share), placed[:, :, 0] < 254 * share
        assert inside.sum() > 1000
        assert moved[inside].all()
        assert not moved[outside].any()


def test_an_unknown_way_is_refused():
    with pytest.raises(InputError, match=r"unknown config.data.resize 'leterbox'.*'letterbox'"):
        place(np.zeros((2, 2, 3), np.uint8), (4, 4), method="leterbox")
