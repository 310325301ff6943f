"""Losses of boxes, by hand; the rest is in test_contract.py."""

import math

import jax
import numpy as np
import pytest

from jaxvision.losses import (
    box_iou_loss,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

# Two 2 x 2 boxes that overlap in 1 x 2: IoU 2 / 6; hull 3 x 2, which they fill; centres 1 apart,
# diagonal^2 13. Then 1 x 1 and 1 x 3 without overlap: hull 4 x 3, union 4, centres 3 and 1 apart.
FIRST = np.float32([[0, 0, 2, 2], [0, 0, 1, 1], [7, 7, 7, 7]])
SECOND = np.float32([[1, 0, 3, 2], [3, 0, 4, 3], [7, 7, 9, 9]])
ASPECT = 4 / math.pi**2 * (math.atan(1 / 1) - math.atan(1 / 3)) ** 2


BY_HAND = {
    box_iou_loss: (1 - 1 / 3) + 1,
    generalized_box_iou_loss: (1 - 1 / 3) + 1 + 8 / 12,
    distance_box_iou_loss: (1 - 1 / 3 + 1 / 13) + 1 + 10 / 25,
    complete_box_iou_loss: ((1 - 1 / 3 + 1 / 13) + 1 + 10 / 25 + ASPECT * ASPECT / (1 + ASPECT)),
}


@pytest.fixture(scope="module")
def found():
    """Loss -> values and gradients by the first boxes of four examples, all in one program."""
    examples = {
        "by hand": (FIRST, SECOND, [True, True, False]),
        "equal": (SECOND, SECOND, [True] * 3),
        "no area": (FIRST, SECOND, [False, False, True]),
        "apart": (FIRST, SECOND, [False, True, False]),
    }
    batch = [np.stack(arrays) for arrays in zip(*examples.values(), strict=True)]

    @jax.jit
    def run(*batch):
        return [jax.vmap(jax.value_and_grad(loss, has_aux=True))(*batch) for loss in BY_HAND]

    results = [
        {name: jax.tree.map(lambda x, n=n: x[n], values) for n, name in enumerate(examples)}
        for values in jax.device_get(run(*batch))
    ]
    return dict(zip(BY_HAND, results, strict=True))


@pytest.mark.parametrize("loss", BY_HAND)
def test_by_hand(found, loss):
    (total, weight), _ = found[loss]["by hand"]
    np.testing.assert_allclose(total, BY_HAND[loss], rtol=1e-6)
    assert weight == 2


@pytest.mark.parametrize("loss", BY_HAND)
def test_equal_boxes_cost_nothing_and_a_box_without_area_costs_one(found, loss):
    (total, weight), _ = found[loss]["equal"]
    np.testing.assert_allclose(total, 0, atol=1e-6)
    assert weight == 3
    (total, _), gradient = found[loss]["no area"]
    assert total == 1
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("loss", [generalized_box_iou_loss, distance_box_iou_loss])
def test_boxes_apart_are_drawn_together(found, loss):
    _, gradient = found[loss]["apart"]
    assert gradient[1, 0] + gradient[1, 2] < 0  # descent moves the box to the right
    _, plain = found[box_iou_loss]["apart"]
    assert not plain.any()
