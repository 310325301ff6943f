"""Drawn keypoints and limbs: where they are, in which colours, and legible on any picture."""

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.data import COCO_SKELETON
from jaxvision.predict import DetectedObjects, Prediction, class_color, draw_prediction
from jaxvision.predict.colors import text_color
from tests.predict.test_draw import contrast, draw, is_color, plain
from tests.predict.test_landmarks import dots

FAR = [[0, 0, 3, 3]]  # a box that covers no keypoint
TRIANGLE = [[30, 30, 1], [70, 30, 1], [50, 70, 1]]


def skeleton(points, *, size=(90, 120), ground=128, boxes=FAR, **options):
    keypoints = np.array(points, float)
    keypoints = keypoints if keypoints.ndim == 3 else keypoints[None]
    boxes = boxes * len(keypoints) if boxes is FAR else boxes
    return draw(plain(*size, ground), boxes, names=[""] * 9, keypoints=keypoints, **options)


def bare(count=1, *, size=(90, 120), ground=128):
    return draw(plain(*size, ground), FAR * count, names=[""] * 9)


def test_dots_are_those_of_landmarks():
    points = [[30.5, 20.5, 1], [80.25, 60.75, 0.5]]
    expected = dots(bare(), np.array(points)[:, :2])
    np.testing.assert_array_equal(skeleton(points), expected)


def test_limbs_by_hand():
    """A line of 1 pixel with an outline of 1 on both sides, from dot to dot."""
    picture = skeleton(TRIANGLE, limbs=[(0, 1), (1, 2)])
    color, ink = class_color(0), text_color(class_color(0))
    assert (
        is_color(picture[30, 35:65], color).sum() + is_color(picture[29, 35:65], color).sum() == 30
    )
    for column in (40, 50, 60):
        drawn = (picture[20:40, column] != 128).any(axis=-1)
        assert drawn.sum() == 3
        assert is_color(picture[20:40, column], ink).sum() == 2
    middle = picture[48:52, 55:65].reshape(-1, 3)
    assert is_color(middle, class_color(1)).any()
    # No limb between the first and the last point.
    assert (picture[50, 35:45] == 128).all()


def test_without_limbs_there_are_dots_alone():
    picture = skeleton(TRIANGLE)
    np.testing.assert_array_equal(picture, skeleton(TRIANGLE, limbs=()))
    assert (picture[30, 40:60] == 128).all()


def test_seventeen_keypoints_have_cocos_limbs():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(5, 85, (17, 2)), np.ones((17, 1))], axis=1)
    picture = skeleton(points)
    np.testing.assert_array_equal(picture, skeleton(points, limbs=COCO_SKELETON.limbs))
    assert (picture != skeleton(points, limbs=())).any()


@pytest.mark.parametrize("hidden", [[30, 30, 0], [30, 30, -1], [np.nan, 30, 0], [-1, 30, 1]])
def test_hidden_points_and_points_outside_have_neither_dot_nor_limbs(hidden):
    picture = skeleton([hidden, *TRIANGLE[1:]], limbs=[(0, 1), (1, 2)])
    rest = skeleton([[119, 89, 0], *TRIANGLE[1:]], limbs=[(0, 1), (1, 2)])
    np.testing.assert_array_equal(picture, rest)
    assert (picture[25:35, 25:65] == 128).all()


def test_the_threshold_decides_what_is_drawn():
    points = [[30, 30, 2.0], [70, 30, 2.5], [50, 70, 3]]
    picture = skeleton(points, keypoint_threshold=2.0, limbs=[(0, 1), (1, 2)])
    np.testing.assert_array_equal(
        picture, skeleton([[30, 30, 0], *TRIANGLE[1:]], limbs=[(0, 1), (1, 2)])
    )


def test_the_first_lies_on_top():
    one = np.array(TRIANGLE, float)
    picture = skeleton([one, one + np.array([0, 1, 0])], limbs=[(0, 1)])
    alone = skeleton([one, np.zeros((3, 3))], limbs=[(0, 1)])
    assert is_color(picture[29:31, 50], class_color(0)).any()
    for x, y, _ in TRIANGLE:
        np.testing.assert_array_equal(picture[y, x - 1 : x + 1], alone[y, x - 1 : x + 1])


@pytest.mark.parametrize("ground", [0, 60, 120, 180, 255])
def test_limbs_stand_out_from_every_ground(ground):
    points = [[10 + 8 * k, y, 1] for k in range(19) for y in (5, 45)]
    limbs = [(2 * k, 2 * k + 1) for k in range(19)]
    picture = skeleton(points, size=(50, 170), ground=ground, limbs=limbs)
    for k in range(19):
        row = picture[25, 6 + 8 * k : 14 + 8 * k]
        color, outline = class_color(k), text_color(class_color(k))
        (place,) = np.flatnonzero(is_color(row, color))
        assert is_color(row[[place - 1, place + 1]], outline).all()
        best = max(contrast(color, 3 * [ground]), contrast(outline, 3 * [ground]))
        assert best >= np.sqrt(6.5)


def test_no_object_has_no_keypoints():
    picture = skeleton(np.zeros((0, 17, 3)), boxes=[])
    assert (picture == 128).all()


def test_predictions_are_drawn_with_their_keypoints():
    found = DetectedObjects(
        boxes=np.array(FAR, float),
        labels=np.array([0]),
        scores=np.array([0.5]),
        keypoints=np.array([TRIANGLE], float),
    )
    prediction = Prediction(source=0, image=plain(90, 120), result=found)
    picture = draw_prediction(prediction, "detection", [""])
    expected = draw(
        plain(90, 120), FAR, None, [0.5], names=[""], keypoints=np.array([TRIANGLE], float)
    )
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (AssertionError, {"keypoints": np.zeros((2, 3, 3))}, r"^keypoints is float64\[2, 3, 3\]"),
        (AssertionError, {"keypoints": np.zeros((1, 3, 2))}, r"^keypoints is float64\[1, 3, 2\]"),
        (
            InputError,
            {"keypoints": np.array([[[1, 2, 0], [np.nan, 3, 1]]])},
            r"^keypoints\[0, 1\] is \[nan, 3.0, 1.0\], not finite: set its third value to 0$",
        ),
        (
            InputError,
            {"keypoints": np.zeros((1, 3, 3)), "limbs": [(0, 1), (2, 3)]},
            r"^limbs\[1\] is \(2, 3\): give the indices of two of 3 keypoints$",
        ),
        (InputError, {"keypoints": np.zeros((1, 3, 3)), "limbs": [(0, 1, 2)]}, r"^limbs\[0\]"),
        (InputError, {"keypoints": np.zeros((1, 3, 3)), "limbs": [(-1, 1)]}, r"^limbs\[0\]"),
    ],
)
def test_what_cannot_be_drawn_is_named(error, options, message):
    with pytest.raises(error, match=message):
        draw(plain(20, 30), FAR, **options)
