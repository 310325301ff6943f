"""COCO's average precision: by hand, against loops, and whole tensors against pycocotools."""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.metrics import coco_average_precision, detection_groups
from jaxvision.metrics.coco import AREAS, IOU_THRESHOLDS, RECALL_THRESHOLDS
from jaxvision.ops import encode_mask
from tests.metrics.detection_cases import (
    detection_table,
    hard_tables,
    object_table,
    permuted,
    pycocotools_results,
)
from tests.reference import metrics_detection as reference

BOX, FAR = [0, 0, 10, 10], [50, 50, 60, 60]
# pycocotools divides by the number seen + 2.2e-16.
ROUNDING = {"rtol": 0, "atol": 1e-15}


def assert_same(result, other):
    np.testing.assert_array_equal(result.precision, other.precision)
    np.testing.assert_array_equal(result.recall, other.recall)


def assert_equals_pycocotools(detections, objects, num_classes, iou_type):
    result = coco_average_precision(detections, objects, num_classes=num_classes, iou_type=iou_type)
    precision, recall, stats = pycocotools_results(
        detections, objects, num_classes=num_classes, iou_type=iou_type
    )
    np.testing.assert_allclose(result.precision, precision, **ROUNDING)
    np.testing.assert_array_equal(result.recall, recall)
    np.testing.assert_allclose(list(result.stats.values()), stats, **ROUNDING)
    return result


def test_an_example_by_hand():
    # IoUs: 1 with the first object, 0.6 with the second, nothing, and one object is not found.
    objects = object_table([(1, BOX, 0), (1, FAR, 0), (2, BOX, 0), (2, FAR, 0)])
    detections = detection_table(
        [
            (1, [50, 50, 60, 56], 0.8, 0),
            (1, BOX, 0.9, 0),
            (2, [20, 0, 30, 10], 0.7, 0),
            (2, BOX, 0.6, 0),
        ]
    )
    result = coco_average_precision(detections, objects, num_classes=1)
    # At 0.5 to 0.6: hit, hit, miss, hit of 4 objects; above: hit, miss, miss, hit.
    low = [1.0] * 51 + [3 / 4] * 25 + [0.0] * 25
    high = [1.0] * 26 + [2 / 4] * 25 + [0.0] * 50
    expected = np.array([low] * 3 + [high] * 7)
    np.testing.assert_allclose(result.precision[:, :, 0, 0, 2], expected, rtol=1e-15)
    np.testing.assert_array_equal(result.recall[:, 0, 0, 2], [0.75] * 3 + [0.5] * 7)
    # One detection an image: the best of each; both hit below 0.65 as above.
    np.testing.assert_array_equal(result.recall[:, 0, 0, 0], [0.25] * 10)
    assert result.stats["AP50"] == pytest.approx(np.mean(low))
    assert result.stats["AR100"] == pytest.approx((0.75 * 3 + 0.5 * 7) / 10)
    assert np.isnan(result.stats["AP_large"])
    recall, precision = result.curve(0, iou_threshold=0.6)
    np.testing.assert_array_equal(recall, np.linspace(0, 1, 101))
    np.testing.assert_allclose(precision, low, rtol=1e-15)


def test_the_numbers_are_in_cocos_order():
    result = coco_average_precision(detection_table([]), object_table([]), num_classes=1)
    assert list(result.stats) == [
        *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
        *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
    ]


@pytest.mark.parametrize("seed", range(6))
def test_boxes_equal_the_loops(seed):
    detections, objects, num_classes = hard_tables(np.random.default_rng([0, seed]), most=20)
    result = coco_average_precision(detections, objects, num_classes=num_classes)
    precision, recall = reference.coco_average_precision(
        detections, objects, num_classes=num_classes
    )
    np.testing.assert_allclose(result.precision, precision, **ROUNDING)
    np.testing.assert_array_equal(result.recall, recall)


def check_many(iou_type, seeds, first=0, most=60):
    hits = 0
    for seed in range(first, first + seeds):
        rng = np.random.default_rng([1, seed])
        tables = hard_tables(rng, masks=iou_type == "segm", most=most)
        result = assert_equals_pycocotools(*tables, iou_type)
        hits += np.nanmax(result.recall, initial=0) > 0
    assert hits > seeds / 3


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_whole_tensors_equal_pycocotools(iou_type):
    check_many(iou_type, 20)


@pytest.mark.parametrize(
    ("seeds", "large"),
    [pytest.param(100, 2, marks=pytest.mark.slow), pytest.param(1500, 20, marks=pytest.mark.long)],
)
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_many_whole_tensors_equal_pycocotools(iou_type, seeds, large):
    check_many(iou_type, seeds, first=1000)
    check_many(iou_type, large, first=5000, most=1500)


SOME = [(1, BOX, 0.5, 0), (1, FAR, 0.5, 2), (2, BOX, 0.4, 1)]
TRUTH = [(1, BOX, 0), (1, BOX, 2), (3, FAR, 0)]
# Name -> (detections, objects, options of the objects).
NAMED = {
    "nothing at all": ([], [], {}),
    "no detections": ([], TRUTH, {}),
    "no objects": (SOME, [], {}),
    "a class without objects": (SOME, TRUTH, {}),
    "only crowds": (SOME, TRUTH, {"crowd": [0, 1, 2]}),
    "a crowd matched repeatedly": (
        [(1, [x, 0, x + 5, 10], 0.9 - x / 100, 0) for x in range(5)],
        [(1, BOX, 0), (1, [0, 0, 5, 10], 0)],
        {"crowd": [0]},
    ),
    "more than 100": (
        [(1, [i % 9, 0, 10, 10], (i * 37 % 50) / 50, 0) for i in range(130)],
        [(1, [i, 0, 10, 10], 0) for i in range(9)],
        {},
    ),
    "the object comes after the hundredth": (
        [(1, FAR, 0.5, 0)] * 100 + [(1, BOX, 0.5, 0)],
        [(1, BOX, 0)],
        {},
    ),
    "areas at the limits": (
        [(1, [0, 0, 32, 32], 0.9, 0), (1, [0, 0, 96, 96], 0.8, 0), (1, [0, 0, 64, 16], 0.7, 0)],
        [(1, [0, 0, 32, 32], 0), (1, [0, 0, 96, 96], 0), (1, [0, 0, 96, 97], 0)],
        {},
    ),
    "no area": (
        [(1, [5, 5, 5, 9], 0.9, 0), (1, [5, 5, 5, 5], 0.8, 0), (1, BOX, 0.7, 0)],
        [(1, [5, 5, 5, 9], 0), (1, BOX, 0)],
        {},
    ),
    "inverted boxes": (
        [(1, [9, 5, 5, 9], 0.9, 0), (1, [9, 9, 5, 5], 0.8, 0), (1, BOX, 0.7, 0)],
        [(1, BOX, 0)],
        {},
    ),
    "an area of its own": (SOME, TRUTH, {"area": [1e10 + 1, 1024, 9216]}),
    # 20 columns by 1: IoU 10 / 20, 11 / 20, ..., 19 / 20 and 1.
    "each threshold": (
        [(i, [0, 0, i, 1], 0.5, 0) for i in range(10, 21)],
        [(i, [0, 0, 20, 1], 0) for i in range(10, 21)],
        {},
    ),
    # Both objects overlap the first detection alike; the second detection only one of them.
    "equal IoUs, first object": (
        [(1, [0, 0, 10, 10], 0.9, 0), (1, [0, 0, 8, 10], 0.8, 0)],
        [(1, [0, 0, 8, 10], 0), (1, [2, 0, 10, 10], 0)],
        {},
    ),
    "equal IoUs, last object": (
        [(1, [0, 0, 10, 10], 0.9, 0), (1, [2, 0, 10, 10], 0.8, 0)],
        [(1, [0, 0, 8, 10], 0), (1, [2, 0, 10, 10], 0)],
        {},
    ),
    "equal scores": (
        [(2, FAR, 0.5, 0), (1, FAR, 0.5, 0), (1, BOX, 0.5, 0), (0, BOX, 0.5, 0)],
        [(0, BOX, 0), (1, BOX, 0), (2, BOX, 0)],
        {},
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_cases_equal_pycocotools(name):
    detections, objects, options = NAMED[name]
    assert_equals_pycocotools(
        detection_table(detections), object_table(objects, **options), 3, "bbox"
    )


@pytest.mark.parametrize(("second", "hits"), [([0, 0, 8, 10], 2), ([2, 0, 10, 10], 1)])
def test_of_equal_ious_the_last_object_is_taken(second, hits):
    objects = object_table([(1, [0, 0, 8, 10], 0), (1, [2, 0, 10, 10], 0)])
    detections = detection_table([(1, BOX, 0.9, 0), (1, second, 0.8, 0)])
    result = coco_average_precision(detections, objects, num_classes=1)
    # At 0.75; the other object overlaps the second detection by 6 / 10 only.
    assert result.recall[5, 0, 0, 2] == hits / 2


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_detections_equal_to_the_objects_give_one(iou_type):
    rows = list(itertools.product([3, 1, 2], [[0, 0, 3, 3], [2, 4, 9, 9], [8, 1, 16, 2]], [0, 1]))
    masks = []
    for _, (x1, y1, x2, y2), _ in rows:
        mask = np.zeros((12, 16), bool)
        mask[y1:y2, x1:x2] = True
        masks.append(encode_mask(mask))
    found = [(image, box, 0.5, label) for image, box, label in rows]
    result = coco_average_precision(
        detection_table(found, masks),
        object_table(rows, masks=masks),
        num_classes=3,
        iou_type=iou_type,
    )
    assert result.stats["AP"] == result.stats["AP_small"] == result.stats["AR100"] == 1
    assert result.stats["AR1"] == pytest.approx(1 / 3)
    np.testing.assert_array_equal(result.class_ap, [1, 1, np.nan])
    np.testing.assert_array_equal(result.class_ap50, [1, 1, np.nan])
    assert np.isnan(result.stats["AP_medium"])


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_order_of_the_images_changes_nothing(iou_type):
    for seed in range(8):
        rng = np.random.default_rng([2, seed])
        *tables, num_classes = hard_tables(rng, masks=iou_type == "segm")
        options = {"num_classes": num_classes, "iou_type": iou_type}
        assert_same(
            coco_average_precision(*permuted(*tables, rng), **options),
            coco_average_precision(*tables, **options),
        )


def test_image_ids_may_be_far_apart():
    """So far that numbers of a class and an image do not fit into 64 bits."""
    detections, objects, num_classes = hard_tables(np.random.default_rng(0), most=60)
    expected = coco_average_precision(detections, objects, num_classes=num_classes)
    assert np.nanmax(expected.recall) > 0
    for first, step in ((-(2**62), 1), (0, 2**52), (-(2**62), 2**57)):
        moved = (
            dataclasses.replace(table, image=first + step * table.image)
            for table in (detections, objects)
        )
        result = coco_average_precision(*moved, num_classes=num_classes)
        np.testing.assert_array_equal(result.precision, expected.precision)
        np.testing.assert_array_equal(result.recall, expected.recall)


def test_pairs_come_in_blocks_as_in_one(monkeypatch):
    *tables, num_classes = hard_tables(np.random.default_rng([1, 3]))
    before = coco_average_precision(*tables, num_classes=num_classes)
    monkeypatch.setattr(detection_groups, "_DETECTIONS_AT_ONCE", 3)
    assert_same(coco_average_precision(*tables, num_classes=num_classes), before)
    assert before.stats["AR100"] > 0


def test_class_ap_is_the_mean_of_the_class():
    detections, objects, num_classes = hard_tables(np.random.default_rng([1, 3]))
    result = coco_average_precision(detections, objects, num_classes=num_classes)
    for label in range(num_classes):
        of_class = [
            detection_table(
                [row for row in reference.rows(detections, objects)[0] if row[3] == label]
            ),
            object_table(
                [(row[0], row[1], row[2]) for row in reference.rows(detections, objects)[1]],
                crowd=np.flatnonzero(objects.crowd),
                area=objects.area,
            ),
        ]
        alone = coco_average_precision(*of_class, num_classes=num_classes)
        assert alone.class_ap[label] == result.class_ap[label]
    assert result.class_ap.mean() == pytest.approx(result.stats["AP"])
    assert result.class_ap50.mean() == pytest.approx(result.stats["AP50"])


def test_class_ap_counts_a_hundred_detections():
    # The object is the eleventh of its image, or the hundred and first.
    for before, ap in ((10, 1 / 11), (99, 1 / 100), (100, 0)):
        found = detection_table([(1, FAR, 0.5, 0)] * before + [(1, BOX, 0.4, 0)])
        result = coco_average_precision(found, object_table([(1, BOX, 0)]), num_classes=1)
        np.testing.assert_allclose([result.class_ap, result.class_ap50], ap)
        _, precision = result.curve(0)
        np.testing.assert_allclose(precision, ap)


def test_recall_of_a_thousand_detections_by_hand():
    """The objects are the first, the 101st and the 1000th of the detections of one image."""
    boxes = [[0, 20 * n, 10, 20 * n + 10] for n in range(4)]
    found = [(1, FAR, 1 - n / 2000, 0) for n in range(1002)]
    for box, place in zip(boxes, (0, 100, 999, 1000), strict=True):
        found[place] = (1, box, *found[place][2:])
    tables = detection_table(found), object_table([(1, box, 0) for box in boxes])
    usual = coco_average_precision(*tables, num_classes=1)
    for count, recall in ((101, 1 / 2), (999, 1 / 2), (1000, 3 / 4), (1001, 1)):
        result = coco_average_precision(*tables, num_classes=1, max_detections=count)
        assert result.recall.shape == (10, 1, 4, 4)
        names = [*usual.stats]
        names.insert(names.index("AR_small"), f"AR{count}")
        assert [*result.stats] == names
        assert result.stats[f"AR{count}"] == recall
        np.testing.assert_equal({**result.stats, f"AR{count}": 0}, {**usual.stats, f"AR{count}": 0})
        np.testing.assert_array_equal(result.precision[..., :-1], usual.precision)
        np.testing.assert_array_equal(result.class_ap, usual.class_ap)
        np.testing.assert_array_equal(result.curves(0.5), usual.curves(0.5))
    assert usual.stats["AR100"] == 1 / 4
    same = coco_average_precision(*tables, num_classes=1, max_detections=100)
    assert same.recall.shape == usual.recall.shape
    np.testing.assert_equal(same.stats, usual.stats)
    with pytest.raises(InputError, match=r"^max_detections is 99: give at least 100$"):
        coco_average_precision(*tables, num_classes=1, max_detections=99)
    how = {"iou_type": "keypoints", "max_detections": 100}
    with pytest.raises(InputError, match=r"^max_detections is 100, but iou_type is 'keypoints'"):
        coco_average_precision(*tables, num_classes=1, **how)


def proposal_tables(rng):
    """(detections, objects, num_classes): many of both in two images, with ties and crowds."""
    corner = rng.integers(0, 40, (200, 2))
    truth = np.concatenate([corner, corner + rng.integers(1, 7, (200, 2))], axis=1)
    images, labels = rng.integers(0, 2, (2, 200))
    rows = rng.integers(0, 200, 900)
    found = truth[rows] + rng.integers(-1, 2, (900, 4)) * (rng.random((900, 1)) < 0.7)
    scores = rng.integers(0, 300, 900) / 300
    objects = object_table(
        [*zip(images, truth, labels, strict=True)], crowd=np.flatnonzero(rng.random(200) < 0.1)
    )
    columns = images[rows], found, scores, labels[rows]
    return detection_table([*zip(*columns, strict=True)]), objects, 2


@pytest.mark.parametrize("seeds", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_recall_of_more_than_a_hundred_detections_equals_pycocotools(seeds):
    for seed in range(seeds):
        *tables, num_classes = proposal_tables(np.random.default_rng([7, seed]))
        for count in (101, 150, 1000):
            how = {"num_classes": num_classes, "max_detections": count}
            result = coco_average_precision(*tables, **how)
            precision, recall, stats = pycocotools_results(*tables, iou_type="bbox", **how)
            np.testing.assert_allclose(result.precision, precision, **ROUNDING)
            np.testing.assert_array_equal(result.recall, recall)
            ours = result.stats
            of_count = ours.pop(f"AR{count}")
            assert of_count == pytest.approx(recall[:, :, 0, 3].mean(), abs=1e-15)
            assert of_count >= ours["AR100"] + 0.01 * (count == 1000)
            np.testing.assert_allclose(list(ours.values()), stats, **ROUNDING)


def test_a_curve_is_a_copy():
    result = coco_average_precision(detection_table(SOME), object_table(TRUTH), num_classes=3)
    for part in (0, 1):
        before = result.curve(0)[part].copy()
        result.curve(0)[part][:] = -5
        np.testing.assert_array_equal(result.curve(0)[part], before)


def test_a_box_turned_inside_out_never_counts():
    inside_out = (1, [10, 0, 0, 10], 0.9, 0)
    found = detection_table([inside_out, (1, BOX, 0.8, 0)])
    result = coco_average_precision(found, object_table([(1, BOX, 0)]), num_classes=1)
    assert result.stats["AP"] == 1


def test_the_axes_are_cocos():
    result = coco_average_precision(detection_table(SOME), object_table(TRUTH), num_classes=3)
    assert result.precision.shape == (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), 3, len(AREAS), 3)
    assert result.recall.shape == (10, 3, 4, 3)


def test_errors_name_the_thing():
    found, truth = detection_table(SOME), object_table(TRUTH)
    with pytest.raises(
        InputError, match=r"labels of detections, row 1 .image 1. is 2: there are 2"
    ):
        coco_average_precision(found, truth, num_classes=2)
    with pytest.raises(InputError, match="labels of objects, row 1"):
        coco_average_precision(detection_table([]), truth, num_classes=1)
    with pytest.raises(InputError, match="num_classes is 0"):
        coco_average_precision(found, truth, num_classes=0)
    with pytest.raises(InputError, match="iou_type is 'mask': choose one of bbox, segm, keypoints"):
        coco_average_precision(found, truth, num_classes=3, iou_type="mask")
    with pytest.raises(InputError, match="detections have no masks"):
        coco_average_precision(found, truth, num_classes=3, iou_type="segm")
    masks = [encode_mask(np.ones((2, 3), bool))] * 3
    with_masks = detection_table(SOME, masks)
    with pytest.raises(InputError, match="objects have no masks"):
        coco_average_precision(with_masks, truth, num_classes=3, iou_type="segm")
    turned = object_table(TRUTH, masks=[encode_mask(np.ones((3, 2), bool))] * 3)
    with pytest.raises(InputError, match=r"\(2, 3\) and masks2\[0\] is \(3, 2\) in size"):
        coco_average_precision(with_masks, turned, num_classes=3, iou_type="segm")
    result = coco_average_precision(found, truth, num_classes=3)
    with pytest.raises(InputError, match=r"iou_threshold is 0.52: choose one of 0.50, 0.55"):
        result.curve(0, iou_threshold=0.52)
    with pytest.raises(InputError, match="label is 3"):
        result.curve(3)
