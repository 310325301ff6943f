"""Which boxes pass, which are named, and what rounding may be cut off."""

import math

import numpy as np
import pytest

from jaxvision.data.sources.boxes import box_problems, box_windows, clip_boxes

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
        ((5, 0, 4, 4), "has its corners in the wrong order (x2 < x1 or y2 < y1)"),
        ((0, 5, 4, 4), "has its corners in the wrong order (x2 < x1 or y2 < y1)"),
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


@pytest.mark.parametrize(
    ("box", "options", "window"),
    [
        ((3, 4, 10, 9), {}, (3, 4, 10, 9)),
        ((0, 0, 40, 20), {"margin": 1.0, "square": True}, (0, 0, 40, 20)),
        ((2.9999, 4.0001, 9.9999, 9.0001), {}, (3, 4, 10, 9)),
        ((3.5, 4.5, 4.4, 5.5), {}, (4, 5, 5, 6)),
        ((39.7, 19.7, 40, 20), {}, (39, 19, 40, 20)),  # less than a pixel
        ((39.5, 3, 40.5, 4), {}, (39, 3, 40, 4)),  # rounded beyond the image
        ((-0.5, -0.5, 40.5, 20.5), {}, (0, 0, 40, 20)),
        ((10, 5, 20, 10), {"margin": 0.2}, (8, 3, 22, 12)),
        ((1, 5, 11, 10), {"margin": 0.2}, (0, 3, 13, 12)),  # cut off
        ((10, 5, 20, 10), {"square": True}, (10, 3, 20, 13)),
        ((10, 5, 14, 15), {"square": True, "margin": 0.1}, (6, 4, 18, 16)),
        ((0, 5, 2, 15), {"square": True}, (0, 5, 10, 15)),  # moved
        ((38, 5, 40, 15), {"square": True}, (30, 5, 40, 15)),
        ((20, 18, 30, 20), {"square": True}, (20, 10, 30, 20)),
        ((5, 5, 35, 15), {"square": True}, (5, 0, 35, 20)),  # larger than the image
    ],
)
def test_the_window_of_a_box(box, options, window):
    windows = box_windows(np.array([box], float), SIZE, **options)
    assert windows.tolist() == [list(window)]
    assert windows.dtype == np.int64


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_windows_are_in_the_image_and_as_slow_loops_have_them(margin, square):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.5, [40.5, 20.5], (500, 2, 2))
    corners[::2] = corners[::2].round(1)  # edges between two pixels too
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    windows = box_windows(boxes, SIZE, margin=margin, square=square)
    for box, window in zip(boxes.tolist(), windows.tolist(), strict=True):
        sides = [box[2] - box[0], box[3] - box[1]]
        longer = max(sides)
        for axis, length in enumerate(reversed(SIZE)):
            around = margin * longer + (longer - sides[axis]) / 2 * square
            first = math.floor(box[axis] - around + 0.5)
            count = math.floor(sides[axis] + 2 * around + 0.5)
            pixels = set(range(first, first + count))
            while square and pixels and min(pixels) < 0 and count <= length:
                pixels = {pixel + 1 for pixel in pixels}
            while square and pixels and max(pixels) >= length and count <= length:
                pixels = {pixel - 1 for pixel in pixels}
            if square and count > length:
                pixels = set(range(length))
            got = set(range(window[axis], window[axis + 2]))
            assert got <= set(range(length))
            assert len(got) >= 1
            assert got == pixels & set(range(length)) or len(got) == 1


def test_no_boxes_have_no_windows():
    assert box_windows(np.zeros((0, 4)), SIZE, square=True).shape == (0, 4)
