"""Average precision and recall as COCO defines them: of boxes, masks and keypoints, on the host.

The results equal those of pycocotools' `COCOeval`, with NaN in place of its -1 for values that do
not exist. For speed, only pairs of a detection and an object with an IoU of at least 0.5 are
considered.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.core import InputError, check_choice, check_range
from jaxvision.metrics.coco_matching import (
    IOU_THRESHOLDS,
    RECALL_THRESHOLDS,
    Pairs,
    accumulate,
    match_pairs,
    reordered,
)
from jaxvision.metrics.detection_groups import Groups, box_areas, group, paired_box_iou
from jaxvision.metrics.detection_tables import DetectionTable, ObjectTable
from jaxvision.metrics.keypoints import (
    COCO_KEYPOINT_SIGMAS,
    keypoint_areas,
    paired_keypoint_similarity,
)
from jaxvision.ops import paired_run_length_iou

AREAS = {
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}
"""Ranges of area in square pixels; both ends belong to the range."""
MAX_DETECTIONS = (1, 10, 100)
"""How many detections of one class in one image count."""


class _Limits(NamedTuple):
    """The sizes of objects and the numbers of detections for which values are computed."""

    areas: Mapping[str, tuple[float, float]]
    max_detections: tuple[int, ...]


LIMITS = {
    "bbox": _Limits(AREAS, MAX_DETECTIONS),
    "segm": _Limits(AREAS, MAX_DETECTIONS),
    "keypoints": _Limits({name: AREAS[name] for name in ("all", "medium", "large")}, (20,)),
}
"""The `areas` and `max_detections` of each IoU type. Keypoints of small objects are not labelled in
COCO."""


@dataclasses.dataclass(frozen=True, eq=False)
class CocoResult:
    """Precision and recall of COCO.

    The axes are T IoU thresholds, R recall thresholds, K classes, A sizes and M numbers of
    detections. T and R are `IOU_THRESHOLDS` and `RECALL_THRESHOLDS` of this module, A and M the
    `areas` and `max_detections` of `LIMITS[iou_type]`, with the `max_detections` here at the end if
    that is another number. Values are NaN for a class without objects of that size that count.
    Properties and methods are of COCO's most detections, whatever that number is.

    Attributes:
      precision: f64[T, R, K, A, M], the highest precision at this recall or above.
      recall: f64[T, K, A, M], the highest recall.
      iou_type: "bbox", "segm" or "keypoints".
      max_detections: as for `coco_average_precision`.
    """

    precision: np.ndarray
    recall: np.ndarray
    iou_type: str = "bbox"
    max_detections: int | None = None

    @property
    def stats(self) -> dict[str, float]:
        """The numbers of COCO, in its order: means over the values that are not NaN.

        There are twelve of boxes and masks, and ten of keypoints; and, if `max_detections` is
        1000, "AR1000" after the other recalls.
        """
        sizes, most = list(LIMITS[self.iou_type].areas), LIMITS[self.iou_type].max_detections
        at50, at75 = _threshold_index(0.5), _threshold_index(0.75)

        def precision(iou_thresholds=slice(None), size="all"):
            return _mean(self.precision[iou_thresholds, :, :, sizes.index(size), self._most])

        def recall(iou_thresholds=slice(None), size="all", number=self._most):
            return _mean(self.recall[iou_thresholds, :, sizes.index(size), number])

        if self.iou_type == "keypoints":
            recalls = {"AR": recall(), "AR50": recall(at50), "AR75": recall(at75)}
        else:
            recalls = {f"AR{count}": recall(number=number) for number, count in enumerate(most)}
        if self.max_detections not in (None, most[-1]):
            recalls[f"AR{self.max_detections}"] = recall(number=len(most))
        return {
            "AP": precision(),
            "AP50": precision(at50),
            "AP75": precision(at75),
            **{f"AP_{size}": precision(size=size) for size in sizes[1:]},
            **recalls,
            **{f"AR_{size}": recall(size=size) for size in sizes[1:]},
        }

    @property
    def _most(self) -> int:
        """The index of COCO's most detections."""
        return len(LIMITS[self.iou_type].max_detections) - 1

    @property
    def class_ap(self) -> np.ndarray:
        """f64[K], AP of each class for all sizes and most detections, mean over IoU thresholds."""
        return self.precision[:, :, :, 0, self._most].mean(axis=(0, 1))

    @property
    def class_ap50(self) -> np.ndarray:
        """f64[K], AP of each class at an IoU of 0.5, for all sizes and most detections."""
        return self.curves(0.5).mean(axis=1)

    def curves(self, iou_threshold: float) -> np.ndarray:
        """Returns the precision at each of `RECALL_THRESHOLDS`, for all sizes and most detections.

        Args:
          iou_threshold: one of `IOU_THRESHOLDS`.
        Returns:
          f64[K, 101], NaN for classes without objects; the mean of a row is the class's AP.
        Raises:
          InputError: the threshold is not one of `IOU_THRESHOLDS`.
        """
        return self.precision[_threshold_index(iou_threshold), :, :, 0, self._most].T.copy()

    def curve(self, label: int, *, iou_threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        """Returns the precision-recall curve of a class, for all sizes and most detections.

        Args:
          label: the class.
          iou_threshold: one of `IOU_THRESHOLDS`.
        Returns:
          recall f64[101] and precision f64[101].
        Raises:
          InputError: the threshold is not one of `IOU_THRESHOLDS`, or the class does not exist.
        """
        check_range("label", label, least=0, most=self.precision.shape[2] - 1)
        return RECALL_THRESHOLDS.copy(), self.curves(iou_threshold)[label]


def coco_average_precision(
    detections: DetectionTable,
    objects: ObjectTable,
    *,
    num_classes: int,
    iou_type: str = "bbox",
    sigmas: Sequence[float] = COCO_KEYPOINT_SIGMAS,
    max_detections: int | None = None,
) -> CocoResult:
    """Computes the average precision and recall of COCO.

    In each image and class, the 100 detections (20 for keypoints; `max_detections` if that is
    given) of highest score are matched one after the other, from the highest score to the lowest
    (of equal scores, the first row comes first). Each takes the free object of highest IoU (of
    equal ones, the last row), if the IoU is at least the threshold. A crowd stays free when it is
    taken. Crowds and objects of another size are only taken if no other object can be, and such a
    match does not count. A detection of another size that has no match does not count either. (A
    box with x2 < x1 or y2 < y1, but not both, belongs to no size, so it never counts, as in
    pycocotools.) Precision and recall are then computed over the detections of a class from the
    highest score to the lowest (equal scores by image id, then row).

    For keypoints, the IoU of a pair is its object keypoint similarity (see
    `paired_keypoint_similarity`), and the size of a detection is the area of the box around its
    keypoints. Objects without a labelled keypoint do not count.

    Args:
      detections: the detections in all images.
      objects: the objects in all images; `difficult` is not used.
      num_classes: K; labels are 0..K - 1.
      iou_type: "bbox" (IoU and size of a detection from its box), "segm" (from its mask) or
        "keypoints".
      sigmas: standard deviations of the keypoints, used for keypoints only; the default has those
        of COCO's 17.
      max_detections: compute precision and recall of so many detections of one class in an image
        too, at least 100, for boxes and masks alone: 1000 is usual for region proposals, of which
        "AR1000" is reported. COCO's own numbers do not depend on it.
    Returns:
      precision and recall.
    Raises:
      InputError: a label is outside 0..K - 1, iou_type is unknown, masks or keypoints are missing,
        masks have different sizes in one image, there is not one sigma for each keypoint, or
        max_detections is too small or given for keypoints.
    Source: Lin et al., Microsoft COCO: Common Objects in Context, 2014; cocodataset.org, detection
      evaluation and keypoint evaluation.
    """
    check_choice("iou_type", iou_type, tuple(LIMITS))
    areas, most = LIMITS[iou_type]
    if max_detections is not None:
        if iou_type == "keypoints":  # of which "AR50" is the recall at an IoU of 0.5
            raise InputError(
                f"max_detections is {max_detections}, but iou_type is 'keypoints': leave it out"
            )
        check_range("max_detections", max_detections, least=most[-1])
        most = tuple(dict.fromkeys((*most, max_detections)))
    groups = _first_ranks(group(detections, objects, num_classes), most[-1])
    ignored = objects.crowd
    if iou_type == "segm":
        _check_given("masks", detections, objects)
        detection_areas = detections.masks.areas().astype(np.float64)
        pairs = _near_masks(groups, detections, objects)
    elif iou_type == "keypoints":
        _check_given("keypoints", detections, objects)
        _check_sigmas(sigmas, detections, objects)
        detection_areas = keypoint_areas(detections.keypoints)
        pairs = _near_keypoints(groups, detections, objects, sigmas)
        ignored = ignored | ~(objects.keypoints[..., 2] > 0).any(axis=1)
    else:
        detection_areas = box_areas(detections.boxes)
        pairs = _near_boxes(groups, detections, objects)
    counts = _of_size(_object_areas(objects), areas) & ~ignored[:, None]
    # From here on the detections of a class are in the order of their scores.
    labels = detections.labels[groups.detections]
    order = groups.by_class(labels)
    matches = match_pairs(
        reordered(pairs, order),
        groups.detection_groups[order],
        counts=counts[groups.objects],
        crowd=objects.crowd[groups.objects],
    )
    precision, recall = accumulate(
        matches,
        labels=labels,
        ranks=groups.ranks()[order],
        of_size=_of_size(detection_areas[groups.detections[order]], areas),
        totals=_objects_per_class(objects.labels, counts, num_classes),
        max_detections=most,
    )
    return CocoResult(precision, recall, iou_type, max_detections)


def _first_ranks(groups: Groups, most: int) -> Groups:
    """Removes the detections of rank `most` or more, which never count."""
    kept = groups.ranks() < most
    if kept.all():
        return groups
    return groups._replace(
        detections=groups.detections[kept],
        detection_groups=groups.detection_groups[kept],
        score_ranks=groups.score_ranks[kept],
    )


def _near_boxes(groups: Groups, detections: DetectionTable, objects: ObjectTable) -> Pairs:
    def iou(detection: np.ndarray, object_: np.ndarray) -> np.ndarray:
        first, second = groups.detections[detection], groups.objects[object_]
        return paired_box_iou(detections.boxes[first], objects.boxes[second], objects.crowd[second])

    return _near(groups, iou)


def _near_masks(groups: Groups, detections: DetectionTable, objects: ObjectTable) -> Pairs:
    crowd = objects.crowd[groups.objects]

    def iou(detection: np.ndarray, object_: np.ndarray) -> np.ndarray:
        used, first = np.unique(detection, return_inverse=True)
        used_objects, second = np.unique(object_, return_inverse=True)
        return paired_run_length_iou(
            detections.masks.take(groups.detections[used]),
            objects.masks.take(groups.objects[used_objects]),
            first,
            second,
            crowd[used_objects],
            least=IOU_THRESHOLDS[0],
        )

    return _near(groups, iou)


def _near_keypoints(
    groups: Groups, detections: DetectionTable, objects: ObjectTable, sigmas: Sequence[float]
) -> Pairs:
    predicted, target = detections.keypoints[groups.detections], objects.keypoints[groups.objects]
    boxes, areas = objects.boxes[groups.objects], _object_areas(objects)[groups.objects]

    def similarity(detection: np.ndarray, object_: np.ndarray) -> np.ndarray:
        return paired_keypoint_similarity(
            predicted[detection], target[object_], boxes[object_], areas[object_], sigmas
        )

    return _near(groups, similarity)


def _near(groups: Groups, iou_of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Pairs:
    """Finds the pairs with an IoU of at least 0.5, in blocks, because there may be very many.

    Args:
      groups: the groups of both tables.
      iou_of: positions in the groups' detections and objects, i64[P] each -> their IoUs, f64[P].
    """
    blocks = [Pairs(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.float64)))]
    for detection, object_ in groups.pairs():
        if detection.size:
            iou = iou_of(detection, object_)
            near = iou >= IOU_THRESHOLDS[0]
            blocks.append(Pairs(detection[near], object_[near], iou[near]))
    return Pairs(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _object_areas(objects: ObjectTable) -> np.ndarray:
    if objects.area is not None:
        return objects.area
    if objects.masks is not None:
        return objects.masks.areas().astype(np.float64)
    return box_areas(objects.boxes)


def _of_size(areas: np.ndarray, sizes: Mapping[str, tuple[float, float]]) -> np.ndarray:
    """Returns whether areas belong to each size: f64[N] -> bool[N, A]."""
    least, most = np.array(list(sizes.values()), np.float64).T
    return (least <= areas[:, None]) & (areas[:, None] <= most)


def _objects_per_class(labels: np.ndarray, counts: np.ndarray, num_classes: int) -> np.ndarray:
    """How many objects of each class count for each size: i64[K, A]."""
    return np.stack(
        [np.bincount(labels[which], minlength=num_classes) for which in counts.T], axis=1
    )


def _check_given(name: str, detections: DetectionTable, objects: ObjectTable) -> None:
    for what, table in (("detections", detections), ("objects", objects)):
        if getattr(table, name) is None:
            raise InputError(f"{what} have no {name}: add {name}, or choose iou_type 'bbox'")


def _check_sigmas(
    sigmas: Sequence[float], detections: DetectionTable, objects: ObjectTable
) -> None:
    for name, table in (("detections", detections), ("objects", objects)):
        count = table.keypoints.shape[1]
        if count != len(sigmas):
            raise InputError(
                f"sigmas has {len(sigmas)} elements, but {name} have {count} keypoints: give one "
                "for each"
            )
    for sigma in sigmas:
        check_range("an element of sigmas", sigma, more_than=0, less_than=math.inf)


def _threshold_index(iou_threshold: float) -> int:
    near = np.flatnonzero(np.isclose(IOU_THRESHOLDS, iou_threshold))
    if not near.size:
        choices = ", ".join(f"{threshold:.2f}" for threshold in IOU_THRESHOLDS)
        raise InputError(f"iou_threshold is {iou_threshold}: choose one of {choices}")
    return int(near[0])


def _mean(x: np.ndarray) -> float:
    """Returns the mean of the values that are not NaN, or NaN if there are none."""
    existing = x[~np.isnan(x)]
    return float(existing.mean()) if existing.size else float("nan")
