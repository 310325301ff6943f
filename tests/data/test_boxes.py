"""Which boxes pass, which are named, and what rounding may be cut off."""

import math

import numpy as np
import pytest

from jaxvision.data.boxes import box_problems, clip_boxes

SIZE = (20, 40)  # height, width


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((0, 0, 40, 20), (0, 0, 40, 20)),
        ((1.5, 2, 3, 4.25), (1.5, 2, 3, 4.25)),
        ((-0.5, -0.5, 40.5, 20.5), (0, 0, 40, 20)),
        ((39.9, 3, 40.01, 4), (39.9, 3, 40, 4)),
        ((3, -0.01, 4, 0.01), (3, 0, 4, 0.01)),
    ],
)
def test_half_a_pixel_beyond_the_image_is_cut_off(box, inside):
    boxes = np.array([box], float)
    assert list(box_problems(boxes, SIZE)) == []
    np.testing.assert_array_equal(clip_boxes(boxes, SIZE), [inside])


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((-0.51, 0, 4, 4), "reaches beyond the image of 40 x 20"),
        ((0, -0.51, 4, 4), "reaches beyond the image of 40 x 20"),
        ((0, 0, 40.51, 4), "reaches beyond the image of 40 x 20"),
        ((0, 0, 4, 20.51), "reaches beyond the image of 40 x 20"),
        ((50, 0, 60, 4), "reaches beyond the image of 40 x 20"),
        ((0, 0, 20, 40), "reaches beyond the image of 40 x 20"),
        ((5, 0, 4, 4), "is turned inside out (x2 < x1 or y2 < y1)"),
        ((0, 5, 4, 4), "is turned inside out (x2 < x1 or y2 < y1)"),
        ((4, 0, 4, 4), "has no area"),
        ((0, 4, 4, 4), "has no area"),
        ((-0.4, 0, 0, 4), "has no area in the image"),
        ((3, 20, 4, 20.4), "has no area in the image"),
        ((math.nan, 0, 4, 4), "is not finite"),
        ((0, 0, 4, math.inf), "is not finite"),
    ],
)
def test_what_is_wrong_with_a_box(box, reason):
    boxes = np.array([(0, 0, 1, 1), box], float)
    shown = ", ".join(f"{x:g}" for x in box)
    assert list(box_problems(boxes, SIZE)) == [f"box 2 ({shown}) {reason}"]


def test_every_bad_box_is_named_and_none_is_none():
    boxes = np.array([(0, 0, 0, 1), (0, 0, 1, 1), (2, 0, 1, 1)], float)
    assert [problem[:5] for problem in box_problems(boxes, SIZE)] == ["box 1", "box 3"]
    assert list(box_problems(np.zeros((0, 4)), SIZE)) == []
    assert clip_boxes(np.zeros((0, 4)), SIZE).shape == (0, 4)
