"""Average precision as PASCAL VOC defines it, computed on the host."""

import dataclasses

import numpy as np

from jaxvision.core import check_choice, check_range
from jaxvision.metrics.detection_groups import Groups, class_slices, group, paired_box_iou
from jaxvision.metrics.detection_tables import DetectionTable, ObjectTable

METHODS = ("area", "11point")


@dataclasses.dataclass(frozen=True, eq=False)
class VocResult:
    """The average precision of K classes.

    Attributes:
      class_ap: f64[K], NaN for a class whose objects are all difficult, or that has none.
      recall: K arrays f64[C], the recall after each detection that counts, from the highest score
        to the lowest; NaN for the classes whose class_ap is NaN.
      precision: K arrays f64[C], the precision likewise; 0 for the classes whose class_ap is NaN.
    """

    class_ap: np.ndarray
    recall: tuple[np.ndarray, ...]
    precision: tuple[np.ndarray, ...]

    @property
    def mean_ap(self) -> float:
        """The mean over the classes whose class_ap is not NaN, or NaN if there is none."""
        existing = self.class_ap[~np.isnan(self.class_ap)]
        return float(existing.mean()) if existing.size else float("nan")


def voc_average_precision(
    detections: DetectionTable,
    objects: ObjectTable,
    *,
    num_classes: int,
    iou_threshold: float = 0.5,
    method: str = "area",
    inclusive: bool = False,
) -> VocResult:
    """Computes the average precision (AP) of PASCAL VOC.

    The detections of each class are sorted from the highest score to the lowest (equal scores by
    image id, then row). Each is assigned the object of its image with the highest IoU (of equal
    ones, the first row). If the IoU is below the threshold, the detection is a false positive.
    Otherwise it is ignored if the object is difficult, a true positive if it is the first that is
    assigned this object, and a false positive if not. Recall is over the objects that are not
    difficult.

      "area":    AP = sum over n of (recall[n] - recall[n - 1]) max over m >= n of precision[m]
      "11point": AP = mean over t = 0, 0.1, ..., 1 of max over recall >= t of precision

    Recall and t are compared as exact fractions; in floating point, 3 of 10 is less than 3 * 0.1.
    Boxes of the VOC development kit include their last pixel: its [x1, y1, x2, y2] is
    [x1 - 1, y1 - 1, x2, y2] here. With `inclusive` the boxes of both tables are taken to include
    theirs, as the kit and the scripts that follow it do.

    Args:
      detections: the detections in all images.
      objects: the objects in all images; `crowd` is not used.
      num_classes: K; labels are 0..K - 1.
      iou_threshold: in (0, 1].
      method: "area" (VOC 2010 and later) or "11point" (VOC 2007).
      inclusive: whether 1 is added to the widths and heights of boxes and intersections.
    Returns:
      the average precision, and the curves of precision and recall.
    Raises:
      InputError: a label is outside 0..K - 1, the method is unknown, or iou_threshold is out of
        range.
    Source: Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, 2010, section 4.2;
      the VOC2012 development kit.
    """
    check_range("iou_threshold", iou_threshold, more_than=0, most=1)
    check_choice("method", method, METHODS)
    groups = group(detections, objects, num_classes)
    last = np.array([0, 0, 1, 1]) * inclusive
    claimed, iou = _claims(
        groups, detections.boxes[groups.detections] + last, objects.boxes[groups.objects] + last
    )
    hits = iou >= iou_threshold
    counts = np.ones(hits.shape, bool)
    counts[hits] = ~objects.difficult[groups.objects[claimed[hits]]]
    totals = np.bincount(objects.labels[~objects.difficult], minlength=num_classes)
    labels, scores = detections.labels[groups.detections], detections.scores[groups.detections]
    class_ap, recalls, precisions = np.full(num_classes, np.nan), [], []
    for label, of_class in enumerate(class_slices(labels, num_classes)):
        order = of_class.start + np.argsort(-scores[of_class], kind="stable")
        order = order[counts[order]]
        positive = _first_claims(claimed[order], hits[order])
        found = np.cumsum(positive)
        recalls.append(found / (totals[label] or np.nan))
        precisions.append(found / np.arange(1, found.size + 1))
        if totals[label]:
            highest = np.maximum.accumulate(precisions[label][::-1])[::-1]
            if method == "area":
                class_ap[label] = (np.diff(recalls[label], prepend=0) * highest).sum()
            else:
                first = np.searchsorted(10 * found, np.arange(11) * totals[label])
                class_ap[label] = np.append(highest, 0)[first].mean()
    return VocResult(class_ap, tuple(recalls), tuple(precisions))


def _claims(groups: Groups, boxes1: np.ndarray, boxes2: np.ndarray):
    """Returns the object of highest IoU for each detection, i64[D], and this IoU, f64[D].

    Both are 0 for a detection without an object.
    """
    claimed, highest = np.zeros(len(boxes1), np.int64), np.zeros(len(boxes1))
    for detection, object_ in groups.pairs():
        iou = paired_box_iou(boxes1[detection], boxes2[object_])
        # The sort is stable: of equal IoUs the first is taken.
        order = np.lexsort((-iou, detection))
        of, first = np.unique(detection[order], return_index=True)
        claimed[of], highest[of] = object_[order[first]], iou[order[first]]
    return claimed, highest


def _first_claims(claimed: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Returns which of C detections are the first to hit their object: bool[C]."""
    candidates = np.flatnonzero(hits)
    _, first = np.unique(claimed[candidates], return_index=True)
    positive = np.zeros(hits.shape, bool)
    positive[candidates[first]] = True
    return positive
