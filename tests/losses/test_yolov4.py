"""YOLOv4's loss: by hand, against plain loops, and its gradients against Darknet's deltas."""

import functools
import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import yolov4_loss
from tests.losses.test_yolo import normal, truth
from tests.reference import losses_yolov4 as reference

# The last anchor is the best of large objects, but of no map; one is of two maps.
ANCHORS = np.float32([[10, 14], [23, 12], [30, 40], [90, 90]])
OPTIONS = {
    "strides": (24, 12),
    "masks": ((2, 1), (0, 1)),
    "scale_x_y": (1.05, 1.2),
    "iou_threshold": 0.3,
    "ignore_threshold": 0.2,
}


def arrays_of(seed):
    rng = np.random.default_rng(seed)
    logits = [normal(rng, 4, 5, 2, 8), normal(rng, 8, 10, 2, 8)]
    return logits, *truth(rng), ANCHORS


@functools.cache
def compiled(options):
    def total(*arrays):
        terms = yolov4_loss(*arrays, **dict(options))
        return sum(total for total, _ in terms.values()), terms

    return jax.jit(jax.grad(total, (0, 1, 4), has_aux=True))


def evaluate(arrays, options):
    """(totals by name, gradients by the logits)."""
    (slopes, *others), terms = jax.device_get(compiled(tuple(options.items()))(*arrays))
    assert not any(slope.any() for slope in others), "no gradient flows to boxes and anchors"
    assert all(weight == 1 for _, weight in terms.values())
    return {name: float(total) for name, (total, _) in terms.items()}, slopes


def by_hand(box=(2, 2, 8, 8)):
    """A map of 2 x 2 cells of 10 pixels, two anchors, 3 classes, all logits 0; one object."""
    logits = [np.zeros((2, 2, 2, 8), "f4")]
    boxes = np.float32([box, [0, 0, 0, 0]])
    anchors = np.float32([[6, 6], [12, 3]])
    return logits, boxes, np.int32([1, 0]), np.array([True, False]), anchors


HAND = {"strides": (10,), "masks": ((0, 1),)}


def test_the_example_by_hand():
    # The first anchor fits the object, whose box it has already. The second one overlaps its shape
    # by 6 * 3 / (36 + 36 - 18) = 1 / 3 and is positive too: its box is 12 x 3 at the same centre.
    angle = math.atan(4) - math.atan(1)
    v = 4 / math.pi**2 * angle**2
    ciou = 1 / 3 - v * v / (1 - 1 / 3 + v)
    terms, _ = evaluate(by_hand(), HAND)
    assert terms == pytest.approx(
        {
            "box": 0.07 * (1 - ciou),
            "objectness": 2 * math.log(2),
            "no_objectness": 6 * math.log(2),
            "class": 6 * math.log(2),
        },
        rel=1e-5,
    )
    # With a threshold of exactly its overlap, and above it, only the best anchor is positive.
    terms, _ = evaluate(by_hand(), {**HAND, "iou_threshold": 0.34})
    assert terms["box"] == pytest.approx(0, abs=1e-7)
    assert terms["objectness"] == pytest.approx(math.log(2))


def test_a_predictor_is_ignored_if_it_overlaps_and_may_be_a_class():
    logits, *rest = by_hand()
    options = {**HAND, "iou_threshold": 1.0, "ignore_threshold": 0.3}
    terms, _ = evaluate((logits, *rest), options)
    # The second anchor of the object's cell has an IoU of 1 / 3, and probabilities of 1 / 2.
    assert terms["no_objectness"] == pytest.approx(6 * math.log(2))
    logits[0][..., 5:] = -1.2  # a probability of 0.23
    terms, _ = evaluate((logits, *rest), options)
    assert terms["no_objectness"] == pytest.approx(7 * math.log(2))


def test_several_objects_in_one_place_share_it():
    logits, _, _, _, anchors = by_hand()
    boxes, sure = np.float32([[2, 2, 8, 8], [3, 3, 9, 9], [2, 2, 8, 8]]), np.ones(3, bool)
    options = {**HAND, "iou_threshold": 0.9}
    # Around the second box: IoU 25 / 47, distance 2 / (2 * 49).
    other = 1 - 25 / 47 + 1 / 49
    for labels, classes in (((0, 1, 0), 2), ((1, 1, 1), 1), ((0, 1, 2), 3)):
        terms, (slope,) = evaluate((logits, boxes, np.int32(labels), sure, anchors), options)
        assert terms["box"] == pytest.approx(0.07 * other / classes, rel=1e-5)
        assert terms["objectness"] == pytest.approx(math.log(2), rel=1e-6), "it is one predictor"
        expected = [0.5 - (c in labels) for c in range(3)]
        np.testing.assert_allclose(slope[0, 0, 0, 5:], expected, rtol=1e-6)


def test_an_anchor_of_no_map_takes_the_object_from_all():
    arrays = by_hand()
    terms, _ = evaluate(arrays, {**HAND, "masks": ((1, 1),), "iou_threshold": 0.5})
    assert terms["objectness"] == terms["box"] == 0


def test_labels_are_smoothed():
    logits, *rest = by_hand()
    logits[0][..., 5:] = 2.0
    options = {**HAND, "iou_threshold": 1.0, "label_smoothing": 0.2}
    _, (slope,) = evaluate((logits, *rest), options)
    p = 1 / (1 + math.exp(-2))
    np.testing.assert_allclose(slope[0, 0, 0, 5:], [p - 0.1, p - 0.9, p - 0.1], rtol=1e-5)


def test_the_loss_equals_the_reference():
    for options in ({}, {"squared": True, "label_smoothing": 0.1, "objectness_weight": (0.4, 3.0)}):
        for seed in range(2):
            arrays = arrays_of(seed)
            given = {**OPTIONS, **options}
            expected = reference.yolov4_loss(*arrays, **given)
            terms, _ = evaluate(arrays, given)
            expected = {name: float(total) for name, (total, _) in expected.items()}
            assert terms == pytest.approx(expected, rel=1e-5, abs=1e-6)
            assigned = reference.assign(
                *(arrays[n] for n in (0, 1, 3, 4)), OPTIONS["strides"], OPTIONS["masks"], 0.3
            )
            assert {level for level, *_ in assigned} == {0, 1}
            assert max(map(len, assigned.values())) > 1


@pytest.mark.parametrize("limit", [5.0, 0.01])
def test_darknets_gradient_is_its_deltas_and_the_value_is_the_same(limit):
    given = {**OPTIONS, "box_gradient": "darknet", "max_delta": limit}
    for seed in range(2):
        arrays = arrays_of(seed)
        terms, slopes = evaluate(arrays, given)
        exact, others = evaluate(arrays, OPTIONS)
        assert terms == pytest.approx(exact, rel=1e-6)
        deltas = reference.yolov4_deltas(*arrays, **OPTIONS, max_delta=limit)
        chex.assert_trees_all_close([-x for x in slopes], deltas, atol=2e-5)
        assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(slopes, others, strict=True))
        for a, b in zip(slopes, others, strict=True):
            np.testing.assert_allclose(a[..., 4:], b[..., 4:], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("gradient", ["exact", "darknet"])
def test_forward_derivatives_equal_those_of_the_gradient(gradient):
    logits, *rest = arrays_of(0)
    along = jax.tree.map(lambda x: np.sin(np.arange(x.size).reshape(x.shape)).astype("f4"), logits)

    @jax.jit
    def derivatives(logits):
        def total(logits):
            terms = yolov4_loss(logits, *rest, **OPTIONS, box_gradient=gradient)
            return sum(total for total, _ in terms.values())

        slopes = jax.grad(total)(logits)
        products = jax.tree.map(lambda a, b: (a * b).sum(), slopes, along)
        return jax.jvp(total, (logits,), (along,))[1], sum(products)

    forward, backward = derivatives(jax.tree.map(jnp.asarray, logits))
    np.testing.assert_allclose(forward, backward, rtol=1e-4)


def test_what_does_not_fit_is_refused():
    logits, *rest = by_hand()
    for options, message in (
        ({"masks": ((0, 1), (1,))}, "1 maps of logits, 2 masks, 1 strides, 1 of scale_x_y"),
        ({"masks": ((0, 2),)}, r"masks\[0\] is \(0, 2\): the anchors are 0 to 1"),
        ({"squared": True, "box_gradient": "darknet"}, "box_gradient is 'darknet', which is"),
        ({"box_gradient": "pytorch"}, "box_gradient is 'pytorch': choose one of exact, darknet"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(partial(yolov4_loss, **{**HAND, **options}), logits, *rest)
