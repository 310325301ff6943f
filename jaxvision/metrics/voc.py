"""Average precision as PASCAL VOC defines it. On the host."""

import dataclasses

import numpy as np

from jaxvision.core import InputError, check_range
from jaxvision.metrics.detection_groups import Groups, class_slices, group, paired_box_iou
from jaxvision.metrics.detection_tables import DetectionTable, ObjectTable

METHODS = ("area", "11point")


@dataclasses.dataclass(frozen=True, eq=False)
class VocResult:
    """Average precision of K classes.

    Attributes:
      class_ap: f64[K], NaN for a class without objects (that are not difficult).
      recall: K times f64[C], after each detection that counts, by falling score; NaN as above.
      precision: K times f64[C], likewise; 0 where there is nothing to find.
    """

    class_ap: np.ndarray
    recall: tuple[np.ndarray, ...]
    precision: tuple[np.ndarray, ...]

    @property
    def mean_ap(self) -> float:
        """The mean over the classes that have objects; NaN where none has."""
        existing = self.class_ap[~np.isnan(self.class_ap)]
        return float(existing.mean()) if existing.size else float("nan")


def voc_average_precision(
    detections: DetectionTable,
    objects: ObjectTable,
    *,
    num_classes: int,
    iou_threshold: float = 0.5,
    method: str = "area",
) -> VocResult:
    """PASCAL VOC's average precision.

    Of each class, detections go by falling score (of equal ones by image id, then row), and each
    claims the object of its image with the highest IoU (of equal ones the first row). With an IoU
    of at least the threshold, a detection is ignored if the object is difficult, a true positive if
    no other has claimed it, and a false positive otherwise, as it is below the threshold. Recall is
    over the objects that are not difficult.

      "area":    AP = sum over n of (recall[n] - recall[n - 1]) max over m >= n of precision[m]
      "11point": AP = mean over t = 0, 0.1, ..., 1 of max over recall >= t of precision

    Recall is compared as the fraction that it is; in floating point 3 of 10 is less than 3 * 0.1.
    The devkit's boxes hold their last pixel: the same as [x1 - 1, y1 - 1, x2, y2] here.

    Args:
      detections: of all images.
      objects: of all images; `crowd` plays no part.
      num_classes: K; labels are 0..K - 1.
      iou_threshold: in (0, 1].
      method: "area" (VOC 2010 and later) or "11point" (VOC 2007).
    Returns:
      average precision and the curves it comes from.
    Raises:
      InputError: a label outside 0..K - 1, an unknown method, a threshold out of range.
    Source: Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, 2010, section 4.2;
      the VOC2012 development kit.
    """
    check_range("iou_threshold", iou_threshold, more_than=0, most=1)
    if method not in METHODS:
        raise InputError(f"method is {method!r}: choose one of {', '.join(METHODS)}")
    groups = group(detections, objects, num_classes)
    claimed, iou = _claims(
        groups, detections.boxes[groups.detections], objects.boxes[groups.objects]
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
    """The object of highest IoU for each detection, i64[D], and the IoU, f64[D]; 0 without one."""
    claimed, highest = np.zeros(len(boxes1), np.int64), np.zeros(len(boxes1))
    for detection, object_ in groups.pairs():
        iou = paired_box_iou(boxes1[detection], boxes2[object_])
        # Stable: of equal ones the first.
        order = np.lexsort((-iou, detection))
        of, first = np.unique(detection[order], return_index=True)
        claimed[of], highest[of] = object_[order[first]], iou[order[first]]
    return claimed, highest


def _first_claims(claimed: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Which of C detections hit an object that none before has hit: bool[C]."""
    candidates = np.flatnonzero(hits)
    _, first = np.unique(claimed[candidates], return_index=True)
    positive = np.zeros(hits.shape, bool)
    positive[candidates[first]] = True
    return positive
