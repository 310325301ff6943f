"""Drawn predictions: of every kind, what its drawing function draws."""

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.ops import MaskTable, encode_mask
from jaxvision.predict import (
    DRAW,
    DetectedObjects,
    Prediction,
    draw_class_tags,
    draw_classification,
    draw_detections,
    draw_labels,
    draw_landmarks,
    draw_prediction,
    picture_grid,
)
from jaxvision.predict.restorer import enlarge, to_bytes

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
NAMES = ("cat", "dog")


def drawn(kind, result, names=NAMES):
    return draw_prediction(Prediction("a.png", IMAGE, result), kind, names)


def test_a_class_is_written_above_the_image():
    result = {"index": 1, "label": "dog", "probabilities": np.float32([0.125, 0.875])}

    def captioned(caption):
        return picture_grid([IMAGE], columns=1, captions=[caption])

    np.testing.assert_array_equal(drawn("classification", result), captioned("dog 0.88"))
    np.testing.assert_array_equal(drawn("classification", result, ()), captioned("dog 0.88"))
    nameless = {**result, "label": None}
    np.testing.assert_array_equal(drawn("classification", nameless, ()), captioned("class 1 0.88"))


def test_several_classes_are_written_in_lines_or_over_the_image():
    result = {"index": 1, "label": "dog", "probabilities": np.float32([0.125, 0.875])}
    one, two, more = (
        draw_classification(Prediction("a.png", IMAGE, result), NAMES, top_k=k) for k in (1, 2, 9)
    )
    assert two.shape[0] > one.shape[0]
    np.testing.assert_array_equal(two, more)
    height = IMAGE.shape[0]
    gap = (two.shape[1] - IMAGE.shape[1]) // 2
    np.testing.assert_array_equal(two[-gap - height : -gap, gap : gap + IMAGE.shape[1]], IMAGE)
    over = draw_class_tags(IMAGE, [(1, "dog 0.88"), (0, "cat 0.12")])
    assert over.shape == IMAGE.shape
    np.testing.assert_array_equal(over[35:], IMAGE[35:])
    assert (over[:25, :20] != IMAGE[:25, :20]).mean() > 0.8


@pytest.mark.parametrize("masked", [False, True])
def test_objects(masked):
    boxes, labels, scores = np.array([[5.0, 10, 30, 35]]), np.array([1]), np.array([0.5])
    masks = np.zeros((1, 40, 60), bool)
    masks[0, 15:20, 10:20] = True
    masks = masks if masked else None
    table = MaskTable.of([encode_mask(masks[0])]) if masked else None
    found = drawn("detection", DetectedObjects(boxes, labels, scores, table))
    expected = draw_detections(IMAGE, boxes, labels, scores, NAMES, masks=masks)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("names", [NAMES, ()])
def test_landmarks(names):
    points = np.array([[5.0, 10], [30, 35]])
    found = drawn("landmarks", {"points": points, "scores": np.array([0.5, 0.1])}, names)
    expected = draw_landmarks(IMAGE, points, np.ones(2, bool), names=names or None)
    np.testing.assert_array_equal(found, expected)


def test_regions():
    labels = np.zeros((40, 60), np.int32)
    labels[:, 30:] = 1
    labels[:5] = 255
    np.testing.assert_array_equal(drawn("segmentation", labels), draw_labels(IMAGE, labels, NAMES))


@pytest.mark.parametrize("factor", [1, 2])
def test_a_restored_image_is_beside_the_given_one(factor):
    restored = np.zeros((40 * factor, 60 * factor, 3), np.uint8)
    before = IMAGE if factor == 1 else to_bytes(enlarge(IMAGE, factor))
    captions = ["given" if factor == 1 else "bicubic", "restored"]
    expected = picture_grid([before, restored], columns=2, captions=captions)
    np.testing.assert_array_equal(drawn("restoration", restored), expected)


def test_all_kinds_and_no_others():
    assert set(DRAW) == {"classification", "detection", "landmarks", "restoration", "segmentation"}
    with pytest.raises(InputError, match=r"unknown kind of prediction 'detecton'.*'detection'"):
        drawn("detecton", None)
