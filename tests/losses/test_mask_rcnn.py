"""The masks' loss of Mask R-CNN and its targets: by hand, by plain loops, and by torchvision."""

import math

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.losses import mask_rcnn_loss
from jaxvision.losses.mask_rcnn import mask_targets
from jaxvision.ops import IGNORE, NEGATIVE, crop_mask
from jaxvision.testing import check_op
from tests.losses.test_rcnn import CLASSES, evaluate, normal
from tests.makers import boxes as random_boxes
from tests.models.torchvision_ops import import_detection
from tests.reference import losses_masks as reference

ROIS = 12
HEIGHT, WIDTH = 60, 70


def masks_example(seed, *, side=7, rois=ROIS):
    """Proposals in the image: two at its borders, one of the whole image, one of half a pixel."""
    rng = np.random.default_rng(seed)
    matches = rng.integers(IGNORE, 5, rois)
    matches[:6] = [IGNORE, NEGATIVE, 0, 3, 1, 2]
    logits = normal(rng, rois, side, side, CLASSES)
    masks = rng.random((5, HEIGHT, WIDTH)) < 0.5
    proposals = np.minimum(random_boxes(rois)(rng), np.float32([WIDTH, HEIGHT] * 2))
    proposals[2:6] = [[0, 20, 9, 60], [50, 0, 70, 60], [0, 0, 70, 60], [3.2, 4.1, 3.7, 4.6]]
    return logits, proposals, matches, rng.integers(0, CLASSES, 5), masks


def ellipses(rng, count, size):
    """Masks, bool[count, H, W], of which none is empty."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    centre = rng.uniform(0.2, 0.8, (count, 2, 1, 1)) * np.reshape(size, (1, 2, 1, 1))
    axes = rng.uniform(0.05, 0.4, (count, 2, 1, 1)) * np.reshape(size, (1, 2, 1, 1))
    return ((np.stack([y, x])[None] - centre) ** 2 / axes**2).sum(axis=1) < 1


def cropped(masks, cells):
    found, frames = zip(*(crop_mask(mask, cells) for mask in masks), strict=True)
    return np.stack(found), np.float32(frames)


def masks_by_hand():
    """Two classes; an object of the second one, left of x = 2.5, and background."""
    logits = np.full((2, 2, 2, 2), 9, "f4")
    logits[0, :, :, 1] = np.log([[3, 1], [1, 1 / 3]])
    proposals = np.float32([[0, 0, 4, 2], [0, 0, 4, 4]])
    masks = np.zeros((2, 6, 6), bool)
    masks[1, :, :3] = True
    return logits, proposals, np.int32([1, NEGATIVE]), np.int32([0, 1]), masks


# Bins are 2 x 1 pixels, with two samples each, at x = 0.5 and 1.5, and 2.5 and 3.5: the mask is 1
# and 1, and 1/2 and 0. So the targets are 1 and 1/4. Sigmoids are 3/4 and 1/2 in the first row, 1/2
# and 1/4 in the second one.
SECOND = math.log(2), math.log(4) / 4 + 3 * math.log(4 / 3) / 4
MASKS_BY_HAND = (math.log(4 / 3) + SECOND[0] + math.log(2) + SECOND[1]) / 4


def test_the_example_by_hand():
    terms, (slope,) = evaluate(mask_rcnn_loss, masks_by_hand(), (0,))
    assert terms == pytest.approx({"mask": MASKS_BY_HAND}, rel=1e-5)
    expected = np.float32([[3 / 4 - 1, 1 / 2 - 1 / 4], [1 / 2 - 1, 1 / 4 - 1 / 4]]) / 4
    np.testing.assert_allclose(slope[0, :, :, 1], expected, atol=1e-6)
    assert not slope[0, :, :, 0].any()
    assert not slope[1].any()


def test_the_term_is_a_sum_over_the_foreground_and_its_number_of_bins():
    logits, proposals, matches, *rest = masks_example(0)
    total, count = mask_rcnn_loss(logits, proposals, matches, *rest)["mask"]
    assert count == 49 * (matches >= 0).sum()
    mean, one = mask_rcnn_loss(logits, proposals, matches, *rest, per="image")["mask"]
    assert one == 1
    assert mean == pytest.approx(float(total / count), rel=1e-6)


@pytest.mark.parametrize("ratio", [-1, 1, 3])
def test_targets_of_whole_masks_equal_the_reference(ratio):
    _, proposals, matches, _, masks = masks_example(0)
    how = {"output_size": 7, "sampling_ratio": ratio}
    transforms = ("jit", "vmap", "pmap") if ratio == -1 else ("jit",)
    check_op(
        mask_targets,
        reference.mask_targets,
        *(masks, proposals, matches),
        atol=1e-5,
        transforms=transforms,
        **how,
    )


def test_targets_of_a_padded_image_are_those_of_its_part_without_padding():
    _, proposals, matches, _, masks = masks_example(1)
    size = np.array([50, 60])
    proposals = np.minimum(proposals, np.float32([60, 50] * 2))
    check_op(
        mask_targets,
        reference.mask_targets,
        *(masks, proposals, matches, None, size),
        output_size=7,
        atol=1e-5,
        transforms=("jit",),
    )


@pytest.mark.parametrize("cells", [5, 28])
def test_targets_of_cropped_masks_are_those_of_the_painted_masks(cells):
    _, proposals, matches, _, _ = masks_example(2)
    rng = np.random.default_rng(0)
    masks, frames = cropped(ellipses(rng, 5, (HEIGHT, WIDTH)), cells)
    frames += rng.uniform(-2, 2, frames.shape).astype("f4")
    frames[1] = [40, 30, 90, 95]  # beyond the image
    check_op(
        mask_targets,
        reference.mask_targets,
        *(masks, proposals, matches, frames, np.array([HEIGHT, WIDTH])),
        output_size=7,
        atol=1e-5,
        transforms=("jit", "vmap") if cells == 5 else ("jit",),
    )


def test_targets_of_cropped_masks_are_near_those_of_whole_masks():
    """docs/masks.md has the figures for masks and images of the usual sizes."""
    rng, size = np.random.default_rng(0), (150, 200)
    masks = ellipses(rng, 16, size)
    cells, frames = cropped(masks, 56)
    proposals = np.clip(frames + rng.uniform(-4, 4, frames.shape), 0, [200, 150] * 2)
    arrays = proposals.astype("f4"), np.arange(16)
    whole = np.asarray(mask_targets(masks, *arrays))
    near = np.asarray(mask_targets(cells, *arrays, frames, np.array(size)))
    assert np.abs(whole - near).max() < 0.3
    assert np.abs(whole - near).mean() < 0.005


def test_the_loss_equals_the_reference():
    for seed in range(2):
        arrays = masks_example(seed)
        (expected, count), (total, weight) = (
            loss(*arrays)["mask"] for loss in (reference.mask_rcnn_loss, jax.jit(mask_rcnn_loss))
        )
        assert weight == count
        assert total == pytest.approx(expected, rel=1e-5)


def test_floats_are_masks_too_and_get_no_gradient():
    *arrays, masks = masks_example(0)
    soft = masks.astype("f4")
    terms, (_, proposals, by_masks) = evaluate(mask_rcnn_loss, (*arrays, soft), (0, 1, 4))
    assert terms == pytest.approx(evaluate(mask_rcnn_loss, (*arrays, masks), (0,))[0], rel=1e-6)
    assert not proposals.any()
    assert not by_masks.any()


def test_cropped_masks_have_the_gradient_of_the_logits_alone():
    logits, proposals, matches, labels, _ = masks_example(0)
    masks, frames = cropped(ellipses(np.random.default_rng(1), 5, (HEIGHT, WIDTH)), 9)
    arrays = logits, proposals, matches, labels, masks, frames, np.array([HEIGHT, WIDTH])
    _, (slope, *others) = evaluate(mask_rcnn_loss, arrays, (0, 1, 5))
    assert np.isfinite(slope).all()
    assert slope.any()
    assert not any(other.any() for other in others)


def test_an_image_without_objects_costs_nothing():
    arrays = list(masks_example(0))
    arrays[2] = np.where(arrays[2] == IGNORE, IGNORE, NEGATIVE)
    terms, (slope,) = evaluate(mask_rcnn_loss, arrays, (0,))
    assert terms == {"mask": 0}
    assert not slope.any()


@pytest.mark.parametrize("form", ["whole", "cropped"])
def test_an_empty_mask_is_background_everywhere(form):
    logits, proposals, matches, labels, masks = masks_example(0)
    masks[:] = False
    given = [masks]
    if form == "cropped":
        given = [*cropped(masks, 9), np.array([HEIGHT, WIDTH])]
        assert not given[1].any()
    terms, (slope,) = evaluate(mask_rcnn_loss, (logits, proposals, matches, labels, *given), (0,))
    real = matches >= 0
    of_label = logits[np.arange(ROIS), :, :, labels[matches]][real].astype("f8")
    assert terms == pytest.approx({"mask": np.log1p(np.exp(of_label)).mean()}, rel=1e-5)
    assert np.isfinite(slope).all()
    assert (slope[real] != 0).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("match", [5, 100])
def test_a_match_that_is_none_gives_nan(match):
    arrays = list(masks_example(0))
    arrays[2][5] = match
    terms, _ = evaluate(mask_rcnn_loss, arrays, (0,))
    assert math.isnan(terms["mask"])


def test_perfect_masks_cost_nothing():
    logits, proposals, matches, labels, masks = masks_by_hand()
    proposals[0] = [0, 0, 3, 2]
    masks[1, :, :] = True
    logits[0, :, :, 1] = 40
    terms, _ = evaluate(mask_rcnn_loss, (logits, proposals, matches, labels, masks), (0,))
    assert terms == pytest.approx({"mask": 0}, abs=1e-9)


def test_cropped_masks_need_the_size_of_the_image():
    logits, proposals, matches, labels, _ = masks_example(0)
    masks, frames = np.zeros((5, 4, 4), np.uint8), np.zeros((5, 4), "f4")
    with pytest.raises(InputError, match=r"^size is missing: give \(height, width\)"):
        mask_rcnn_loss(logits, proposals, matches, labels, masks, frames)


@pytest.mark.parity
def test_the_loss_equals_torchvisions_in_float64():
    torch, roi_heads = import_detection("roi_heads")
    with jax.enable_x64(True):
        loss = jax.jit(mask_rcnn_loss)
        for seed in range(3):
            logits, proposals, matches, labels, masks = masks_example(seed, rois=30)
            logits, proposals = logits.astype("f8"), proposals.astype("f8")
            proposals[10:] += np.random.default_rng(seed).uniform(-0.5, 0.5, (20, 4))
            proposals = np.clip(proposals, 0, [WIDTH, HEIGHT] * 2)
            chosen = matches >= 0
            background = np.zeros((len(logits), *logits.shape[1:3], 1))
            expected = roi_heads.maskrcnn_loss(
                torch.tensor(np.concatenate([background, logits], -1)[chosen]).permute(0, 3, 1, 2),
                [torch.tensor(proposals[chosen])],
                [torch.tensor(masks)],
                [torch.tensor(labels + 1)],
                [torch.tensor(matches[chosen])],
            )
            total, count = loss(logits, proposals, matches, labels, masks)["mask"]
            assert total / count == pytest.approx(float(expected), rel=1e-9)
