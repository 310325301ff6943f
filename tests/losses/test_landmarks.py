"""Losses of heatmaps, by hand; the rest is in test_contract.py."""

import math

import jax
import numpy as np

from jaxvision import losses

# Each as one program: operation by operation everything is compiled by itself.
heatmap_l2_loss = jax.jit(losses.heatmap_l2_loss)
heatmap_cross_entropy = jax.jit(losses.heatmap_cross_entropy)

VISIBLE = np.array([True, False])


def test_heatmap_l2_loss_by_hand():
    maps = np.float32([[[0, 9], [1, 9]], [[0.5, 9], [2, 9]]])
    targets = np.float32([[[0, 0], [1, 0]], [[0, 0], [0, 1]]])
    total, weight = heatmap_l2_loss(maps, targets, VISIBLE)
    assert (total, weight) == (0.25 + 4, 4)


def test_heatmap_cross_entropy_by_hand():
    maps = np.log(np.float32([[[1, 1], [2, 9]], [[4, 1], [1, 1]]]))  # softmax (1, 2, 4, 1) / 8
    targets = np.float32([[[0, 3], [1, 3]], [[3, 3], [0, 3]]])  # (0, 1, 3, 0) / 4
    total, weight = heatmap_cross_entropy(maps, targets, VISIBLE)
    np.testing.assert_allclose(total, math.log(4) / 4 + 3 * math.log(2) / 4, rtol=1e-6)
    assert weight == 1


def test_a_landmark_whose_target_is_zero_everywhere_counts_as_absent():
    maps = np.ones((2, 2, 1), "f4")
    for targets in (np.zeros((2, 2, 1), "f4"), np.zeros((2, 2, 1), bool).astype("i4")):
        assert heatmap_cross_entropy(maps, targets, np.array([True])) == (0, 0)


def test_a_pixel_where_no_landmark_is_may_have_a_logit_of_minus_infinity():
    maps = np.float32([[[math.log(3)], [-np.inf]], [[0], [0]]])
    targets = np.float32([[[1], [0]], [[0], [0]]])
    slope = jax.jit(jax.value_and_grad(heatmap_cross_entropy, has_aux=True))
    (total, _), gradient = slope(maps, targets, np.array([True]))
    np.testing.assert_allclose(total, math.log(5 / 3), rtol=1e-6)
    np.testing.assert_allclose(gradient[..., 0], [[-2 / 5, 0], [1 / 5, 1 / 5]], rtol=1e-6)


def test_absent_landmarks_get_no_gradient():
    maps = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("f4")
    for loss in (losses.heatmap_l2_loss, losses.heatmap_cross_entropy):
        run = jax.jit(jax.grad(lambda x, loss=loss: loss(x, np.ones_like(maps), VISIBLE)[0]))
        gradient = jax.device_get(run(maps))
        assert not gradient[..., 1].any()
        assert gradient[..., 0].all()
