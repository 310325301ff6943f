"""Losses of pixels, by hand; the rest is in test_contract.py."""

import math

import jax
import numpy as np
import pytest

from jaxvision import losses
from tests.marks import slow_but

# Each as one program: operation by operation everything is compiled by itself.
pixel_cross_entropy = jax.jit(
    losses.pixel_cross_entropy, static_argnames=("class_weights", "ignore_label")
)
pixel_binary_cross_entropy = jax.jit(
    losses.pixel_binary_cross_entropy, static_argnames=("positive_weight", "ignore_label")
)
dice_loss = jax.jit(losses.dice_loss, static_argnames="smooth")
tversky_loss = jax.jit(losses.tversky_loss, static_argnames=("alpha", "beta", "smooth"))

# Softmax: (1, 2, 5) / 8, (1, 1, 2) / 4, and a pixel that is ignored.
LOGITS = np.log(np.float32([[[1, 2, 5], [1, 1, 2], [9, 1, 1]]]))
LABELS = np.uint8([[1, 2, 255]])


def test_pixel_cross_entropy_by_hand():
    total, weight = pixel_cross_entropy(LOGITS, LABELS)
    np.testing.assert_allclose(total, math.log(8 / 2) + math.log(4 / 2), rtol=1e-6)
    assert weight == 2


def test_pixel_cross_entropy_divides_by_the_weights_of_the_classes_that_occur():
    total, weight = pixel_cross_entropy(LOGITS, LABELS, class_weights=(9.0, 3.0, 0.5))
    np.testing.assert_allclose(total, 3 * math.log(4) + 0.5 * math.log(2), rtol=1e-6)
    assert weight == 3.5


def test_another_label_may_be_the_one_to_ignore():
    labels = np.int32([[1, -100, 0]])
    total, weight = pixel_cross_entropy(LOGITS, labels, ignore_label=-100)
    np.testing.assert_allclose(total, math.log(8 / 2) + math.log(11 / 9), rtol=1e-6)
    assert weight == 2


@pytest.mark.parametrize(
    ("dtype", "ignore_label"),
    slow_but(
        [(x, label) for x in (np.int8, np.uint8, np.int32) for label in (-100, -1, 255)],
        [(np.int8, 255), (np.uint8, -100)],
    ),
)
def test_a_label_to_ignore_is_no_other_that_is_equal_in_few_bits(dtype, ignore_label):
    limits = np.iinfo(dtype)
    others = {label for label in (156, -1, 255) if limits.min <= label <= limits.max}
    for label in others | {0}:
        labels = np.array([[0, 0, label]], dtype)
        for loss, logits in (
            (pixel_cross_entropy, LOGITS),
            (pixel_binary_cross_entropy, LOGITS[..., 0]),
        ):
            total, weight = loss(logits, labels, ignore_label=ignore_label)
            assert weight == 3 - (label == ignore_label)
            assert np.isnan(total) == (label not in (0, ignore_label))


@pytest.mark.parametrize("width", slow_but([3, 4], [3]))
def test_a_mask_of_rows_is_that_of_their_pixels(width):
    rng = np.random.default_rng(0)
    rows = np.array([True, False, True])
    pixels = np.repeat(rows[:, None], width, axis=1)
    logits, labels = rng.normal(size=(3, width, 3)).astype("f4"), rng.integers(0, 2, (3, width))
    labels[0, 0] = 255
    regions = rng.random((2, 3, width, 3), "f4")

    @jax.jit
    def run(logits, labels, regions):
        def each(mask):
            return [
                losses.pixel_cross_entropy(logits, labels, mask),
                losses.pixel_binary_cross_entropy(logits[..., 0], labels, mask),
                losses.dice_loss(*regions, mask),
                losses.tversky_loss(*regions, mask),
            ]

        return [each(mask) for mask in (rows, pixels, None)]

    for by_rows, by_pixels, by_all in zip(*run(logits, labels, regions), strict=True):
        np.testing.assert_allclose(by_rows, by_pixels, rtol=1e-6)
        assert by_rows[0] != by_all[0]


@pytest.mark.parametrize("label", [3, 254, -1])
def test_a_label_that_is_no_class_gives_nan_and_not_another_class(label):
    total, _ = pixel_cross_entropy(LOGITS, np.int32([[label, 0, 0]]))
    assert np.isnan(total)
    total, _ = pixel_binary_cross_entropy(LOGITS[..., 0], np.int32([[label, 0, 0]]))
    assert np.isnan(total)


def test_pixel_binary_cross_entropy_by_hand():
    logits = np.float32([math.log(3), math.log(3), 0, np.nan])  # p = 3/4, 3/4, 1/2
    labels = np.uint8([1, 0, 1, 255])
    total, weight = pixel_binary_cross_entropy(logits, labels, positive_weight=2.0)
    by_hand = 2 * math.log(4 / 3) + math.log(4) + 2 * math.log(2)
    np.testing.assert_allclose(total, by_hand, rtol=1e-6)
    assert weight == 3


# Of class 0: hits 0.5 + 1, p sums to 2.5, g to 2. Class 1 is absent and not predicted.
PROBABILITIES = np.float32([[0.5, 0], [1, 0], [1, 0], [0.3, 0.7]])
TARGETS = np.uint8([[1, 0], [1, 0], [0, 0], [1, 1]])
COUNTED = np.array([True, True, True, False])


def test_dice_loss_by_hand():
    total, weight = dice_loss(PROBABILITIES, TARGETS, COUNTED, smooth=0.0)
    np.testing.assert_allclose(total, 1 - 2 * 1.5 / (2.5 + 2), rtol=1e-6)
    assert weight == 2
    total, _ = dice_loss(PROBABILITIES, TARGETS, COUNTED, smooth=1.0)
    np.testing.assert_allclose(total, 1 - (2 * 1.5 + 1) / (2.5 + 2 + 1), rtol=1e-6)


def test_tversky_loss_by_hand():
    # False positives 0 + 0 + 1, false negatives 0.5 + 0 + 0.
    total, weight = tversky_loss(PROBABILITIES, TARGETS, COUNTED, alpha=0.3, beta=0.7, smooth=0.0)
    np.testing.assert_allclose(total, 1 - 1.5 / (1.5 + 0.3 * 1 + 0.7 * 0.5), rtol=1e-6)
    assert weight == 2


def test_bools_are_targets_of_regions_too():
    for loss in (dice_loss, tversky_loss):
        assert loss(PROBABILITIES, TARGETS == 1) == loss(PROBABILITIES, TARGETS)


def test_an_image_that_is_ignored_as_a_whole_has_no_weight():
    for loss in (dice_loss, tversky_loss):
        for mask in (np.zeros(4, bool), np.False_):
            assert loss(PROBABILITIES, TARGETS, mask) == (0, 0)


def test_a_perfect_segmentation_costs_nothing():
    for loss in (dice_loss, tversky_loss):
        assert loss(TARGETS.astype("f4"), TARGETS)[0] == 0


def test_what_is_ignored_gets_no_gradient():
    @jax.jit
    def slopes(probabilities, logits):
        regions = [
            jax.grad(lambda p, loss=loss: loss(p, TARGETS, COUNTED)[0])(probabilities)
            for loss in (losses.dice_loss, losses.tversky_loss)
        ]
        by_logits = jax.grad(lambda x: losses.pixel_cross_entropy(x, LABELS)[0])(logits)
        return regions, by_logits

    regions, by_logits = jax.device_get(slopes(PROBABILITIES, LOGITS))
    for gradient in regions:
        assert not gradient[3].any()
        assert gradient[:3, 0].all()
    assert not by_logits[0, 2].any()
    assert by_logits[0, :2].all()


@pytest.mark.parametrize("weights", [(1.0, 2.0), 1.0, [[1.0]] * 3])
def test_weights_of_classes_are_one_for_each(weights):
    with pytest.raises(AssertionError, match=r"^class_weights is float"):
        losses.pixel_cross_entropy(LOGITS, LABELS, class_weights=weights)
