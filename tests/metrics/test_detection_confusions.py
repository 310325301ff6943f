"""Which class was found for which object: by hand, against loops, and beside average precision."""

import time

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.metrics import (
    DetectionTable,
    ObjectTable,
    coco_average_precision,
    count_confusions,
    matched_classes,
)
from tests.metrics.detection_cases import detection_table, hard_tables, object_table, permuted
from tests.reference import metrics_detection as reference

BOX, FAR, LOW = [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 8]
CAT, DOG = 0, 1


def matrix_of(detections, objects, num_classes=2, **options):
    matches = matched_classes(detections, objects, num_classes=num_classes, **options)
    return count_confusions(*matches, num_classes=num_classes + 1)


@pytest.mark.parametrize(
    ("found", "there", "ignored", "expected"),
    [
        # A hit, a miss and a false detection; [true class, predicted class], 2 the background.
        ([(1, BOX, 0.9, CAT), (2, FAR, 0.8, DOG)], [(1, BOX, CAT), (1, FAR, DOG)], {}, "00 12 21"),
        # A wrong class; another image's object cannot be taken.
        ([(1, BOX, 0.9, DOG)], [(1, BOX, CAT), (2, BOX, DOG)], {}, "01 12"),
        # The right class is preferred to a higher IoU, and to a surer detection of another class.
        ([(1, BOX, 0.9, CAT)], [(1, BOX, DOG), (1, LOW, CAT)], {}, "00 12"),
        ([(1, BOX, 0.9, DOG), (1, LOW, 0.5, CAT)], [(1, BOX, CAT)], {}, "00 21"),
        # The second detection of an object is false.
        ([(1, BOX, 0.9, CAT), (1, LOW, 0.8, CAT)], [(1, BOX, CAT)], {}, "00 20"),
        # A score below the threshold does not count, one at it does; so for the IoU.
        ([(1, BOX, 0.29, CAT)], [(1, BOX, CAT)], {}, "02"),
        ([(1, [0, 0, 10, 5], 0.3, CAT)], [(1, BOX, CAT)], {}, "00"),
        ([(1, [0, 0, 10, 4.9], 0.3, CAT)], [(1, BOX, CAT)], {}, "02 20"),
        # What is ignored is not missed, and what is found there is not false, of any class.
        ([(1, LOW, 0.9, DOG)], [(1, BOX, CAT)], {"crowd": [0]}, ""),
        ([(1, [0, 0, 10, 2], 0.9, CAT)], [(1, BOX, CAT)], {"crowd": [0]}, ""),
        ([(1, [0, 0, 10, 2], 0.9, CAT)], [(1, BOX, CAT)], {"difficult": [0]}, "20"),
        ([], [(1, BOX, CAT)], {"difficult": [0]}, ""),
        ([], [], {}, ""),
    ],
)
def test_by_hand(found, there, ignored, expected):
    matrix = matrix_of(detection_table(found), object_table(there, **ignored))
    cells = [f"{truth}{predicted}" for truth, predicted in np.argwhere(matrix)]
    assert " ".join(cells) == expected
    assert matrix.max() <= 1


def test_it_is_that_of_loops_and_its_diagonal_has_the_true_positives_of_coco():
    compared = 0
    for seed in range(60):
        rng = np.random.default_rng([7, seed])
        detections, objects, classes = hard_tables(rng)
        thresholds = {
            "iou_threshold": rng.choice([0.3, 0.5, 1]),
            "score_threshold": rng.choice([0, 1 / 7, 0.5]),
        }
        matrix = matrix_of(detections, objects, classes, **thresholds)
        expected = reference.confusion_matrix(
            detections, objects, num_classes=classes, **thresholds
        )
        np.testing.assert_array_equal(matrix, expected)
        again = matrix_of(*permuted(detections, objects, rng), classes, **thresholds)
        np.testing.assert_array_equal(again, matrix)
        counted = ~(objects.crowd | objects.difficult)
        totals = np.bincount(objects.labels[counted], minlength=classes)
        np.testing.assert_array_equal(matrix[:classes].sum(axis=1), totals)

        # COCO knows no difficult objects.
        easy = ObjectTable(**{**vars(objects), "difficult": np.zeros(len(objects), bool)})
        recall = coco_average_precision(detections, easy, num_classes=classes).recall[0, :, 0, -1]
        hits = np.diag(matrix_of(detections, easy, classes, score_threshold=0))[:classes]
        totals = np.bincount(easy.labels[~easy.crowd], minlength=classes)
        if (easy.area is None) or (easy.area <= 1e10).all():
            np.testing.assert_allclose(hits[totals > 0], (recall * totals)[totals > 0])
            compared += (totals > 0).sum()
    assert compared > 50


def test_a_wrong_label_or_threshold_is_an_error():
    found, truth = detection_table([(7, BOX, 0.9, 2)]), object_table([(7, BOX, 0)])
    with pytest.raises(
        InputError, match=r"labels of detections, row 0 .image 7. is 2: there are 2"
    ):
        matched_classes(found, truth, num_classes=2)
    for options in ({"iou_threshold": 0}, {"score_threshold": float("nan")}):
        with pytest.raises(InputError, match=f"^{next(iter(options))} is"):
            matched_classes(found, truth, num_classes=3, **options)


@pytest.mark.slow
def test_the_size_of_coco_takes_seconds():
    rng = np.random.default_rng(0)
    images, objects, detections = 5000, 36_000, 500_000

    def boxes(count):
        corner = rng.uniform(0, 500, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(10, 200, (count, 2))], axis=1)

    none = np.zeros(objects, bool)
    labels = rng.integers(0, 80, objects), rng.integers(0, 80, detections)
    there = ObjectTable(rng.integers(0, images, objects), boxes(objects), labels[0], none, none)
    found = DetectionTable(
        rng.integers(0, images, detections), boxes(detections), rng.random(detections), labels[1]
    )
    start = time.process_time()
    truth, _ = matched_classes(found, there, num_classes=80, score_threshold=0)
    assert time.process_time() - start < 20
    assert len(truth) > detections
