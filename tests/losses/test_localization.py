"""The two-part loss of classification with localisation, by hand."""

import math

import jax
import numpy as np
import pytest

from jaxvision import losses

localization_loss = jax.jit(
    losses.localization_loss, static_argnames=("box_weight", "label_smoothing")
)

LOGITS = np.log(np.float32([1, 2, 5]))  # softmax (1, 2, 5) / 8
BOX, TARGET = np.float32([0, 0.5, 1, 1]), np.float32([0.5, 0.5, 0, 1])


def test_by_hand():
    terms = localization_loss(LOGITS, BOX, np.int32(1), TARGET, np.bool_(True), box_weight=2.0)
    assert terms.keys() == {"classification", "box"}
    np.testing.assert_allclose(terms["classification"], (math.log(4), 1), rtol=1e-6)
    np.testing.assert_allclose(terms["box"], (2 * (0.25 + 1), 1), rtol=1e-6)


def test_an_image_without_an_object_still_counts_in_the_mean_of_the_boxes():
    terms = localization_loss(LOGITS, BOX, np.int32(0), TARGET, np.bool_(False))
    assert terms["box"] == (0, 1)


def test_the_class_may_be_smoothed_or_a_distribution():
    smoothed = localization_loss(
        LOGITS, BOX, np.int32(1), TARGET, np.bool_(True), label_smoothing=0.3
    )
    # 0.7 (0, 1, 0) + 0.1
    by_hand = 0.1 * math.log(8) + 0.8 * math.log(4) + 0.1 * math.log(8 / 5)
    assert smoothed["classification"][0] == pytest.approx(by_hand, rel=1e-6)
    soft = np.float32([0.1, 0.8, 0.1])
    terms = localization_loss(LOGITS, BOX, soft, TARGET, np.bool_(True))
    assert terms["classification"][0] == pytest.approx(by_hand, rel=1e-6)
