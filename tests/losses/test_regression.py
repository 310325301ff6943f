"""Losses of numbers, by hand; the rest is in test_contract.py."""

import jax
import numpy as np
import pytest

from jaxvision import losses

# Each as one program: operation by operation everything is compiled by itself.
l1_loss, l2_loss = jax.jit(losses.l1_loss), jax.jit(losses.l2_loss)
huber_loss = jax.jit(losses.huber_loss, static_argnames="delta")
smooth_l1_loss = jax.jit(losses.smooth_l1_loss, static_argnames="beta")

# Differences 0.5, -1, 3 and, masked out, junk.
PREDICTED = np.float32([[1.5, 0.0], [4.0, np.nan]])
TARGET = np.float32([[1.0, 1.0], [1.0, 7.0]])
MASK = np.array([[True, True], [True, False]])


@pytest.mark.parametrize(
    ("loss", "options", "by_hand"),
    [
        (l1_loss, {}, 0.5 + 1 + 3),
        (l2_loss, {}, 0.25 + 1 + 9),
        (huber_loss, {"delta": 1.0}, 0.125 + 0.5 + 1 * (3 - 0.5)),
        (huber_loss, {"delta": 2.0}, 0.125 + 0.5 + 2 * (3 - 1)),
        (smooth_l1_loss, {"beta": 2.0}, 0.0625 + 0.25 + (3 - 1)),
        (smooth_l1_loss, {"beta": 0.5}, 0.25 + (1 - 0.25) + (3 - 0.25)),
    ],
)
def test_by_hand(loss, options, by_hand):
    total, weight = loss(PREDICTED, TARGET, MASK, **options)
    np.testing.assert_allclose(total, by_hand, rtol=1e-6)
    assert weight == 3


def test_a_mask_of_rows_counts_all_elements_of_a_row():
    total, weight = l1_loss(PREDICTED, TARGET, np.array([True, False]))
    assert (total, weight) == (1.5, 2)


def test_without_a_mask_everything_counts_and_the_mean_is_the_mse():
    total, weight = l2_loss(PREDICTED[0], TARGET[0])
    assert total / weight == np.mean((PREDICTED[0] - TARGET[0]) ** 2)


def test_gradients_by_hand():
    cases = [
        (l1_loss, {}, [[1, -1], [1, 0]]),
        (l2_loss, {}, [[1, -2], [6, 0]]),
        (huber_loss, {"delta": 2.0}, [[0.5, -1], [2, 0]]),
        (smooth_l1_loss, {"beta": 2.0}, [[0.25, -0.5], [1, 0]]),
    ]

    @jax.jit
    def slopes(predicted):
        return [
            jax.grad(lambda p, loss=loss, how=how: loss(p, TARGET, MASK, **how)[0])(predicted)
            for loss, how, _ in cases
        ]

    for gradient, (_, _, by_hand) in zip(slopes(PREDICTED), cases, strict=True):
        np.testing.assert_allclose(gradient, by_hand)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16])
def test_targets_may_have_any_number_type(dtype):
    total, _ = l2_loss(np.float16([2.5]), np.array([200], dtype))
    assert total.dtype == np.float32
    np.testing.assert_allclose(total, 197.5**2)


@pytest.mark.parametrize(
    ("loss", "options"), [(huber_loss, {"delta": 0.0}), (smooth_l1_loss, {"beta": -1.0})]
)
def test_the_passage_must_be_positive(loss, options):
    with pytest.raises(ValueError, match="give more than 0"):
        loss(PREDICTED, TARGET, **options)


def test_a_mask_of_another_shape_is_named():
    with pytest.raises(AssertionError, match=r"^mask is bool\[3\]: give bool\[2\]"):
        l1_loss(PREDICTED, TARGET, np.ones(3, bool))
