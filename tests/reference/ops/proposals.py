"""The steps of a two-stage detector in plain loops, one box at a time."""

import math

import numpy as np

from tests.reference.ops.box_coding import decode_boxes
from tests.reference.ops.boxes import iou
from tests.reference.ops.matching import IGNORE, NEGATIVE, sample_balanced


def _clipped(box, image_size):
    height, width = (float(side) for side in image_size)
    x1, y1, x2, y2 = (float(x) for x in box)
    inside = [min(max(x1, 0), width), min(max(y1, 0), height)]
    return np.array([*inside, min(max(x2, 0), width), min(max(y2, 0), height)])


def _suppressed(found, nms_thresh, most):
    """The best of (score, class, box), each class by itself; of equal scores the first ones."""
    kept = []
    for score, label, box in sorted(found, key=lambda x: -x[0]):
        rivals = (other for _, others_label, other in kept if others_label == label)
        if len(kept) < most and not any(iou(box, other) > nms_thresh for other in rivals):
            kept.append((score, label, box))
    return kept


def generate_proposals(
    objectness,
    deltas,
    anchors,
    image_size,
    *,
    pre_nms_top_n=1000,
    post_nms_top_n=1000,
    nms_thresh=0.7,
    score_thresh=0.0,
    min_size=1e-3,
):
    found, total = [], 0
    for level, logits in enumerate(objectness):
        best = sorted(range(len(logits)), key=lambda n: (-logits[n], n))[:pre_nms_top_n]
        total += len(best)
        for n in best:
            box = decode_boxes(deltas[level][n : n + 1], anchors[level][n : n + 1])[0]
            box = _clipped(box, image_size)
            score = 1 / (1 + math.exp(-float(logits[n])))
            if min(box[2:] - box[:2]) >= min_size and score >= score_thresh:
                found.append((score, level, box))
    count = min(post_nms_top_n, total)
    kept = _suppressed(found, nms_thresh, count)
    boxes, scores = np.zeros((count, 4)), np.zeros(count)
    for n, (score, _, box) in enumerate(kept):
        boxes[n], scores[n] = box, score
    return boxes, scores, np.arange(count) < len(kept)


def sample_proposals(
    key,
    proposals,
    proposal_mask,
    boxes,
    box_mask,
    *,
    size=512,
    positive_fraction=0.25,
    iou_threshold=0.5,
):
    candidates = [*proposals, *boxes]
    real = [*proposal_mask, *box_mask]
    matches = np.full(len(candidates), IGNORE)
    for n, box in enumerate(candidates):
        overlaps = {g: iou(box, boxes[g]) for g in range(len(boxes)) if box_mask[g]}
        best = max(overlaps, key=lambda g, x=overlaps: (x[g], -g), default=None)
        if real[n]:
            found = best is not None and overlaps[best] >= iou_threshold
            matches[n] = best if found else NEGATIVE
    positive, negative = sample_balanced(
        key, matches >= 0, matches == NEGATIVE, size=size, positive_fraction=positive_fraction
    )
    chosen = [*np.flatnonzero(positive), *np.flatnonzero(negative)]
    result, of = np.zeros((size, 4)), np.full(size, IGNORE)
    for n, place in enumerate(chosen):
        result[n], of[n] = candidates[place], matches[place]
    return result, of


def postprocess_detections(
    class_logits,
    box_regression,
    proposals,
    proposal_mask,
    image_size,
    *,
    score_thresh=0.05,
    nms_thresh=0.5,
    detections_per_img=100,
    max_candidates=None,
    min_size=1e-2,
):
    found = []
    for n, logits in enumerate(class_logits.astype(float)):
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        for label in range(len(logits) - 1) if proposal_mask[n] else ():
            deltas = box_regression[n]
            deltas = deltas[label + 1] if deltas.ndim == 2 else deltas
            box = decode_boxes(deltas[None], proposals[n : n + 1], weights=(10, 10, 5, 5))[0]
            box = _clipped(box, image_size)
            if min(box[2:] - box[:2]) >= min_size and shares[label + 1] > score_thresh:
                found.append((shares[label + 1], label, box))
    found = sorted(found, key=lambda x: -x[0])[:max_candidates]
    kept = _suppressed(found, nms_thresh, detections_per_img)
    boxes, scores = np.zeros((detections_per_img, 4)), np.zeros(detections_per_img)
    labels = np.zeros(detections_per_img, int)
    for n, (score, label, box) in enumerate(kept):
        boxes[n], scores[n], labels[n] = box, score, label
    return boxes, scores, labels, np.arange(detections_per_img) < len(kept)
