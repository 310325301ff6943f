"""Which class was found for which object, for a detector's confusion matrix, on the host."""

import dataclasses
from typing import TypeVar

import numpy as np

from jaxvision.core import check_range
from jaxvision.metrics.detection_groups import Groups, check_labels, group, paired_box_iou
from jaxvision.metrics.detection_tables import DetectionTable, ObjectTable

T = TypeVar("T", DetectionTable, ObjectTable)


def matched_classes(
    detections: DetectionTable,
    objects: ObjectTable,
    *,
    num_classes: int,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.3,
) -> tuple[np.ndarray, np.ndarray]:
    """Matches detections and objects of any class; what has no match is matched with background.

    Detections with a score below the threshold are left out. In each image, the others are matched
    one after the other, from the highest score to the lowest (of equal scores, the first row comes
    first), twice:

    1. Each takes the free object *of its class* with the highest IoU (of equal ones, the last row),
       if the IoU is at least the threshold.
    2. Each that is left takes the free object *of another class* by the same rule.

    An object is taken once. Crowds and difficult objects cannot be taken, and are not missed; a
    detection that is left after both rounds, and has such an IoU with one of them, of whatever
    class (with a crowd: intersection over the detection's area), is left out too. So the matches
    within a class are COCO's true positives at this IoU and score, of which a wrong class takes
    none away, as long as no object is difficult and no image has more than 100 detections of a
    class.

    Args:
      detections: the detections in all images.
      objects: the objects in all images.
      num_classes: K; labels are 0..K - 1.
      iou_threshold: in (0, 1].
      score_threshold: least score of a detection that counts.
    Returns:
      the true and the predicted class, i64[N] each, of every match, every missed object (predicted
      class K, the background) and every false detection (true class K). Their order has no meaning:
      `count_confusions` of K + 1 classes makes a matrix of them.
    Raises:
      InputError: a label is outside 0..K - 1.
      ValueError: a threshold is out of range.
    """
    check_range("iou_threshold", iou_threshold, more_than=0, most=1)
    check_range("score_threshold", score_threshold, least=-np.inf, less_than=np.inf)
    check_labels(detections, objects, num_classes)
    counts = detections.scores >= score_threshold
    columns = ("image", "boxes", "scores", "labels")
    detections = DetectionTable(**{name: getattr(detections, name)[counts] for name in columns})
    groups = group(_of_one_class(detections), _of_one_class(objects), 1)
    found, there = detections.labels[groups.detections], objects.labels[groups.objects]
    ignored = (objects.crowd | objects.difficult)[groups.objects]
    detection, object_ = _near(groups, detections, objects, iou_threshold)

    # The pairs come detection by detection, so each takes the first object that is still free.
    taken = np.full(found.size, -1)
    free = ~ignored
    own = found[detection] == there[object_]
    for round_ in (own & free[object_], ~own & free[object_]):
        pairs = zip(detection[round_].tolist(), object_[round_].tolist(), strict=True)
        for one, other in pairs:
            if taken[one] < 0 and free[other]:
                taken[one], free[other] = other, False

    left_out = np.zeros(found.size, bool)
    left_out[detection[ignored[object_]]] = True
    matched, wrong = taken >= 0, (taken < 0) & ~left_out
    missed, background = there[free], num_classes
    truth = [there[taken[matched]], missed, np.full(wrong.sum(), background)]
    predicted = [found[matched], np.full(missed.size, background), found[wrong]]
    return np.concatenate(truth), np.concatenate(predicted)


def _of_one_class(table: T) -> T:
    return dataclasses.replace(table, labels=np.zeros_like(table.labels))


def _near(
    groups: Groups, detections: DetectionTable, objects: ObjectTable, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs in the same image with at least this IoU, in the order of preference.

    Returns:
      positions in the groups' detections and objects, i64[P] each: by detection, from the highest
      IoU to the lowest, of equal ones the last object first.
    """
    boxes1, boxes2 = detections.boxes[groups.detections], objects.boxes[groups.objects]
    crowd = objects.crowd[groups.objects]
    blocks = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for detection, object_ in groups.pairs():
        iou = paired_box_iou(boxes1[detection], boxes2[object_], crowd[object_])
        near = iou >= iou_threshold
        blocks.append((detection[near], object_[near], iou[near]))
    detection, object_, iou = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    order = np.lexsort((-object_, -iou, detection))
    return detection[order], object_[order]
