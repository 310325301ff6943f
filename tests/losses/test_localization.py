"""The two-part loss of classification with localisation, by hand."""

import math

import jax
import numpy as np
import pytest

from jaxvision import losses
from jaxvision.core import InputError

localization_loss = jax.jit(
    losses.localization_loss, static_argnames=("box_loss", "box_weight", "beta", "label_smoothing")
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


def test_the_loss_of_the_box_has_a_name():
    """Two boxes of half a unit share a quarter; the hull is the unit square."""
    arguments = LOGITS, np.float32([0, 0, 1, 0.5]), np.int32(0), np.float32([0.5, 0, 1, 1])
    expected = {
        "l1": 0.5 + 0.5,
        "l2": 0.25 + 0.25,
        "smooth_l1": 2 * (0.5 - 0.2 / 2),
        "iou": 1 - 1 / 3,
        "giou": 1 - (1 / 3 - 1 / 4),
        "diou": 1 - (1 / 3 - (0.25**2 + 0.25**2) / 2),
        "ciou": 1 - (1 / 3 - 0.0625) + _shape_term(),
    }

    @jax.jit
    def run():
        terms = {
            name: losses.localization_loss(*arguments, np.bool_(True), box_loss=name, beta=0.2)
            for name in expected
        }
        return {name: term["box"] for name, term in terms.items()}

    for name, pair in jax.device_get(run()).items():
        np.testing.assert_allclose(pair, (expected[name], 1), rtol=1e-5, err_msg=name)
    with pytest.raises(InputError, match="unknown box_loss 'gio': did you mean 'giou'"):
        losses.localization_loss(*arguments, np.bool_(True), box_loss="gio")


def _shape_term():
    """CIoU's alpha v, of boxes of 1 x 1/2 and of 1/2 x 1 with an IoU of 1/3."""
    v = 4 / math.pi**2 * (math.atan(0.5) - math.atan(2)) ** 2
    return v * v / (1 - 1 / 3 + v)
