"""Groups detections and objects by class and image, for the metrics of VOC and COCO."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxvision.core import InputError, check_range
from jaxvision.metrics.detection_tables import DetectionTable, ObjectTable
from jaxvision.ops.run_lengths import concatenated_ranges

_DETECTIONS_AT_ONCE = 2**15


class Groups(NamedTuple):
    """The sorted row numbers of both tables. A group is one class in one image.

    Rows are sorted by class, then by image id. So the rows of a group are adjacent, and the order
    in which images were added does not matter.
    """

    detections: np.ndarray  # i64[D]: rows by class, image, descending score, row
    detection_groups: np.ndarray  # i64[D], ascending
    score_ranks: np.ndarray  # i64[D]: how many different scores of all detections are higher
    objects: np.ndarray  # i64[G]: rows by class, image, row
    object_groups: np.ndarray  # i64[G], ascending

    def ranks(self) -> np.ndarray:
        """Returns i64[D], how many detections of the same group come before each."""
        starts, sizes = runs(self.detection_groups)
        return concatenated_ranges(np.zeros_like(starts), sizes)

    def by_class(self, labels: np.ndarray) -> np.ndarray:
        """Returns i64[D], positions in `detections` by class, descending score, image and row.

        Args:
          labels: i64[D], the class of each of `detections`.
        """
        order = np.empty_like(self.detections)
        for start, size in zip(*(x.tolist() for x in runs(labels)), strict=True):
            of_class = slice(start, start + size)
            order[of_class] = start + _sorted_by(self.score_ranks[of_class], np.arange(size))
        return order

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields all pairs within groups: positions in `detections` and `objects`, i64[P] each.

        The pairs are sorted by detection, then by object. They are yielded in blocks to save
        memory.
        """
        starts, sizes = runs(self.object_groups)
        groups = self.object_groups[starts]
        begins = np.searchsorted(self.detection_groups, groups, side="left")
        counts = np.searchsorted(self.detection_groups, groups, side="right") - begins
        # The detections that have objects in their group, and where and how many these are.
        detection = concatenated_ranges(begins, counts)
        first, sizes = np.repeat(starts, counts), np.repeat(sizes, counts)
        for start in range(0, detection.size, _DETECTIONS_AT_ONCE):
            block = slice(start, start + _DETECTIONS_AT_ONCE)
            yield (
                np.repeat(detection[block], sizes[block]),
                concatenated_ranges(first[block], sizes[block]),
            )


def runs(ascending: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each run of equal numbers starts and how long it is, i64[R] each."""
    starts = np.flatnonzero(np.diff(ascending, prepend=ascending[:1] - 1))
    return starts, np.diff(starts, append=ascending.size)


def group(detections: DetectionTable, objects: ObjectTable, num_classes: int) -> Groups:
    """Groups both tables by class and image.

    Raises:
      InputError: a label is outside 0..num_classes - 1, or num_classes is less than 1.
    """
    check_labels(detections, objects, num_classes)
    detection_keys, object_keys = _keys(detections, objects, num_classes)
    detection_order, score_ranks = ranked(detection_keys, detections.scores)
    object_order = np.argsort(object_keys, kind="stable")
    return Groups(
        detections=detection_order,
        detection_groups=detection_keys[detection_order],
        score_ranks=score_ranks,
        objects=object_order,
        object_groups=object_keys[object_order],
    )


def _keys(
    detections: DetectionTable, objects: ObjectTable, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns i64[D] and i64[G]: numbers of the groups, ascending by class, then by image id."""
    images = [detections.image, objects.image]
    least, most = (f([f(ids, initial=0) for ids in images]) for f in (np.min, np.max))
    width = int(most) - int(least) + 1
    # Sorting multiplies the numbers by those of rows, which must not exceed 64 bits.
    if width * num_classes * 2 * (len(detections) + 1) < 2**63:
        images = [ids - least for ids in images]
    else:
        ids, image = np.unique(np.concatenate(images), return_inverse=True)
        images, width = np.split(image, [len(detections)]), ids.size
    return tuple(
        table.labels * width + image
        for table, image in zip((detections, objects), images, strict=True)
    )


def ranked(keys: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts rows by ascending key, descending score and ascending row.

    The order equals np.lexsort((-scores, keys)), but distinct integers are sorted, for which numpy
    has a much faster algorithm than for a stable sort.

    Args:
      keys: i64[N], at least 0.
      scores: f64[N].
    Returns:
      i64[N], i64[N]: the rows in this order, and how many different scores are higher than that of
      each.
    """
    order = np.argsort(-scores)
    place = np.cumsum(np.diff(scores[order], prepend=scores[order[:1]]) != 0)
    order = _sorted_by(place, order)
    by_key = _sorted_by(keys[order], np.arange(order.size))
    return order[by_key], place[by_key]


def _sorted_by(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sorts `second`, which is a permutation of 0..N - 1, by `first`, and equal ones by itself."""
    bits = max(second.size - 1, 0).bit_length()
    return np.sort((first << bits) | second) & ((1 << bits) - 1)


def check_labels(detections: DetectionTable, objects: ObjectTable, num_classes: int) -> None:
    """Raises InputError if a label is outside 0..num_classes - 1, or num_classes is less than 1."""
    check_range("num_classes", num_classes, least=1)
    for name, table in (("detections", detections), ("objects", objects)):
        wrong = np.flatnonzero(table.labels >= num_classes)
        if wrong.size:
            row = int(wrong[0])
            raise InputError(
                f"labels of {name}, row {row} (image {table.image[row]}) is {table.labels[row]}: "
                f"there are {num_classes} classes, 0 to {num_classes - 1}"
            )


def class_slices(labels: np.ndarray, num_classes: int) -> list[slice]:
    """Returns the slice of each class in ascending labels."""
    splits = np.searchsorted(labels, np.arange(num_classes + 1))
    return [slice(first, after) for first, after in itertools.pairwise(splits)]


def paired_box_iou(
    boxes1: np.ndarray, boxes2: np.ndarray, crowd: np.ndarray | bool = False
) -> np.ndarray:
    """Computes the IoU of each pair; with crowd, the intersection over the first box's area.

    Args:
      boxes1: f64[P, 4], xyxy.
      boxes2: f64[P, 4], xyxy.
      crowd: bool[P] or bool[].
    Returns:
      f64[P]; 0 where the boxes share no area.
    """
    sides = np.minimum(boxes1[:, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, :2], boxes2[:, :2])
    intersection = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0)
    areas1, areas2 = box_areas(boxes1), box_areas(boxes2)
    union = np.where(crowd, areas1, areas1 + areas2 - intersection)
    return intersection / np.where(intersection > 0, union, 1)


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Returns width times height: f64[N, 4] -> f64[N]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
