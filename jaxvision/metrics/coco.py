"""Average precision and recall as COCO defines them: of boxes, masks and keypoints, on the host.

The results equal those of pycocotools' `COCOeval`, with NaN in place of its -1 for values that do
not exist. For speed, only pairs of a detection and an object with an IoU of at least 0.5 are
considered, all images, sizes and thresholds are matched at once, and precision is computed at true
positives only.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.core import InputError, check_choice, check_range
from jaxvision.metrics.detection_groups import (
    Groups,
    box_areas,
    class_slices,
    group,
    paired_box_iou,
    ranked,
)
from jaxvision.metrics.detection_tables import DetectionTable, ObjectTable
from jaxvision.metrics.keypoints import (
    COCO_KEYPOINT_SIGMAS,
    keypoint_areas,
    paired_keypoint_similarity,
)
from jaxvision.ops import paired_run_length_iou
from jaxvision.ops.run_lengths import concatenated_ranges

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0, 1, 101)
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
    `areas` and `max_detections` of `LIMITS[iou_type]`. Values are NaN for a class without objects
    of that size that count.

    Attributes:
      precision: f64[T, R, K, A, M], the highest precision at this recall or above.
      recall: f64[T, K, A, M], the highest recall.
      iou_type: "bbox", "segm" or "keypoints".
    """

    precision: np.ndarray
    recall: np.ndarray
    iou_type: str = "bbox"

    @property
    def stats(self) -> dict[str, float]:
        """The numbers of COCO, in its order: means over the values that are not NaN.

        There are twelve of boxes and masks, and ten of keypoints.
        """
        sizes, most = list(LIMITS[self.iou_type].areas), LIMITS[self.iou_type].max_detections
        at50, at75 = _threshold_index(0.5), _threshold_index(0.75)

        def precision(iou_thresholds=slice(None), size="all"):
            return _mean(self.precision[iou_thresholds, :, :, sizes.index(size), -1])

        def recall(iou_thresholds=slice(None), size="all", detections=most[-1]):
            return _mean(self.recall[iou_thresholds, :, sizes.index(size), most.index(detections)])

        if self.iou_type == "keypoints":
            recalls = {"AR": recall(), "AR50": recall(at50), "AR75": recall(at75)}
        else:
            recalls = {f"AR{count}": recall(detections=count) for count in most}
        return {
            "AP": precision(),
            "AP50": precision(at50),
            "AP75": precision(at75),
            **{f"AP_{size}": precision(size=size) for size in sizes[1:]},
            **recalls,
            **{f"AR_{size}": recall(size=size) for size in sizes[1:]},
        }

    @property
    def class_ap(self) -> np.ndarray:
        """f64[K], AP of each class for all sizes and most detections, mean over IoU thresholds."""
        return self.precision[:, :, :, 0, -1].mean(axis=(0, 1))

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
        return self.precision[_threshold_index(iou_threshold), :, :, 0, -1].T.copy()

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
) -> CocoResult:
    """Computes the average precision and recall of COCO.

    In each image and class, the 100 detections (20 for keypoints) of highest score are matched one
    after the other, from the highest score to the lowest (of equal scores, the first row comes
    first). Each takes
    the free object of highest IoU (of equal ones, the last row), if the IoU is at least the
    threshold. A crowd stays free when it is taken. Crowds and objects of another size are only
    taken if no other object can be, and such a match does not count. A detection of another size
    that has no match does not count either. (A box with x2 < x1 or y2 < y1, but not both, belongs
    to no size, so it never counts, as in pycocotools.) Precision and recall are then computed over
    the detections of a class from the highest score to the lowest (equal scores by image id, then
    row).

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
    Returns:
      precision and recall.
    Raises:
      InputError: a label is outside 0..K - 1, iou_type is unknown, masks or keypoints are missing,
        masks have different sizes in one image, or there is not one sigma for each keypoint.
    Source: Lin et al., Microsoft COCO: Common Objects in Context, 2014; cocodataset.org, detection
      evaluation and keypoint evaluation.
    """
    check_choice("iou_type", iou_type, tuple(LIMITS))
    areas, max_detections = LIMITS[iou_type]
    groups = _first_ranks(group(detections, objects, num_classes), max_detections[-1])
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
    matches = _match(
        pairs,
        groups.detection_groups,
        counts=counts[groups.objects],
        crowd=objects.crowd[groups.objects],
    )
    return _accumulate(
        matches,
        labels=detections.labels[groups.detections],
        scores=detections.scores[groups.detections],
        ranks=groups.ranks(),
        of_size=_of_size(detection_areas, areas)[groups.detections],
        totals=_objects_per_class(objects.labels, counts, num_classes),
        iou_type=iou_type,
    )


class _Pairs(NamedTuple):
    """Pairs of a detection and an object of its group with an IoU of at least 0.5."""

    detection: np.ndarray  # i64[P], ascending
    object: np.ndarray  # i64[P]
    iou: np.ndarray  # f64[P]


class _Matches(NamedTuple):
    """The matches of the detections that have a pair; all other detections have no match."""

    detection: np.ndarray  # i64[C], ascending
    positive: np.ndarray  # bool[C, A, T], matched with an object that counts
    ignored: np.ndarray  # bool[C, A, T], matched with an object that does not count


def _first_ranks(groups: Groups, most: int) -> Groups:
    """Removes the detections of rank `most` or more, which never count."""
    kept = groups.ranks() < most
    return groups._replace(
        detections=groups.detections[kept], detection_groups=groups.detection_groups[kept]
    )


def _near_boxes(groups: Groups, detections: DetectionTable, objects: ObjectTable) -> _Pairs:
    boxes1, boxes2 = detections.boxes[groups.detections], objects.boxes[groups.objects]
    crowd = objects.crowd[groups.objects]

    def iou(detection: np.ndarray, object_: np.ndarray) -> np.ndarray:
        return paired_box_iou(boxes1[detection], boxes2[object_], crowd[object_])

    return _near(groups, iou)


def _near_masks(groups: Groups, detections: DetectionTable, objects: ObjectTable) -> _Pairs:
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
) -> _Pairs:
    predicted, target = detections.keypoints[groups.detections], objects.keypoints[groups.objects]
    boxes, areas = objects.boxes[groups.objects], _object_areas(objects)[groups.objects]

    def similarity(detection: np.ndarray, object_: np.ndarray) -> np.ndarray:
        return paired_keypoint_similarity(
            predicted[detection], target[object_], boxes[object_], areas[object_], sigmas
        )

    return _near(groups, similarity)


def _near(groups: Groups, iou_of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> _Pairs:
    """Finds the pairs with an IoU of at least 0.5, in blocks, because there may be very many.

    Args:
      groups: the groups of both tables.
      iou_of: positions in the groups' detections and objects, i64[P] each -> their IoUs, f64[P].
    """
    blocks = [_Pairs(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.float64)))]
    for detection, object_ in groups.pairs():
        if detection.size:
            iou = iou_of(detection, object_)
            near = iou >= IOU_THRESHOLDS[0]
            blocks.append(_Pairs(detection[near], object_[near], iou[near]))
    return _Pairs(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


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


def _match(
    pairs: _Pairs, detection_groups: np.ndarray, *, counts: np.ndarray, crowd: np.ndarray
) -> _Matches:
    """Matches one detection of each group after the other, for all groups and thresholds at once.

    Args:
      pairs: pairs of D detections and G objects.
      detection_groups: i64[D], ascending.
      counts: bool[G, A], whether an object counts for a size.
      crowd: bool[G].
    """
    detection, first, sizes = np.unique(pairs.detection, return_index=True, return_counts=True)
    pairs = _rising(pairs, np.flatnonzero(np.repeat(sizes > 1, sizes)))
    groups = detection_groups[detection]
    turn = np.arange(groups.size) - np.searchsorted(groups, groups)
    order = np.argsort(turn, kind="stable")
    free = np.ones((*counts.shape, IOU_THRESHOLDS.size), bool)
    positive = np.zeros((detection.size, *free.shape[1:]), bool)
    ignored = np.zeros_like(positive)
    splits = np.cumsum(np.bincount(turn))
    for now in np.split(order, splits[:-1]):
        # A turn has one detection of a group, so an object is in at most one pair.
        taking = concatenated_ranges(first[now], sizes[now])
        object_ = pairs.object[taking]
        taken = (pairs.iou[taking, None] >= IOU_THRESHOLDS)[:, None, :] & free[object_]
        count = counts[object_][:, :, None]
        if taking.size > now.size:
            # Objects that count are preferred to all others; then a higher IoU is preferred.
            preference = np.arange(taking.size)[:, None, None] + taking.size * count
            preference = np.where(taken, preference, -1)
            starts = np.cumsum(sizes[now]) - sizes[now]
            best = np.maximum.reduceat(preference, starts, axis=0)
            taken &= preference == np.repeat(best, sizes[now], axis=0)
            positive[now] = np.logical_or.reduceat(taken & count, starts, axis=0)
            ignored[now] = np.logical_or.reduceat(taken & ~count, starts, axis=0)
        else:
            positive[now] = taken & count
            ignored[now] = taken & ~count
        free[object_] &= ~taken | crowd[object_][:, None, None]
    return _Matches(detection, positive, ignored)


def _rising(pairs: _Pairs, several: np.ndarray) -> _Pairs:
    """Sorts the pairs of each detection from the lowest IoU to the highest.

    Args:
      pairs: by detection, then object.
      several: i64[S], the pairs of the detections that have more than one.
    """
    order = np.arange(pairs.iou.size)
    columns = (column[several] for column in (pairs.object, pairs.iou, pairs.detection))
    order[several] = several[np.lexsort(tuple(columns))]
    return _Pairs(*(column[order] for column in pairs))


def _accumulate(
    matches: _Matches,
    *,
    labels: np.ndarray,
    scores: np.ndarray,
    ranks: np.ndarray,
    of_size: np.ndarray,
    totals: np.ndarray,
    iou_type: str,
) -> CocoResult:
    """Computes the precision and recall of each class.

    Args:
      matches: the matches among D detections.
      labels: i64[D], ascending.
      scores: f64[D].
      ranks: i64[D], how many detections of the group come before.
      of_size: bool[D, A].
      totals: i64[K, A], numbers of objects.
      iou_type: of the result.
    """
    K, A = totals.shape
    max_detections = LIMITS[iou_type].max_detections
    T, R, M = IOU_THRESHOLDS.size, RECALL_THRESHOLDS.size, len(max_detections)
    precision, recall = np.zeros((T, R, K, A, M)), np.zeros((T, K, A, M))
    order = ranked(labels, scores)
    places = np.empty_like(order)
    places[order] = np.arange(order.size)
    ranks, of_size = ranks[order], of_size[order]
    of_class = zip(class_slices(labels, K), class_slices(labels[matches.detection], K), strict=True)
    for label, (all_, matched) in enumerate(of_class):
        place = places[matches.detection[matched]] - all_.start
        rising = np.argsort(place)
        place = place[rising]
        positive, ignored = matches.positive[matched][rising], matches.ignored[matched][rising]
        rank, sizes = ranks[all_], of_size[all_]
        known = {}  # by the number of detections that are left
        for m, most in enumerate(max_detections):
            within = rank < most
            count = int(within.sum())
            if count not in known:
                kept = within[place]
                known[count] = _precision_and_recall(
                    np.cumsum(within)[place[kept]] - 1,
                    positive[kept],
                    ignored[kept],
                    sizes[within],
                    totals[label],
                )
            precision[..., label, :, m], recall[:, label, :, m] = known[count]
    exists = totals > 0
    return CocoResult(
        precision=np.where(exists[:, :, None], precision, np.nan),
        recall=np.where(exists[:, :, None], recall, np.nan),
        iou_type=iou_type,
    )


def _precision_and_recall(place, positive, ignored, of_size, totals):
    """Computes precision and recall of one class, with one limit of detections in an image.

    Args:
      place: i64[C], ascending; the positions among all D of the detections that have a pair.
      positive: bool[C, A, T], matched with an object that counts.
      ignored: bool[C, A, T], matched with an object that does not count.
      of_size: bool[D, A], whether each detection has each size, from the highest score to the
        lowest.
      totals: i64[A], numbers of objects.
    Returns:
      precision f64[T, R, A] and recall f64[T, A].
    """
    # A detection without a match counts if it has that size, one with a match if its object counts.
    unmatched = of_size[place][:, :, None]
    change = (positive & ~unmatched).astype(np.int8) - (ignored & unmatched)
    counted = np.cumsum(of_size, axis=0, dtype=np.int32)[place][:, :, None]
    counted = counted + np.cumsum(change, axis=0, dtype=np.int32)

    # The precision at the true positives of each size and threshold, and a 0 at the end.
    A, T = positive.shape[1:]
    column, row = np.nonzero(positive.reshape(-1, A * T).T)
    found = np.bincount(column, minlength=A * T)
    number = concatenated_ranges(np.ones_like(found), found)  # of each positive in its column
    highest = np.zeros((A * T, found.max() + 1))
    highest[column, number - 1] = number / counted.reshape(-1, A * T)[row, column]
    highest = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
    found = found.reshape(A, T)
    needed = np.stack([_needed(total) for total in totals])[:, None]
    position = np.where(needed <= found[:, :, None], needed - 1, -1)
    precision = np.take_along_axis(highest.reshape(A, T, -1), position, axis=2)
    return precision.transpose(1, 2, 0), found.T / np.maximum(totals, 1)


def _needed(total: int) -> np.ndarray:
    """Returns how many of `total` objects must be found for each recall, at least 1: i64[R]."""
    return np.searchsorted(np.arange(1, total + 1) / total, RECALL_THRESHOLDS) + 1


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
