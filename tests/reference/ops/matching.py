"""Matching in plain loops, one anchor and one pair at a time."""

import math

import jax
import numpy as np

from tests.reference.ops.anchors import iou as shape_iou
from tests.reference.ops.boxes import iou as box_iou

NEGATIVE, IGNORE = -1, -2


def match_anchors(iou, gt_mask, *, high_threshold, low_threshold, forced="none"):
    count = len(iou)
    real = [g for g in range(len(gt_mask)) if gt_mask[g]]
    matches = np.full(count, NEGATIVE, np.int32)
    nearest = [max(real, key=lambda g: (iou[n][g], -g)) if real else None for n in range(count)]
    for n in range(count if real else 0):
        best = iou[n][nearest[n]]
        if best >= high_threshold:
            matches[n] = nearest[n]
        elif best >= low_threshold:
            matches[n] = IGNORE
    if forced in ("ties", "all_ties"):
        for g in real:
            highest = max((iou[n][g] for n in range(count)), default=0)
            for n in range(count):
                if iou[n][g] == highest and (highest > 0 or forced == "all_ties"):
                    matches[n] = nearest[n]
    if forced == "best" and count:
        for g in real:
            matches[max(range(count), key=lambda n: (iou[n][g], -n))] = g
    if forced == "bipartite":
        pairs = sorted((-iou[n][g], g, n) for g in real for n in range(count) if iou[n][g] > 0)
        taken, served = set(), set()
        for _, g, n in pairs:
            if g not in served and n not in taken:
                served.add(g)
                taken.add(n)
                matches[n] = g
    return matches


def match_boxes(anchors, boxes, gt_mask, **options):
    iou = np.array([[box_iou(anchor, box) for box in boxes] for anchor in anchors])
    return match_anchors(iou.reshape(len(anchors), len(boxes)), gt_mask, **options)


def match_points(points, sides, boxes, gt_mask, *, radius=1.5, range_factors=(4, 8)):
    matches = np.full(len(points), NEGATIVE, np.int32)
    for n, ((x, y), side) in enumerate(zip(points.astype(float), sides, strict=True)):
        smallest = math.inf
        for g, (x1, y1, x2, y2) in enumerate(boxes.astype(float)):
            distances = x - x1, y - y1, x2 - x, y2 - y
            apart = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            least = 0 if side == min(sides) else range_factors[0] * side
            most = math.inf if side == max(sides) else range_factors[1] * side
            belongs = min(distances) > 0 and apart < radius * side
            area = (x2 - x1) * (y2 - y1)
            if gt_mask[g] and belongs and least < max(distances) < most and area < smallest:
                matches[n], smallest = g, area
    return matches


def yolov1_responsible(predicted, boxes):
    leading = boxes.shape[:-1]
    result = np.zeros(leading, np.int32)
    for place in np.ndindex(leading):
        ious = [box_iou(p, boxes[place]) for p in predicted[place]]
        if max(ious) > 0:
            result[place] = ious.index(max(ious))
            continue
        x1, y1, x2, y2 = (float(v) for v in boxes[place])
        errors = []
        for a1, b1, a2, b2 in predicted[place].astype(float):
            differences = (
                (a1 + a2) / 2 - (x1 + x2) / 2,
                (b1 + b2) / 2 - (y1 + y2) / 2,
                (a2 - a1) - (x2 - x1),
                (b2 - b1) - (y2 - y1),
            )
            errors.append(math.hypot(*differences))
        result[place] = errors.index(min(errors))
    return result


def best_anchor(shapes, anchors):
    ious = [[shape_iou(s, a) for a in anchors] for s in shapes]
    index = np.array([row.index(max(row)) for row in ious], np.int32)
    return index, np.array([max(row) for row in ious])


def assign_to_grid(rows, columns, anchors, gt_mask, *, grid_size, num_anchors):
    height, width = grid_size
    grid = np.full((height, width, num_anchors), NEGATIVE, np.int32)
    for g, (row, column, anchor) in enumerate(zip(rows, columns, anchors, strict=True)):
        inside = 0 <= row < height and 0 <= column < width and 0 <= anchor < num_anchors
        if gt_mask[g] and inside:
            grid[row, column, anchor] = g
    return grid


def sample_balanced(key, positive, negative, *, size, positive_fraction):
    """Draws with the same random numbers, and is plain otherwise."""
    tickets = np.asarray(jax.random.uniform(key, (len(positive),)))

    def draw(candidates, count):
        order = sorted(candidates, key=lambda n: (-tickets[n], n))[:count]
        return np.array([n in order for n in range(len(positive))], bool)

    positives = [n for n in range(len(positive)) if positive[n]]
    negatives = [n for n in range(len(positive)) if negative[n] and not positive[n]]
    count = min(len(positives), math.floor(size * positive_fraction))
    return draw(positives, count), draw(negatives, size - count)


def mask_to_indices(mask, *, size):
    positions = [n for n in range(len(mask)) if mask[n]][:size]
    missing = size - len(positions)
    return (
        np.array(positions + [0] * missing, np.int32),
        np.array([True] * len(positions) + [False] * missing),
    )


def mine_hard_negatives(loss, positive, negative, *, ratio=3.0, min_negatives=0):
    candidates = [n for n in range(len(loss)) if negative[n] and not positive[n]]
    count = max(math.floor(ratio * sum(bool(p) for p in positive)), min_negatives)
    hardest = sorted(candidates, key=lambda n: (-loss[n], n))[:count]
    return np.array([n in hardest for n in range(len(loss))], bool)
