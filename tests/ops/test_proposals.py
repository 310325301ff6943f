"""The steps of a two-stage detector: by hand, and equal to plain loops."""

import jax
import numpy as np
import pytest

from jaxvision import ops
from jaxvision.core import InputError
from jaxvision.ops import IGNORE, NEGATIVE
from tests.makers import boxes as random_boxes
from tests.makers import mask, normal
from tests.ops.compiled import compiled
from tests.reference.ops import proposals as reference

generate, sample, postprocess = map(
    compiled, (ops.generate_proposals, ops.sample_proposals, ops.postprocess_detections)
)


def check_same(found, expected):
    for ours, theirs in zip(jax.device_get(found), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_proposals_by_hand():
    # Two maps with boxes that overlap: each map is suppressed by itself. The third box of the first
    # map is outside the image, and the last one of the second map has too low a score.
    anchors = [
        np.float32([[0, 0, 10, 10], [0, 0, 10, 9], [40, 0, 50, 10]]),
        np.float32([[0, 0, 10, 10], [20, 20, 60, 60]]),
    ]
    logits = [np.float32([1, 2, 9]), np.float32([0, -3])]
    zeros = [np.zeros_like(x) for x in anchors]
    how = {"post_nms_top_n": 4, "score_thresh": 0.1}
    boxes, scores, valid = generate(logits, zeros, anchors, np.int32([30, 40]), **how)
    np.testing.assert_array_equal(valid, [True, True, False, False])
    np.testing.assert_array_equal(boxes[:2], [[0, 0, 10, 9], [0, 0, 10, 10]])
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-2)), 0.5, 0, 0], rtol=1e-6)
    assert not boxes[2:].any()


OPTIONS = {
    "pre_nms_top_n": 9,
    "post_nms_top_n": 12,
    "nms_thresh": 0.3,
    "score_thresh": 0.3,
    "min_size": 4.0,
}


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["defaults", "options"])
def test_proposals_equal_the_reference(options):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sizes = (30, 12, 4)
        maps = [
            [make(rng) for make in (normal(n, scale=2), normal(n, 4, scale=0.3), random_boxes(n))]
            for n in sizes
        ]
        arrays = [list(x) for x in zip(*maps, strict=True)]
        size = np.int32([50, 60])
        expected = reference.generate_proposals(*arrays, size, **options)
        assert expected[2].sum() > 3
        check_same(generate(*arrays, size, **options), expected)


def test_maps_that_do_not_belong_together():
    one = [np.zeros(3, "f4")]
    with pytest.raises(InputError, match="1 maps of objectness, 0 of deltas and 0 of anchors"):
        ops.generate_proposals(one, [], [], (8, 8))


SAMPLE = {"size": 8, "positive_fraction": 0.5, "iou_threshold": 0.4}


@pytest.mark.parametrize("options", [{"size": 64}, SAMPLE], ids=["all", "some"])
def test_samples_equal_the_reference(options):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        objects, real = random_boxes(4)(rng), np.array([True, False, True, True])
        near = objects[rng.integers(0, 4, 20)] + rng.normal(scale=2, size=(20, 4))
        arrays = near.astype("f4"), mask(20)(rng), objects, real
        key = jax.random.key(seed)
        proposals, matches = jax.device_get(sample(key, *arrays, **options))
        check_same((proposals, matches), reference.sample_proposals(key, *arrays, **options))
        first = int(options["size"] * options.get("positive_fraction", 0.25))
        assert (matches[first:] < 0).all()
        assert (matches >= 0).any()
        assert not proposals[matches == IGNORE].any()


def test_a_sample_of_nothing_and_of_an_image_without_objects():
    key, none = jax.random.key(0), np.zeros(3, bool)
    proposals, objects = random_boxes(5)(np.random.default_rng(0)), np.zeros((3, 4), "f4")
    _, matches = sample(key, proposals, np.zeros(5, bool), objects, none, size=6)
    assert (matches == IGNORE).all()
    _, matches = sample(key, proposals, np.ones(5, bool), objects, none, size=6)
    assert (matches[:5] == NEGATIVE).all()
    assert matches[5] == IGNORE


FEW = {
    "score_thresh": 0.2,
    "nms_thresh": 0.3,
    "detections_per_img": 5,
    "max_candidates": 12,
    "min_size": 4.0,
}


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("options", [{"detections_per_img": 30}, FEW], ids=["many", "few"])
def test_detections_equal_the_reference(options, agnostic):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        deltas = normal(15, 4) if agnostic else normal(15, 4, 4)
        arrays = [make(rng) for make in (normal(15, 4, scale=2), deltas, random_boxes(15))]
        arrays += [rng.random(15) < 0.8, np.int32([50, 60])]
        expected = reference.postprocess_detections(*arrays, **options)
        assert expected[3].sum() > 3
        check_same(postprocess(*arrays, **options), expected)
