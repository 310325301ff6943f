"""PASCAL VOC's average precision: by hand, and against loops."""

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.metrics import voc_average_precision
from tests.metrics.detection_cases import detection_table, hard_tables, object_table, permuted
from tests.reference import metrics_detection as reference

BOX, FAR = [0, 0, 10, 10], [50, 50, 60, 60]


def test_an_example_by_hand():
    objects = object_table([(1, BOX, 0), (2, BOX, 0), (2, FAR, 0), (1, FAR, 0)], difficult=[3])
    detections = detection_table(
        [
            (1, BOX, 0.9, 0),  # found
            (1, [0, 0, 10, 9], 0.8, 0),  # found twice
            (1, FAR, 0.7, 0),  # difficult: does not count
            (2, [0, 0, 10, 5], 0.6, 0),  # IoU 0.5: found
            (2, [50, 50, 60, 54], 0.5, 0),  # IoU 0.4: wrong
        ]
    )
    result = voc_average_precision(detections, objects, num_classes=2)
    np.testing.assert_allclose(result.recall[0], [1 / 3, 1 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(result.precision[0], [1, 1 / 2, 2 / 3, 2 / 4])
    np.testing.assert_allclose(result.class_ap, [1 / 3 * 1 + 1 / 3 * 2 / 3, np.nan])
    assert result.mean_ap == result.class_ap[0]
    points = voc_average_precision(detections, objects, num_classes=2, method="11point")
    # Recall 0, 0.1, 0.2, 0.3 at precision 1; 0.4, 0.5, 0.6 at 2/3; nothing from 0.7 on.
    np.testing.assert_allclose(points.class_ap[0], (4 * 1 + 3 * 2 / 3) / 11)


def test_boxes_may_include_their_last_pixel():
    """Then [0, 0, 9, 9] has 10 x 10 pixels and shares 5 x 10 with [0, 5, 9, 9], an IoU of 1/2
    instead of 4/9; and boxes of 4 x 4 that meet in one pixel share it."""
    cases = [([0, 0, 9, 9], [0, 5, 9, 9], 0.5), ([0, 0, 3, 3], [3, 3, 6, 6], 1 / 31)]
    for one, other, iou in cases:
        tables = detection_table([(1, one, 0.9, 0)]), object_table([(1, other, 0)])
        for threshold, inclusive, expected in (
            (iou, True, 1),
            (iou + 1e-9, True, 0),
            (iou, False, 0),
        ):
            result = voc_average_precision(
                *tables, num_classes=1, iou_threshold=threshold, inclusive=inclusive
            )
            assert result.mean_ap == expected


@pytest.mark.parametrize("found", range(11))
def test_a_recall_of_tenths_reaches_its_point(found):
    objects = object_table([(image, BOX, 0) for image in range(10)])
    detections = detection_table([(image, BOX, 0.9, 0) for image in range(found)])
    result = voc_average_precision(detections, objects, num_classes=1, method="11point")
    np.testing.assert_allclose(result.class_ap, (found + 1) / 11 if found else 0, rtol=1e-15)


@pytest.mark.parametrize("method", ["area", "11point"])
@pytest.mark.parametrize("iou_threshold", [0.5, 0.2, 1.0])
def test_hard_cases_equal_the_loops(method, iou_threshold):
    options = {"iou_threshold": iou_threshold, "method": method}
    above = 0
    for seed in range(60):
        detections, objects, num_classes = hard_tables(np.random.default_rng([3, seed]))
        result = voc_average_precision(detections, objects, num_classes=num_classes, **options)
        expected = reference.voc_average_precision(
            detections, objects, num_classes=num_classes, **options
        )
        np.testing.assert_allclose(result.class_ap, expected, rtol=1e-13)
        above += np.nanmax(expected, initial=0) > 0
    assert above > 30


@pytest.mark.parametrize("method", ["area", "11point"])
def test_detections_equal_to_the_objects_give_one(method):
    rows = [(i, [x, i, x + 7, i + 9], label) for i in (4, 2) for x in (0, 30) for label in (0, 2)]
    found = detection_table([(image, box, 0.5, label) for image, box, label in rows])
    result = voc_average_precision(found, object_table(rows), num_classes=3, method=method)
    np.testing.assert_allclose(result.class_ap, [1, np.nan, 1], rtol=1e-15)
    assert result.mean_ap == pytest.approx(1)


def test_the_order_of_the_images_changes_nothing():
    for seed in range(30):
        rng = np.random.default_rng([4, seed])
        *tables, num_classes = hard_tables(rng)
        before = voc_average_precision(*tables, num_classes=num_classes)
        after = voc_average_precision(*permuted(*tables, rng), num_classes=num_classes)
        np.testing.assert_array_equal(after.class_ap, before.class_ap)
        for label in range(num_classes):
            np.testing.assert_array_equal(after.recall[label], before.recall[label])
            np.testing.assert_array_equal(after.precision[label], before.precision[label])


def test_of_equal_ious_the_first_object_is_claimed():
    # The first object is difficult, so that the claim shows.
    objects = object_table([(1, [0, 0, 8, 10], 0), (1, [2, 0, 10, 10], 0)], difficult=[0])
    result = voc_average_precision(detection_table([(1, BOX, 0.9, 0)]), objects, num_classes=1)
    assert result.recall[0].size == 0
    np.testing.assert_array_equal(result.class_ap, [0])


def test_a_claimed_object_is_not_passed_over():
    # The second detection prefers the object that is taken, and so is wrong, as in the devkit.
    objects = object_table([(1, BOX, 0), (1, [0, 0, 10, 8], 0)])
    detections = detection_table([(1, BOX, 0.9, 0), (1, [0, 0, 10, 9.5], 0.8, 0)])
    result = voc_average_precision(detections, objects, num_classes=1)
    np.testing.assert_array_equal(result.precision[0], [1, 0.5])


def test_crowd_plays_no_part():
    objects = object_table([(1, BOX, 0)], crowd=[0])
    result = voc_average_precision(detection_table([(1, BOX, 1, 0)]), objects, num_classes=1)
    assert result.mean_ap == 1


def test_without_objects_there_is_no_mean():
    found = detection_table([(1, BOX, 0.9, 0), (1, FAR, 0.8, 1)])
    only_difficult = object_table([(1, BOX, 0)], difficult=[0])
    for objects in (object_table([]), only_difficult):
        result = voc_average_precision(found, objects, num_classes=2)
        assert np.isnan(result.class_ap).all()
        assert np.isnan(result.mean_ap)
        np.testing.assert_array_equal(result.recall[1], [np.nan])
        np.testing.assert_array_equal(result.precision[1], [0])


def test_errors_name_the_thing():
    found, truth = detection_table([(7, BOX, 0.9, 2)]), object_table([(7, BOX, 0)])
    with pytest.raises(
        InputError, match=r"labels of detections, row 0 .image 7. is 2: there are 2"
    ):
        voc_average_precision(found, truth, num_classes=2)
    with pytest.raises(InputError, match="method is 'mean': choose one of area, 11point"):
        voc_average_precision(found, truth, num_classes=3, method="mean")
    for threshold in (0, 1.1, float("nan")):
        with pytest.raises(InputError, match="iou_threshold is"):
            voc_average_precision(found, truth, num_classes=3, iou_threshold=threshold)
