"""Losses of detectors in plain python floats, one predictor, default box or proposal at a time."""

import math

import numpy as np

from tests.reference.ops import box_coding, matching
from tests.reference.ops.boxes import area, iou, pairwise
from tests.reference.ops.keypoints import keypoint_cells


def _terms(**totals):
    return {name: (np.array(float(total)), np.array(1.0)) for name, total in totals.items()}


def _per(per, count, **totals):
    """The terms of sums over an image with a number of positives."""
    if per == "batch":
        return {n: (np.array(float(x)), np.array(float(count))) for n, x in totals.items()}
    return _terms(**{name: total / max(count, 1) for name, total in totals.items()})


def _objects(boxes, box_mask):
    return [g for g in range(len(boxes)) if box_mask[g] and area(boxes[g]) > 0]


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def _binary_cross_entropy(x, target):
    """-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))"""
    return math.log1p(math.exp(-abs(x))) + max(x, 0) - x * target


def _cross_entropy(logits, label):
    highest = max(logits)
    return highest + math.log(sum(math.exp(x - highest) for x in logits)) - logits[label]


def _smooth_l1(differences, beta):
    total = 0.0
    for d in differences:
        total += d * d / (2 * beta) if abs(d) < beta else abs(d) - beta / 2
    return total


# YOLO


def _signed_root(x):
    return x / 1e-3 if abs(x) < 1e-6 else math.copysign(math.sqrt(abs(x)), x)


def yolov1_loss(
    coordinates,
    confidence,
    class_scores,
    boxes,
    labels,
    box_mask,
    *,
    image_size,
    lambda_coord=5.0,
    lambda_noobj=0.5,
    predicts_roots=True,
):
    coordinates = np.array(coordinates, float)
    roots = coordinates.copy()
    if not predicts_roots:
        for place in np.ndindex(coordinates.shape[:3]):
            for n in (2, 3):
                size = coordinates[(*place, n)]
                roots[(*place, n)] = _signed_root(size)
                coordinates[(*place, n)] = math.sqrt(max(size, 0.0))
    decoded = box_coding.decode_yolov1(coordinates, image_size=image_size)
    height, width, num_boxes, _ = coordinates.shape
    grid = {"grid_size": (height, width), "image_size": image_size}

    object_of = {}
    for g in _objects(boxes, box_mask):
        (row,), (column,) = box_coding.cell_index(boxes[g : g + 1], **grid)
        object_of[int(row), int(column)] = g
    xy = wh = found = empty = classes = 0.0
    for row, column in np.ndindex(height, width):
        cell = row, column
        g = object_of.get(cell)
        chosen = None
        if g is not None:
            truth = np.asarray(boxes[g], float)
            chosen = int(matching.yolov1_responsible(decoded[cell], truth))
            target = box_coding.encode_yolov1(truth, **grid)
            x, y, w, h = (float(r - t) for r, t in zip(roots[(*cell, chosen)], target, strict=True))
            xy += x**2 + y**2
            wh += w**2 + h**2
            found += (
                float(confidence[(*cell, chosen)]) - iou(decoded[(*cell, chosen)], truth)
            ) ** 2
            scores = class_scores[cell]
            for c, score in enumerate(scores if np.ndim(scores) == 1 else scores[chosen]):
                classes += (float(score) - (c == labels[g])) ** 2
        for j in range(num_boxes):
            if j != chosen:
                empty += float(confidence[(*cell, j)]) ** 2
    return _terms(
        **{
            "xy": lambda_coord * xy,
            "wh": lambda_coord * wh,
            "objectness": found,
            "no_objectness": lambda_noobj * empty,
            "class": classes,
        }
    )


class _Responsible:
    """One predictor's object, and what it should predict for it."""

    def __init__(self, box, label, anchor, row, column, stride, image_area, constrained):
        x1, y1, x2, y2 = (float(v) for v in box)
        self.box, self.label = box, int(label)
        self.classes = {self.label}  # those of the objects it displaces too
        x, y = (x1 + x2) / 2 / stride - column, (y1 + y2) / 2 / stride - row
        if constrained:
            self.x, self.y = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
        else:
            self.x, self.y = ((v - 0.5) * stride / s for v, s in zip((x, y), anchor, strict=True))
        self.w = math.log((x2 - x1) / float(anchor[0]))
        self.h = math.log((y2 - y1) / float(anchor[1]))
        self.balance = 2 - (x2 - x1) * (y2 - y1) / image_area


def assign(logits, boxes, labels, box_mask, anchors, strides, constrained=True):
    """{(level, row, column, anchor): what it is responsible for}.

    Later objects displace others, of which only the classes stay.
    """
    every = [(level, a) for level, of_map in enumerate(anchors) for a in range(len(of_map))]
    result = {}
    for g in _objects(boxes, box_mask):
        w, h = (float(boxes[g][n + 2]) - float(boxes[g][n]) for n in (0, 1))
        overlaps = [iou([0, 0, w, h], [0, 0, *anchors[level][a]]) for level, a in every]
        level, a = every[overlaps.index(max(overlaps))]
        height, width = logits[level].shape[:2]
        stride = strides[level]
        size = height * stride, width * stride
        (row,), (column,) = box_coding.cell_index(
            boxes[g : g + 1], grid_size=(height, width), image_size=size
        )
        area = size[0] * size[1]
        goal = _Responsible(
            boxes[g], labels[g], anchors[level][a], row, column, stride, area, constrained
        )
        place = level, int(row), int(column), a
        if place in result:
            goal.classes |= result[place].classes
        result[place] = goal
    return result


def _predictors(logits, boxes, labels, box_mask, anchors, strides, constrained=True):
    """Of each predictor: its logits, its object or None, IoUs with that and with the best."""
    assigned = assign(logits, boxes, labels, box_mask, anchors, strides, constrained)
    objects = _objects(boxes, box_mask)
    for level, of_map in enumerate(logits):
        decoded = box_coding.decode_yolo(
            of_map[..., :4], anchors[level], stride=strides[level], constrained=constrained
        )
        for place in np.ndindex(of_map.shape[:3]):
            goal = assigned.get((level, *place))
            overlap = iou(decoded[place], goal.box) if goal else None
            best = max((iou(decoded[place], boxes[g]) for g in objects), default=0)
            yield (level, *place), [float(t) for t in of_map[place]], goal, overlap, best


def yolov2_loss(
    logits,
    boxes,
    labels,
    box_mask,
    anchors,
    step,
    *,
    stride,
    object_weight=5.0,
    no_object_weight=1.0,
    coordinate_weight=1.0,
    class_weight=1.0,
    ignore_threshold=0.6,
    prior_weight=0.01,
    prior_steps=200,
    constrained=True,
):
    xy = wh = found = empty = classes = prior = 0.0
    for _, t, goal, overlap, best in _predictors(
        [logits], boxes, labels, box_mask, [anchors], [stride], constrained
    ):
        x, y = (_sigmoid(t[0]), _sigmoid(t[1])) if constrained else t[:2]
        middle, objectness = 0.5 if constrained else 0, _sigmoid(t[4])
        if goal:
            xy += goal.balance / 2 * ((x - goal.x) ** 2 + (y - goal.y) ** 2)
            wh += goal.balance / 2 * ((t[2] - goal.w) ** 2 + (t[3] - goal.h) ** 2)
            found += (objectness - overlap) ** 2 / 2
            classes += _cross_entropy(t[5:], goal.label)
            continue
        if best <= ignore_threshold:
            empty += objectness**2 / 2
        if step < prior_steps:
            prior += ((x - middle) ** 2 + (y - middle) ** 2 + t[2] ** 2 + t[3] ** 2) / 2
    return _terms(
        **{
            "xy": coordinate_weight * xy,
            "wh": coordinate_weight * wh,
            "objectness": object_weight * found,
            "no_objectness": no_object_weight * empty,
            "class": class_weight * classes,
            "prior": prior_weight * prior,
        }
    )


def yolov2_deltas(logits, boxes, labels, box_mask, anchors, step, *, stride):
    """What Darknet's region layer hands back: minus the gradient by the logits."""
    deltas = np.zeros(logits.shape)
    for (_, *place), t, goal, overlap, best in _predictors(
        [logits], boxes, labels, box_mask, [anchors], [stride]
    ):
        x, y, objectness = _sigmoid(t[0]), _sigmoid(t[1]), _sigmoid(t[4])
        delta = deltas[tuple(place)]

        def pull(delta, scale, goal_x, goal_y, goal_w, goal_h, t=t, x=x, y=y):
            delta[0] = scale * (goal_x - x) * x * (1 - x)
            delta[1] = scale * (goal_y - y) * y * (1 - y)
            delta[2] = scale * (goal_w - t[2])
            delta[3] = scale * (goal_h - t[3])

        slope = objectness * (1 - objectness)
        if goal:
            pull(delta, goal.balance, goal.x, goal.y, goal.w, goal.h)
            delta[4] = 5 * (overlap - objectness) * slope
            whole = sum(math.exp(v) for v in t[5:])
            for c, v in enumerate(t[5:]):
                delta[5 + c] = (c == goal.label) - math.exp(v) / whole
            continue
        if best <= 0.6:
            delta[4] = -objectness * slope
        if step < 200:
            pull(delta, 0.01, 0.5, 0.5, 0, 0)
    return deltas


def yolov3_loss(logits, boxes, labels, box_mask, anchors, *, strides, ignore_threshold=0.5):
    xy = wh = found = empty = classes = 0.0
    for _, t, goal, _, best in _predictors(logits, boxes, labels, box_mask, anchors, strides):
        if goal:
            xy += goal.balance * _binary_cross_entropy(t[0], goal.x)
            xy += goal.balance * _binary_cross_entropy(t[1], goal.y)
            wh += goal.balance / 2 * ((t[2] - goal.w) ** 2 + (t[3] - goal.h) ** 2)
            found += _binary_cross_entropy(t[4], 1)
            for c, v in enumerate(t[5:]):
                classes += _binary_cross_entropy(v, c in goal.classes)
        elif best <= ignore_threshold:
            empty += _binary_cross_entropy(t[4], 0)
    return _terms(
        **{"xy": xy, "wh": wh, "objectness": found, "no_objectness": empty, "class": classes}
    )


def yolov3_deltas(logits, boxes, labels, box_mask, anchors, *, strides, ignore_threshold=0.5):
    """What Darknet's yolo layer hands back: minus the gradient by the logits."""
    deltas = [np.zeros(of_map.shape) for of_map in logits]
    for (level, *place), t, goal, _, best in _predictors(
        logits, boxes, labels, box_mask, anchors, strides
    ):
        delta = deltas[level][tuple(place)]
        if goal:
            delta[0] = goal.balance * (goal.x - _sigmoid(t[0]))
            delta[1] = goal.balance * (goal.y - _sigmoid(t[1]))
            delta[2] = goal.balance * (goal.w - t[2])
            delta[3] = goal.balance * (goal.h - t[3])
            delta[4] = 1 - _sigmoid(t[4])
            for c, v in enumerate(t[5:]):
                delta[5 + c] = (c in goal.classes) - _sigmoid(v)
        elif best <= ignore_threshold:
            delta[4] = 0 - _sigmoid(t[4])
    return deltas


# SSD and R-CNN


def _deltas(box, anchor, weights):
    return box_coding.encode_boxes(np.array([box]), np.array([anchor]), weights=weights)[0]


def _box_loss(deltas, box, anchor, weights, beta):
    target = _deltas(box, anchor, weights)
    return _smooth_l1([float(d) - t for d, t in zip(deltas, target, strict=True)], beta)


def ssd_multibox_loss(
    logits,
    deltas,
    default_boxes,
    boxes,
    labels,
    box_mask,
    *,
    iou_threshold=0.5,
    negative_ratio=3.0,
    box_weight=1.0,
    forced="bipartite",
    per="batch",
):
    logits = [[float(x) for x in row] for row in logits]
    matches = matching.match_anchors(
        pairwise(iou)(default_boxes, boxes),
        [g in _objects(boxes, box_mask) for g in range(len(boxes))],
        high_threshold=iou_threshold,
        low_threshold=iou_threshold,
        forced=forced,
    )
    matched = [n for n in range(len(logits)) if matches[n] >= 0]
    as_background = sorted(
        (_cross_entropy(logits[n], 0) for n in range(len(logits)) if matches[n] < 0), reverse=True
    )
    classification = sum(as_background[: math.floor(negative_ratio * len(matched))])
    box = 0.0
    for n in matched:
        g = matches[n]
        classification += _cross_entropy(logits[n], labels[g] + 1)
        box += _box_loss(deltas[n], boxes[g], default_boxes[n], (10, 10, 5, 5), 1.0)
    return _per(per, len(matched), classification=classification, box=box_weight * box)


def _focal(logits, label, alpha, gamma):
    """Of one sigmoid for each class; a label of None is no class."""
    total = 0.0
    for k, x in enumerate(logits):
        x = float(x) if k == label else -float(x)
        weight = alpha if k == label else 1 - alpha
        total += weight * _sigmoid(-x) ** gamma * math.log1p(math.exp(-abs(x)))
        total += weight * _sigmoid(-x) ** gamma * max(-x, 0)
    return total


def _one_minus_giou(a, b):
    """Of boxes of which b has an area."""
    hull = [min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]
    overlap = [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]
    union = area(a) + area(b) - area(overlap)
    return 1 - area(overlap) / union + (area(hull) - union) / area(hull)


def retinanet_loss(
    logits,
    deltas,
    anchors,
    boxes,
    labels,
    box_mask,
    *,
    high_threshold=0.5,
    low_threshold=0.4,
    forced="all_ties",
    alpha=0.25,
    gamma=2.0,
    box_loss="l1",
    box_weight=1.0,
    per="image",
):
    matches = matching.match_anchors(
        pairwise(iou)(anchors, boxes),
        [g in _objects(boxes, box_mask) for g in range(len(boxes))],
        high_threshold=high_threshold,
        low_threshold=low_threshold,
        forced=forced,
    )
    classification = box = 0.0
    for n, g in enumerate(matches):
        if g != matching.IGNORE:
            classification += _focal(logits[n], labels[g] if g >= 0 else None, alpha, gamma)
        if g >= 0 and box_loss == "giou":
            anchor = np.array([anchors[n]])
            decoded = box_coding.decode_boxes(np.array([deltas[n]]), anchor)[0]
            box += _one_minus_giou(decoded, boxes[g].astype(float))
        elif g >= 0:
            target = _deltas(boxes[g], anchors[n], (1, 1, 1, 1))
            box += sum(abs(float(d) - t) for d, t in zip(deltas[n], target, strict=True))
    return _per(per, sum(matches >= 0), classification=classification, box=box_weight * box)


def fcos_loss(
    logits,
    distances,
    centerness,
    points,
    sides,
    boxes,
    labels,
    box_mask,
    *,
    radius=1.5,
    alpha=0.25,
    gamma=2.0,
    box_weight=1.0,
    centerness_weight=1.0,
    per="batch",
):
    real = np.array([g in _objects(boxes, box_mask) for g in range(len(boxes))])
    matches = matching.match_points(points, sides, boxes, real, radius=radius)
    classification = box = center = 0.0
    for n, g in enumerate(matches):
        classification += _focal(logits[n], labels[g] if g >= 0 else None, alpha, gamma)
        if g < 0:
            continue
        (x, y), (x1, y1, x2, y2) = points[n].astype(float), boxes[g].astype(float)
        left, top, right, bottom = distances[n].astype(float) * sides[n]
        predicted = [x - left, y - top, x + right, y + bottom]
        box += _one_minus_giou(predicted, [x1, y1, x2, y2])
        across, along = sorted((x - x1, x2 - x)), sorted((y - y1, y2 - y))
        target = math.sqrt(across[0] / across[1] * along[0] / along[1])
        center += _binary_cross_entropy(float(centerness[n]), target)
    return _per(
        per,
        sum(matches >= 0),
        classification=classification,
        box=box_weight * box,
        centerness=centerness_weight * center,
    )


def rpn_loss(
    key,
    objectness,
    deltas,
    anchors,
    boxes,
    box_mask,
    anchor_mask=None,
    *,
    high_threshold=0.7,
    low_threshold=0.3,
    forced="all_ties",
    size=256,
    positive_fraction=0.5,
    box_weight=1.0,
    beta=1 / 9,
    per="batch",
):
    inside = [n for n in range(len(anchors)) if anchor_mask is None or anchor_mask[n]]
    matches = np.full(len(anchors), matching.IGNORE)
    matches[inside] = matching.match_anchors(
        pairwise(iou)(anchors[inside], boxes),
        [g in _objects(boxes, box_mask) for g in range(len(boxes))],
        high_threshold=high_threshold,
        low_threshold=low_threshold,
        forced=forced,
    )
    positive, negative = matching.sample_balanced(
        key,
        matches >= 0,
        matches == matching.NEGATIVE,
        size=size,
        positive_fraction=positive_fraction,
    )
    is_object = box = 0.0
    for n in range(len(anchors)):
        if positive[n]:
            is_object += _binary_cross_entropy(float(objectness[n]), 1)
            box += _box_loss(deltas[n], boxes[matches[n]], anchors[n], (1, 1, 1, 1), beta)
        elif negative[n]:
            is_object += _binary_cross_entropy(float(objectness[n]), 0)
    return _per(per, sum(positive) + sum(negative), objectness=is_object, box=box_weight * box)


def fast_rcnn_loss(
    logits, deltas, proposals, matches, boxes, labels, *, beta=1.0, box_weight=1.0, per="batch"
):
    classification = box = counted = 0.0
    for n, g in enumerate(matches):
        if g == matching.IGNORE:
            continue
        counted += 1
        label = 0 if g == matching.NEGATIVE else int(labels[g]) + 1
        classification += _cross_entropy([float(x) for x in logits[n]], label)
        if label:
            chosen = deltas[n] if np.ndim(deltas) == 2 else deltas[n][label]
            box += _box_loss(chosen, boxes[g], proposals[n], (10, 10, 5, 5), beta)
    return _per(per, counted, classification=classification, box=box_weight * box)


def faster_rcnn_loss(key, objectness, rpn_deltas, anchors, *second, per="batch"):
    *sampled, boxes, labels, box_mask = second
    first = rpn_loss(key, objectness, rpn_deltas, anchors, boxes, box_mask, per=per)
    second = fast_rcnn_loss(*sampled, boxes, labels, beta=1 / 9, per=per)
    return {**{f"rpn_{name}": pair for name, pair in first.items()}, **second}


def keypoint_rcnn_loss(keypoint_logits, proposals, matches, keypoints):
    total, count = 0.0, 0
    for maps, proposal, g in zip(keypoint_logits, proposals, matches, strict=True):
        if g < 0:
            continue
        cells, valid = keypoint_cells(keypoints[g][None], proposal[None], size=len(maps))
        for k in np.flatnonzero(valid[0]):
            logits = [float(x) for x in maps[..., k].ravel()]
            total += math.log(sum(map(math.exp, logits))) - logits[cells[0, k]]
            count += 1
    return _per("batch", count, keypoint=total)
