"""Losses of the R-CNNs: by hand, against plain loops, and against torchvision."""

import functools
import math
import types

import jax
import numpy as np
import pytest

from jaxvision import losses
from jaxvision.core import divide
from jaxvision.losses import fast_rcnn_loss
from jaxvision.ops import (
    FAST_RCNN_WEIGHTS,
    IGNORE,
    NEGATIVE,
    box_iou,
    encode_boxes,
    match_anchors,
    sample_balanced,
)
from tests.makers import boxes as random_boxes
from tests.marks import slow_but
from tests.ops.parity import import_torchvision
from tests.reference import losses_detection as reference

KEY = jax.random.key(0)


def rpn_loss(key, *arrays, **options):
    return losses.rpn_loss(*arrays, key=key, **options)


def per_image(terms):
    """The terms of a batch of one image: each total, divided by its weight."""
    return {name: (divide(*pair), 1) for name, pair in terms.items()}


CLASSES = 3


@functools.cache
def compiled(loss, options, by):
    def total(*arrays):
        terms = per_image(loss(*arrays, **dict(options)))
        return sum(total for total, _ in terms.values()), terms

    return jax.jit(jax.grad(total, by, has_aux=True))


def evaluate(loss, arrays, by, **options):
    """(totals by name, gradients by some arguments)."""
    slopes, terms = jax.device_get(compiled(loss, tuple(options.items()), by)(*arrays))
    return values(terms), slopes


def values(terms):
    assert all(weight == 1 for _, weight in terms.values())
    return {name: float(total) for name, (total, _) in terms.items()}


def check_reference(loss, arrays, by, **options):
    slow = getattr(reference, loss.__name__)
    expected = values(per_image(slow(*arrays, **options)))
    assert evaluate(loss, arrays, by, **options)[0] == pytest.approx(expected, rel=1e-5)


def normal(rng, *shape):
    return rng.normal(size=shape).astype("f4")


# Region proposals

COUNT = 60
RPN = (1, 2, 3, 4)


def proposals_example(seed):
    rng = np.random.default_rng(seed)
    boxes, mask = random_boxes(5)(rng), np.array([1, 0, 1, 1, 1], bool)
    anchors = random_boxes(COUNT)(rng)
    anchors[:15] = boxes[np.arange(15) % 5] + 1.5 * rng.normal(size=(15, 4))
    scores, deltas = normal(rng, COUNT), normal(rng, COUNT, 4)
    return jax.random.key(seed), scores, deltas, anchors, boxes, mask, np.ones(COUNT, bool)


def proposals_by_hand():
    """One object and four anchors, of which the last ones overlap it by 1/2 and not at all."""
    objectness = np.log(np.float32([3, 1, 7, 1 / 3]))
    deltas = np.zeros((4, 4), "f4")
    deltas[0] = [0.25, 0.3, 0, math.log(2)]
    anchors = np.float32([[0, 0, 4, 4], [9, 9, 12, 12], [0, 0, 4, 16], [20, 20, 30, 30]])
    boxes = np.float32([[0, 0, 4, 8], [9, 9, 12, 12]])
    return KEY, objectness, deltas, anchors, boxes, np.array([True, False])


# IoU is 1/2 with the first and the third anchor: ties, so both are positive. The second and the
# fourth are negative. Sigmoids are 3/4, 1/2, 7/8 and 1/4. The object, encoded, is
# (0, 2 / 4, 0, log 2) for the first anchor and (0, -4 / 16, 0, log 1/2) for the third one.
# Smooth L1 of d is d - 1 / 18 from d = 1 / 9 on. The first anchor's deltas miss by 0.25, 0.2, 0 and
# 0, the others' are 0.
PROPOSALS_BY_HAND = {
    "objectness": (math.log(4 / 3) + math.log(2) + math.log(8 / 7) + math.log(4 / 3)) / 4,
    "box": (0.25 - 1 / 18 + 0.2 - 1 / 18 + 0.25 - 1 / 18 + math.log(2) - 1 / 18) / 4,
}


def test_rpn_of_the_example_by_hand():
    terms, _ = evaluate(rpn_loss, proposals_by_hand(), RPN)
    assert terms == pytest.approx(PROPOSALS_BY_HAND, rel=1e-5)


def test_rpn_trains_no_anchor_that_is_masked():
    arrays = proposals_by_hand()
    arrays[3][2] = [0, 0, 4, 24]  # IoU 1/3: the best of those left
    mask = np.array([False, True, True, True])
    terms, (objectness, deltas, *_) = evaluate(rpn_loss, (*arrays, mask), RPN)
    by_hand = (math.log(2) + math.log(8 / 7) + math.log(4 / 3)) / 3
    assert terms["objectness"] == pytest.approx(by_hand, rel=1e-5)
    # The object, encoded, is (0, -8 / 24, 0, log 1/3).
    assert terms["box"] == pytest.approx((1 / 3 + math.log(3) - 2 / 18) / 3, rel=1e-5)
    assert not objectness[0]
    assert not deltas[0].any()


OPTIONS = {
    "size": 12,
    "positive_fraction": 0.4,
    "high_threshold": 0.6,
    "low_threshold": 0.2,
    "box_weight": 3.0,
    "beta": 0.5,
}


@pytest.mark.parametrize("options", slow_but([{}, OPTIONS], [{}]), ids=["defaults", "options"])
def test_rpn_equals_the_reference(options):
    for seed in range(4):
        check_reference(rpn_loss, proposals_example(seed), RPN, **options)


@functools.partial(jax.jit, static_argnames="size")
def _sample(arrays, size=256):
    """Matches, and which anchors are sampled as positive and as negative."""
    key, _, _, anchors, boxes, mask, _ = arrays
    thresholds = {"high_threshold": 0.7, "low_threshold": 0.3}
    matches = match_anchors(box_iou(anchors, boxes), mask, **thresholds, forced="ties")
    sample = sample_balanced(
        key, matches >= 0, matches == NEGATIVE, size=size, positive_fraction=0.5
    )
    return matches, *sample


@pytest.mark.parametrize("size", slow_but([10, 256], [256]))
def test_gradients_of_rpn_are_zero_where_nothing_is_sampled(size):
    arrays = proposals_example(0)
    _, positive, negative = jax.device_get(_sample(arrays, size=size))
    sampled = positive | negative
    assert positive.any()
    assert sampled.sum() == 10 if size == 10 else 0 < sampled.sum() < COUNT
    options = {"size": 10} if size == 10 else {}
    _, (objectness, deltas, anchors, boxes) = evaluate(rpn_loss, arrays, RPN, **options)
    np.testing.assert_array_equal(objectness != 0, sampled)
    np.testing.assert_array_equal(deltas.any(axis=1), positive)
    assert not anchors.any()
    assert not boxes.any()


def test_rpn_of_an_image_without_objects_learns_background():
    arrays = list(proposals_example(0))
    arrays[4] = np.float32([[9, 9, 1, 1]] * 5)  # padding without area
    arrays[5] = np.zeros(5, bool)
    terms, (objectness, *others) = evaluate(rpn_loss, arrays, RPN)
    np.testing.assert_allclose(terms["objectness"], np.log1p(np.exp(arrays[1])).mean(), rtol=1e-5)
    assert terms["box"] == 0
    assert (objectness > 0).all()
    assert not any(slope.any() for slope in others)


def test_rpn_without_anchors_to_train_costs_nothing():
    *arrays, _ = proposals_example(0)
    arrays.append(np.zeros(COUNT, bool))
    terms, slopes = evaluate(rpn_loss, arrays, RPN)
    assert terms == {"objectness": 0, "box": 0}
    assert not any(slope.any() for slope in slopes)


def test_perfect_proposals_cost_nothing():
    key, _, _, anchors, boxes, *masks = arrays = proposals_example(0)
    matches, _, _ = jax.device_get(_sample(arrays))
    objectness = np.where(matches >= 0, 40, -40).astype("f4")
    deltas = jax.jit(encode_boxes)(boxes[matches], anchors)
    terms, _ = evaluate(rpn_loss, (key, objectness, deltas, anchors, boxes, *masks), RPN)
    assert terms == pytest.approx({"objectness": 0, "box": 0}, abs=1e-9)


@pytest.mark.parity
def test_rpn_equals_torchvisions():
    torch, rpn = import_torchvision("models.detection.rpn")
    for seed in range(4):
        arrays = _, objectness, deltas, anchors, boxes, *_ = proposals_example(seed)
        matches, positive, negative = jax.device_get(_sample(arrays, size=16))
        labels = np.where(matches >= 0, 1, np.where(matches == NEGATIVE, 0, -1)).astype("f4")
        sample = [torch.tensor(positive)], [torch.tensor(negative)]  # the draw is our own
        expected = rpn.RegionProposalNetwork.compute_loss(
            types.SimpleNamespace(fg_bg_sampler=lambda _, sample=sample: sample),
            torch.tensor(objectness),
            torch.tensor(deltas),
            [torch.tensor(labels)],
            [torch.tensor(np.asarray(encode_boxes(boxes[matches], anchors)))],
        )
        terms, _ = evaluate(rpn_loss, arrays, RPN, size=16)
        expected = dict(zip(("objectness", "box"), map(float, expected), strict=True))
        assert terms == pytest.approx(expected, rel=1e-5)


# The boxes' head

ROIS = 12
HEAD = (0, 1, 2, 4)


def head_example(seed, *, agnostic=False):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(5)(rng)
    matches = rng.integers(IGNORE, 5, ROIS)
    matches[:4] = [IGNORE, NEGATIVE, 0, 3]
    proposals = random_boxes(ROIS)(rng)
    deltas = normal(rng, ROIS, *([] if agnostic else [CLASSES + 1]), 4)
    labels = rng.integers(0, CLASSES, 5)
    return normal(rng, ROIS, CLASSES + 1), deltas, proposals, matches, boxes, labels


def head_by_hand():
    """Two classes; an object of the second one, background, and one proposal not sampled."""
    logits = np.log(np.float32([[1, 1, 6], [2, 1, 1], [1, 9, 9]]))
    deltas = np.zeros((3, 3, 4), "f4")
    deltas[0, 2] = [2.5, 3, 0.5, 5 * math.log(2)]
    deltas[0, 1] = deltas[1] = deltas[2] = 100
    proposals = np.float32([[0, 0, 4, 4], [9, 9, 12, 12], [0, 0, 0, 0]])
    boxes = np.float32([[5, 5, 5, 5], [1, 0, 5, 8]])
    return logits, deltas, proposals, np.int32([1, NEGATIVE, IGNORE]), boxes, np.int32([0, 1])


# The object, encoded, is (10 / 4, 20 / 4, 0, 5 log 2): it is missed by 0, 2, 0.5 and 0.
HEAD_BY_HAND = {
    "classification": (math.log(8 / 6) + math.log(4 / 2)) / 2,
    "box": ((2 - 1 / 2) + 0.5**2 / 2) / 2,
}


def test_fast_rcnn_of_the_example_by_hand():
    terms, _ = evaluate(fast_rcnn_loss, head_by_hand(), HEAD)
    assert terms == pytest.approx(HEAD_BY_HAND, rel=1e-5)


@pytest.mark.parametrize(
    ("agnostic", "options"),
    slow_but([(False, {}), (True, {"beta": 0.5, "box_weight": 3.0})], [(False, {})]),
)
def test_fast_rcnn_equals_the_reference(agnostic, options):
    for seed in range(4):
        arrays = head_example(seed, agnostic=agnostic)
        check_reference(fast_rcnn_loss, arrays, HEAD, **options)


def test_gradients_of_fast_rcnn_are_zero_where_nothing_counts():
    arrays = head_example(0)
    *_, matches, _, labels = arrays
    _, (logits, deltas, proposals, boxes) = evaluate(fast_rcnn_loss, arrays, HEAD)
    np.testing.assert_array_equal(logits.any(axis=1), matches != IGNORE)
    trained = np.zeros((ROIS, CLASSES + 1), bool)
    trained[matches >= 0, labels[matches[matches >= 0]] + 1] = True
    np.testing.assert_array_equal(deltas.any(axis=2), trained)
    assert not proposals.any()
    assert not boxes.any()


@pytest.mark.parametrize("match", [5, 100, IGNORE - 1, -100])
def test_a_match_that_is_none_gives_nan(match):
    arrays = list(head_example(0))
    arrays[3][5] = match
    terms, _ = evaluate(fast_rcnn_loss, arrays, HEAD)
    assert math.isnan(terms["classification"])


@pytest.mark.parametrize("match", [NEGATIVE, IGNORE])
def test_fast_rcnn_of_an_image_without_objects(match):
    arrays = list(head_example(0))
    arrays[3] = np.full(ROIS, match)
    arrays[4] = np.zeros((5, 4), "f4")
    terms, (logits, *others) = evaluate(fast_rcnn_loss, arrays, HEAD)
    assert terms["box"] == 0
    assert (terms["classification"] > 0) == logits.any() == (match == NEGATIVE)
    assert np.isfinite(logits).all()
    assert not any(slope.any() for slope in others)


def test_a_perfect_head_costs_nothing():
    _, _, proposals, matches, boxes, labels = head_example(0)
    classes = np.where(matches >= 0, labels[matches] + 1, 0)
    encode = jax.jit(functools.partial(encode_boxes, weights=FAST_RCNN_WEIGHTS))
    deltas = encode(boxes[matches], proposals)
    deltas = np.repeat(np.asarray(deltas)[:, None], CLASSES + 1, axis=1)
    logits = 40 * np.eye(CLASSES + 1, dtype="f4")[classes]
    arrays = logits, deltas, proposals, matches, boxes, labels
    terms, _ = evaluate(fast_rcnn_loss, arrays, HEAD)
    assert terms == pytest.approx({"classification": 0, "box": 0}, abs=1e-9)


@pytest.mark.parity
def test_fast_rcnn_equals_torchvisions():
    torch, roi_heads = import_torchvision("models.detection.roi_heads")
    for seed in range(4):
        arrays = list(head_example(seed))
        arrays[3] = np.maximum(arrays[3], NEGATIVE)  # torchvision hands on what is sampled alone
        logits, deltas, proposals, matches, boxes, labels = arrays
        targets = encode_boxes(boxes[matches], proposals, weights=FAST_RCNN_WEIGHTS)
        expected = roi_heads.fastrcnn_loss(
            torch.tensor(logits),
            torch.tensor(deltas.reshape(ROIS, -1)),
            [torch.tensor(np.where(matches >= 0, labels[matches] + 1, 0))],
            [torch.tensor(np.asarray(targets))],
        )
        terms, _ = evaluate(fast_rcnn_loss, arrays, HEAD, beta=1 / 9)
        expected = dict(zip(("classification", "box"), map(float, expected), strict=True))
        assert terms == pytest.approx(expected, rel=1e-5)
