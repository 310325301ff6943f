"""Matches detections with objects, and accumulates the matches, by the rules of COCO.

For speed, all images, sizes and thresholds are matched at once, and precision is computed at true
positives only. `jaxvision.metrics.coco` describes the rules. There are D detections and G objects,
A sizes, T thresholds of the IoU, R recalls, K classes and M numbers of detections.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.metrics.detection_groups import class_slices, runs
from jaxvision.ops.run_lengths import concatenated_ranges

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0, 1, 101)


class Pairs(NamedTuple):
    """Pairs of a detection and an object of its group with an IoU of at least 0.5."""

    detection: np.ndarray  # i64[P], ascending
    object: np.ndarray  # i64[P]
    iou: np.ndarray  # f64[P]


class Matches(NamedTuple):
    """The matches of the detections that have a pair; all other detections have no match."""

    detection: np.ndarray  # i64[C], ascending
    matched: np.ndarray  # bool[A, T, C], matched with an object
    positive: np.ndarray  # bool[A, T, C], matched with an object that counts


def reordered(pairs: Pairs, order: np.ndarray) -> Pairs:
    """Puts detections into another order: i64[D], the old position of each; and with it the pairs.

    Pairs of one detection keep their order.
    """
    places = np.empty_like(order)
    places[order] = np.arange(order.size)
    detection = places[pairs.detection]
    rows = np.argsort(detection, kind="stable")
    return Pairs(detection[rows], pairs.object[rows], pairs.iou[rows])


def match_pairs(
    pairs: Pairs, detection_groups: np.ndarray, *, counts: np.ndarray, crowd: np.ndarray
) -> Matches:
    """Matches the detections with the objects, for all groups, sizes and thresholds at once.

    Args:
      pairs: pairs of D detections and G objects. A detection comes before those of the same group
        that have lower scores.
      detection_groups: i64[D].
      counts: bool[G, A], whether an object counts for a size.
      crowd: bool[G].
    """
    starts, sizes = runs(pairs.detection)
    detection, object_ = pairs.detection[starts], pairs.object[starts]
    # Nearly all detections have one object, and this object is near no detection that has several.
    contested = np.zeros(len(counts), bool)
    contested[pairs.object[np.repeat(sizes > 1, sizes)]] = True
    alone = ~contested[object_]
    of_thresholds = [
        _first_of_each(object_, alone & (pairs.iou[starts] >= threshold), crowd)
        for threshold in IOU_THRESHOLDS
    ]
    matched = np.repeat(np.stack(of_thresholds)[None], counts.shape[1], axis=0)
    positive = matched & counts[object_].T[:, None]
    rows = np.flatnonzero(~alone)
    if rows.size:
        pairs = Pairs(*(column[np.repeat(~alone, sizes)] for column in pairs))
        groups = detection_groups[detection[rows]]
        taken, counted = _match_in_turn(pairs, groups, counts=counts, crowd=crowd)
        matched[..., rows], positive[..., rows] = taken, counted
    return Matches(detection, matched, positive)


def _first_of_each(object_: np.ndarray, near: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Tells which detections take their object: the first that is near it, of a crowd all.

    Args:
      object_: i64[C], the object of each detection.
      near: bool[C], whether the detection may take it.
      crowd: bool[G].
    Returns:
      bool[C].
    """
    rows = np.flatnonzero(near)
    first = np.empty(crowd.size, np.int64)
    first[object_[rows[::-1]]] = rows[::-1]  # of several values, the last one stays
    taken = np.zeros(near.size, bool)
    taken[rows] = (first[object_[rows]] == rows) | crowd[object_[rows]]
    return taken


def _match_in_turn(
    pairs: Pairs, groups: np.ndarray, *, counts: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Matches one detection of each group after the other, for all groups and thresholds at once.

    Args:
      pairs: of C detections, by detection, then object.
      groups: i64[C], of these detections.
      counts: bool[G, A].
      crowd: bool[G].
    Returns:
      bool[A, T, C], bool[A, T, C]: `matched` and `positive` of `Matches`.
    """
    first, sizes = runs(pairs.detection)
    pairs = _rising(pairs, np.flatnonzero(np.repeat(sizes > 1, sizes)))
    by_group = np.argsort(groups, kind="stable")
    group_starts, group_sizes = runs(groups[by_group])
    turn = np.empty_like(by_group)
    turn[by_group] = concatenated_ranges(np.zeros_like(group_starts), group_sizes)
    free = np.ones((*counts.shape, IOU_THRESHOLDS.size), bool)
    positive = np.zeros((groups.size, *free.shape[1:]), bool)
    matched = np.zeros_like(positive)
    splits = np.cumsum(np.bincount(turn))
    for now in np.split(np.argsort(turn, kind="stable"), splits[:-1]):
        # A turn has one detection of a group, so an object is in at most one pair.
        taking = concatenated_ranges(first[now], sizes[now])
        object_ = pairs.object[taking]
        taken = (pairs.iou[taking, None] >= IOU_THRESHOLDS)[:, None, :] & free[object_]
        count = counts[object_][:, :, None]
        # Objects that count are preferred to all others; then a higher IoU is preferred.
        preference = np.arange(taking.size)[:, None, None] + taking.size * count
        preference = np.where(taken, preference, -1)
        starts = np.cumsum(sizes[now]) - sizes[now]
        best = np.maximum.reduceat(preference, starts, axis=0)
        taken &= preference == np.repeat(best, sizes[now], axis=0)
        positive[now] = np.logical_or.reduceat(taken & count, starts, axis=0)
        matched[now] = np.logical_or.reduceat(taken, starts, axis=0)
        free[object_] &= ~taken | crowd[object_][:, None, None]
    return matched.transpose(1, 2, 0), positive.transpose(1, 2, 0)


def _rising(pairs: Pairs, several: np.ndarray) -> Pairs:
    """Sorts the pairs of each detection from the lowest IoU to the highest.

    Args:
      pairs: by detection, then object.
      several: i64[S], the pairs of the detections that have more than one.
    """
    order = np.arange(pairs.iou.size)
    columns = (column[several] for column in (pairs.object, pairs.iou, pairs.detection))
    order[several] = several[np.lexsort(tuple(columns))]
    return Pairs(*(column[order] for column in pairs))


def accumulate(
    matches: Matches,
    *,
    labels: np.ndarray,
    ranks: np.ndarray,
    of_size: np.ndarray,
    totals: np.ndarray,
    max_detections: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the precision and recall of each class.

    Args:
      matches: the matches among D detections, which come by class, then from the highest score to
        the lowest.
      labels: i64[D], ascending.
      ranks: i64[D], how many detections of the same class and image come before.
      of_size: bool[D, A].
      totals: i64[K, A], numbers of objects.
      max_detections: numbers of detections of one class in one image that count.
    Returns:
      precision f64[T, R, K, A, M] and recall f64[T, K, A, M]; NaN where there are no objects.
    """
    (A, T, _), K = matches.positive.shape, len(totals)
    R, M = RECALL_THRESHOLDS.size, len(max_detections)
    precision, recall = np.zeros((K, M, A, T, R)), np.zeros((K, M, A, T))
    of_size, place = np.ascontiguousarray(of_size.T), matches.detection
    # A detection without a match counts if it has that size, one with a match if its object counts.
    change = matches.positive.view(np.int8) - (matches.matched & of_size[:, None, place])
    needed = [np.stack([_needed(total) for total in of_class]) for of_class in totals.tolist()]
    firsts = np.searchsorted(labels, np.arange(K))
    slices = class_slices(labels[place], K)
    for m, most in enumerate(max_detections):
        within = ranks < most
        counted = np.zeros((A, labels.size + 1), np.int32)
        np.cumsum(of_size & within, axis=1, out=counted[:, 1:])
        for label in np.flatnonzero(totals.any(axis=1)).tolist():
            rows = slices[label].start + np.flatnonzero(within[place[slices[label]]])
            before = counted[:, firsts[label], None]
            precision[label, m], recall[label, m] = _precision_and_recall(
                matches.positive[..., rows],
                change[..., rows],
                counted[:, place[rows] + 1] - before,
                totals[label],
                needed[label],
            )
    precision.swapaxes(1, 2)[totals == 0] = np.nan
    recall.swapaxes(1, 2)[totals == 0] = np.nan
    return precision.transpose(3, 4, 0, 2, 1), recall.transpose(3, 0, 2, 1)


def _precision_and_recall(positive, change, unmatched, totals, needed):
    """Computes precision and recall of one class, with one limit of detections in an image.

    Args:
      positive: bool[A, T, C], which of the C detections that have a pair are matched with an object
        that counts, from the highest score to the lowest.
      change: i8[A, T, C], whether one of them counts (1), less whether it would without a match.
      unmatched: i32[A, C], how many of all detections up to this one would count without a match.
      totals: i64[A], numbers of objects.
      needed: i64[A, R], how many objects must be found for each recall.
    Returns:
      precision f64[A, T, R] and recall f64[A, T].
    """
    A, T, C = positive.shape
    columns = np.arange(A * T)
    # The positives of each size and threshold, one column after the other.
    places = np.flatnonzero(positive)
    starts = np.searchsorted(places, np.arange(A * T + 1) * C)
    found = np.diff(starts)
    changed = np.concatenate([[0], np.cumsum(change, dtype=np.int32)])
    counted = changed[places + 1] - np.repeat(changed[columns * C], found)
    counted += unmatched.ravel()[places - np.repeat((columns - columns // T) * C, found)]
    # The precision at each of them, and a 0 at the end of each column.
    width = found.max() + 1
    number = np.arange(places.size) - np.repeat(starts[:-1], found)
    highest = np.zeros((A * T, width))
    highest.ravel()[np.repeat(columns * width, found) + number] = (number + 1) / counted
    highest = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
    found, needed = found.reshape(A, T), needed[:, None]
    position = np.where(needed <= found[:, :, None], needed - 1, -1)
    precision = np.take_along_axis(highest.reshape(A, T, width), position, axis=2)
    return precision, found / np.maximum(totals, 1)[:, None]


def _needed(total: int) -> np.ndarray:
    """Returns how many of `total` objects must be found for each recall, at least 1: i64[R]."""
    return np.searchsorted(np.arange(1, total + 1) / total, RECALL_THRESHOLDS) + 1
