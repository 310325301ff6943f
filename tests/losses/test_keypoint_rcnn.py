"""The loss of Keypoint R-CNN: by hand, and against torchvision."""

import math

import jax
import numpy as np
import pytest

from jaxvision.losses import keypoint_rcnn_loss
from jaxvision.ops import IGNORE, NEGATIVE
from tests.makers import boxes
from tests.ops.parity import import_torchvision


@jax.jit
def evaluate(*arrays):
    def total(*arrays):
        total, weight = keypoint_rcnn_loss(*arrays)["keypoint"]
        return total, weight

    return jax.value_and_grad(total, (0, 1, 3), has_aux=True)(*arrays)


def example(seed, *, proposals=9, side=6, keypoints=5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(proposals, side, side, keypoints)).astype("f4")
    matches = rng.integers(IGNORE, 3, proposals)
    matches[:3] = [IGNORE, NEGATIVE, 1]
    rois = boxes(proposals)(rng)
    points = rng.uniform(5, 60, (3, keypoints, 2))
    points[1, 0] = rois[2, 2:]  # exactly at a corner
    visibility = rng.integers(0, 3, (3, keypoints, 1))
    visibility[1, 0] = 1
    return logits, rois, matches, np.concatenate([points, visibility], -1).astype("f4")


def test_an_example_by_hand():
    """Maps of 2 x 2 cells with the probabilities 1/2, 1/4, 1/8 and 1/8."""
    logits = np.log(np.float32([4, 2, 1, 1]).reshape(1, 2, 2, 1))
    logits = np.tile(logits, (3, 1, 1, 4))
    proposals = np.float32([[0, 0, 8, 8]] * 3)
    seen = [[1, 1, 2], [5, 1, 1], [8, 8, 2], [9, 1, 2]]  # cells 0, 1 and 3; one is outside
    hidden = [[1, 1, 0]] * 4
    matches = np.int32([1, NEGATIVE, 0])
    (total, weight), _ = evaluate(logits, proposals, matches, np.float32([hidden, seen]))
    assert weight == 3
    assert total == pytest.approx(math.log(2 * 4 * 8), rel=1e-6)


def test_only_logits_that_count_have_a_gradient():
    logits, rois, matches, keypoints = example(0)
    (_, weight), slopes = evaluate(logits, rois, matches, keypoints)
    assert 0 < np.count_nonzero(np.abs(slopes[0]).sum((1, 2))) == weight
    assert not np.any(slopes[0][matches < 0])
    assert not np.any(slopes[1])
    assert not np.any(slopes[2])


@pytest.mark.parametrize("match", [3, 100])
def test_a_match_that_is_none_gives_nan(match):
    logits, rois, matches, keypoints = example(0)
    matches[5] = match
    assert math.isnan(evaluate(logits, rois, matches, keypoints)[0][0])


@pytest.mark.parametrize("match", [NEGATIVE, IGNORE])
def test_an_image_without_objects_costs_nothing(match):
    logits, rois, matches, keypoints = example(0)
    (total, weight), slopes = evaluate(logits, rois, np.full_like(matches, match), keypoints)
    assert total == weight == 0
    assert not np.any(slopes[0])


def test_no_object_is_refused():
    logits, rois, matches, keypoints = example(0)
    with pytest.raises(ValueError, match="the ground truth has 0 rows"):
        keypoint_rcnn_loss(logits, rois, matches, keypoints[:0])


@pytest.mark.parity
def test_it_equals_torchvisions_over_a_batch():
    torch, roi_heads = import_torchvision("models.detection.roi_heads")
    for seed in range(5):
        images = [example([seed, n], proposals=40, side=56, keypoints=17) for n in range(2)]
        images = [
            tuple(x.astype("f8") if x.dtype == "f4" else x for x in image) for image in images
        ]
        positive = [image[2] >= 0 for image in images]
        logits = np.concatenate([image[0][p] for image, p in zip(images, positive, strict=True)])
        given = torch.tensor(logits.transpose(0, 3, 1, 2), requires_grad=True)
        expected = roi_heads.keypointrcnn_loss(
            given.contiguous(),
            [torch.tensor(image[1][p]) for image, p in zip(images, positive, strict=True)],
            [torch.tensor(image[3]) for image in images],
            [torch.tensor(image[2][p]) for image, p in zip(images, positive, strict=True)],
        )
        expected.backward()
        with jax.enable_x64(True):
            found = [jax.device_get(evaluate(*image)) for image in images]
        totals, weights = zip(*(values for values, _ in found), strict=True)
        assert sum(weights) > 10
        assert sum(totals) / sum(weights) == pytest.approx(float(expected), rel=1e-9)
        slopes = [slope[0][p] for (_, slope), p in zip(found, positive, strict=True)]
        np.testing.assert_allclose(
            np.concatenate(slopes) / sum(weights),
            given.grad.numpy().transpose(0, 2, 3, 1),
            rtol=1e-9,
            atol=1e-12,
        )
