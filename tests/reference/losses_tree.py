"""Losses over a tree of classes in plain loops, one prediction at a time."""

import math

import numpy as np

from tests.reference import losses_detection
from tests.reference.ops import word_tree


def _cross_entropy(x, tree, label):
    return -float(word_tree.word_tree_log_probability(np.asarray(x), label, tree=tree))


def word_tree_cross_entropy(logits, target, weight=1.0, *, tree):
    return np.array(weight * _cross_entropy(logits, tree, target)), np.array(float(weight))


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def yolo9000_loss(
    logits,
    boxes,
    labels,
    box_mask,
    anchors,
    step,
    labels_only,
    *,
    tree,
    label_objectness="paper",
    object_weight=5.0,
    no_object_weight=1.0,
    class_weight=1.0,
    **options,
):
    weights = {"object_weight": object_weight, "no_object_weight": no_object_weight}
    if not labels_only:
        truth = boxes, labels, box_mask, anchors
        terms = losses_detection.yolov2_loss(logits, *truth, step, **weights, **options)
        total, how = 0.0, {"strides": [options["stride"]]}
        assigned = losses_detection.assign(
            [logits], boxes, labels, box_mask, [anchors], constrained=True, **how
        )
        for (_, *place), goal in assigned.items():
            total += _cross_entropy(logits[tuple(place)][5:], tree, goal.label)
        return {**terms, "class": (np.array(class_weight * total), np.array(1.0))}

    names = ("xy", "wh", "objectness", "no_objectness", "class", "prior")
    terms = dict.fromkeys(names, 0.0)
    known = [label for label, real in zip(labels, box_mask, strict=True) if real]
    if known:
        label, places = known[0], list(np.ndindex(logits.shape[:3]))
        scores = [
            _sigmoid(logits[place][4]) * math.exp(-_cross_entropy(logits[place][5:], tree, label))
            for place in places
        ]
        best = places[scores.index(max(scores))]
        terms["class"] = class_weight * _cross_entropy(logits[best][5:], tree, label)
        if label_objectness == "paper" and _sigmoid(logits[best][4]) < 0.3:
            terms["objectness"] = object_weight / 2 * (0.3 - _sigmoid(logits[best][4])) ** 2
        if label_objectness == "darknet":
            others = sum(_sigmoid(logits[place][4]) ** 2 for place in places if place != best)
            terms["no_objectness"] = no_object_weight / 2 * others
    return {name: (np.array(total), np.array(1.0)) for name, total in terms.items()}
