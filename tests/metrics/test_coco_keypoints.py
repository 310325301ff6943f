"""COCO's average precision of keypoints: by hand, against loops, and against pycocotools."""

import dataclasses
import math

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.metrics import COCO_KEYPOINT_SIGMAS, coco_average_precision
from tests.metrics.detection_cases import (
    detection_table,
    hard_keypoint_tables,
    object_table,
    permuted,
    pycocotools_results,
)
from tests.reference import metrics_detection as reference

# pycocotools divides by the number seen + 2.2e-16.
ROUNDING = {"rtol": 0, "atol": 1e-15}
NUMBERS = [
    *("AP", "AP50", "AP75", "AP_medium", "AP_large"),
    *("AR", "AR50", "AR75", "AR_medium", "AR_large"),
]
BOX = [0, 0, 100, 100]


def with_keypoints(table, keypoints):
    return dataclasses.replace(table, keypoints=np.array(keypoints, float))


def average_precision(detections, objects, num_classes, **options):
    return coco_average_precision(
        detections, objects, num_classes=num_classes, iou_type="keypoints", **options
    )


def assert_equals_pycocotools(tables, **options):
    *tables, num_classes = tables
    result = average_precision(*tables, num_classes, **options)
    precision, recall, stats = pycocotools_results(
        *tables, num_classes=num_classes, iou_type="keypoints", **options
    )
    np.testing.assert_allclose(result.precision, precision, **ROUNDING)
    np.testing.assert_array_equal(result.recall, recall)
    assert list(result.stats) == NUMBERS
    np.testing.assert_allclose(list(result.stats.values()), stats, **ROUNDING)
    return result


def check_many(seeds, first=0, **options):
    hits = 0
    for seed in range(first, first + seeds):
        result = assert_equals_pycocotools(
            hard_keypoint_tables(np.random.default_rng([3, seed]), **options)
        )
        hits += np.nanmax(result.recall, initial=0) > 0
    assert hits > seeds / 3


def test_whole_tensors_equal_pycocotools():
    check_many(20)


@pytest.mark.slow
def test_a_thousand_whole_tensors_equal_pycocotools():
    check_many(990, first=1000)
    check_many(10, first=5000, most=500)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_any_number_of_keypoints_equals_pycocotools(count):
    for seed in range(5):
        rng = np.random.default_rng([4, seed])
        sigmas = rng.uniform(0.02, 0.2, count)
        assert_equals_pycocotools(hard_keypoint_tables(rng, count=count), sigmas=sigmas.tolist())


@pytest.mark.parametrize("seed", range(4))
def test_keypoints_equal_the_loops(seed):
    rng = np.random.default_rng([5, seed])
    *tables, num_classes = hard_keypoint_tables(rng, count=5, most=20)
    sigmas = rng.uniform(0.02, 0.3, 5).tolist()
    result = average_precision(*tables, num_classes, sigmas=sigmas)
    precision, recall = reference.coco_keypoint_average_precision(
        *tables, num_classes=num_classes, sigmas=sigmas
    )
    np.testing.assert_allclose(result.precision, precision, **ROUNDING)
    np.testing.assert_array_equal(result.recall, recall)


def test_an_example_by_hand():
    """Of three labelled keypoints, one is exact, and two have a distance of 2 s sigma_k each.

    exp(-1/2) = 0.607, so that OKS is (1 + 2 exp(-1/2)) / 3 = 0.738: above five thresholds of ten.
    """
    sigmas = (0.05, 0.05, 0.1, 0.1)
    objects = object_table([(1, BOX, 0)], area=[50**2])
    objects = with_keypoints(objects, [[[10, 10, 2], [20, 10, 1], [30, 40, 2], [0, 0, 0]]])
    points = [[10, 10, 9], [20, 10 + 2 * 50 * 0.05, 9], [30 - 2 * 50 * 0.1, 40, 9], [77, 77, 9]]
    detections = with_keypoints(detection_table([(1, [0, 0, 0, 0], 0.5, 0)]), [points])
    result = average_precision(detections, objects, 1, sigmas=sigmas)
    assert 0.70 < (1 + 2 * math.exp(-1 / 2)) / 3 < 0.75
    np.testing.assert_array_equal(result.recall[:, 0, 0, 0], 5 * [1] + 5 * [0])
    assert result.stats["AP"] == result.stats["AR"] == result.stats["AP_medium"] == 0.5
    assert result.stats["AR50"] == 1
    assert result.stats["AP75"] == result.stats["AR75"] == 0
    assert np.isnan(result.stats["AP_large"])
    np.testing.assert_array_equal(result.class_ap50, [1])


def test_objects_without_labelled_keypoints_take_one_detection_and_do_not_count():
    """The second detection is a false positive, but for a crowd, which takes both."""
    keypoints = np.zeros((2, 17, 3))
    keypoints[0] = [300, 300, 2]
    found = [(1, BOX, 0.9, 0), (1, BOX, 0.8, 0), (1, BOX, 0.7, 0)]
    near = np.zeros((3, 17, 3))
    near[2] = [300, 300, 0]
    detections = with_keypoints(detection_table(found), near)
    rows = [(1, [300, 300, 400, 400], 0), (1, [10, 10, 90, 90], 0)]
    for crowd, precision in ((), 1 / 2), ((1,), 1):
        objects = with_keypoints(object_table(rows, crowd=crowd), keypoints)
        result = assert_equals_pycocotools((detections, objects, 1))
        np.testing.assert_allclose(result.stats["AP"], precision, rtol=1e-12)
        assert result.stats["AR"] == 1


def test_twenty_detections_of_an_image_count():
    keypoints = np.zeros((21, 17, 3))
    keypoints[:, :, 2] = 2
    objects = with_keypoints(object_table([(1, BOX, 0)]), keypoints[:1])
    far = keypoints + np.array([500, 500, 0])
    for before, recall in ((19, 1), (20, 0)):
        found = detection_table([(1, BOX, 0.5, 0)] * before + [(1, BOX, 0.4, 0)])
        points = np.concatenate([far[:before], keypoints[:1]])
        result = assert_equals_pycocotools((with_keypoints(found, points), objects, 1))
        assert result.stats["AR"] == recall


def test_the_order_of_the_images_changes_nothing():
    for seed in range(4):
        rng = np.random.default_rng([6, seed])
        *tables, num_classes = hard_keypoint_tables(rng)
        result = average_precision(*tables, num_classes)
        other = average_precision(*permuted(*tables, rng), num_classes)
        np.testing.assert_array_equal(result.precision, other.precision)
        np.testing.assert_array_equal(result.recall, other.recall)


def test_errors_name_the_thing():
    objects, found = object_table([(1, BOX, 0)]), detection_table([(1, BOX, 0.5, 0)])
    with pytest.raises(InputError, match="detections have no keypoints: add keypoints, or choose"):
        average_precision(found, objects, 1)
    found = with_keypoints(found, np.zeros((1, 17, 3)))
    with pytest.raises(InputError, match="objects have no keypoints"):
        average_precision(found, objects, 1)
    four = with_keypoints(objects, np.zeros((1, 4, 3)))
    with pytest.raises(InputError, match="sigmas has 17 elements, but objects have 4 keypoints"):
        average_precision(found, four, 1)
    with pytest.raises(InputError, match="sigmas has 4 elements, but detections have 17 keypoints"):
        average_precision(found, four, 1, sigmas=[0.1] * 4)
    objects = with_keypoints(objects, np.zeros((1, 17, 3)))
    with pytest.raises(InputError, match="an element of sigmas is 0"):
        average_precision(found, objects, 1, sigmas=[*COCO_KEYPOINT_SIGMAS[1:], 0])
