"""Landmarks: by hand, against the reference, nothing visible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import metrics
from tests.reference import metrics as reference

# As one program: operation by operation everything is compiled by itself.
normalized_landmark_error = jax.jit(metrics.normalized_landmark_error)

PREDICTED = np.float32([[3, 4], [1, 1], [10, 2], [9, 9]])
TARGET = np.float32([[0, 0], [1, 1], [10, 7], [0, 0]])
VISIBLE = np.bool_([1, 1, 1, 0])


def test_the_error_by_hand():
    # Distances 5, 0 and 5.
    error, count = normalized_landmark_error(PREDICTED, TARGET, VISIBLE, np.float32(20))
    np.testing.assert_allclose(error, 0.5, rtol=1e-6)
    assert count == 3


def test_random_landmarks_equal_the_reference():
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(scale=100, size=(2, 68, 2)).astype("f4")
    arrays = predicted, target, rng.random(68) < 0.7, np.float32(37.5)
    expected = reference.normalized_landmark_error(*arrays)
    actual = normalized_landmark_error(*arrays)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_nothing_visible_is_nothing_at_all():
    hidden = np.zeros(4, bool)
    broken = np.full((4, 2), np.nan, np.float32)
    assert normalized_landmark_error(PREDICTED, TARGET, hidden, 0.0) == (0, 0)
    assert normalized_landmark_error(broken, broken, hidden, np.float32(0)) == (0, 0)
    no_landmarks = normalized_landmark_error(PREDICTED[:0], TARGET[:0], hidden[:0], 1)
    assert no_landmarks == (0, 0)


gradient = jax.jit(jax.grad(lambda *x: normalized_landmark_error(*x)[0], argnums=(0, 1, 3)))


def test_the_gradient_is_the_direction_over_the_normalizer():
    by_predicted, by_target, by_normalizer = gradient(PREDICTED, TARGET, VISIBLE, 20.0)
    expected = np.float32([[0.6, 0.8], [0, 0], [0, -1], [0, 0]]) / 20
    np.testing.assert_allclose(by_predicted, expected, rtol=1e-6)
    np.testing.assert_allclose(by_target, -expected, rtol=1e-6)
    np.testing.assert_allclose(by_normalizer, -10 / 400, rtol=1e-6)


def test_what_is_hidden_has_no_gradient():
    broken = np.full((4, 2), np.inf, np.float32)
    for g in gradient(broken, TARGET * np.nan, np.zeros(4, bool), 0.0):
        np.testing.assert_array_equal(g, np.zeros_like(g))


def test_a_broken_landmark_is_no_exact_one():
    error, _ = normalized_landmark_error(PREDICTED * np.nan, TARGET, VISIBLE, 1.0)
    assert jnp.isnan(error)


def test_half_precision_is_computed_in_float32():
    half = [jnp.asarray(x, jnp.float16) for x in (PREDICTED * 100, TARGET)]
    result = normalized_landmark_error(*half, VISIBLE, jnp.float16(20))
    assert [x.dtype for x in result] == [jnp.float32, jnp.float32]
    expected = reference.normalized_landmark_error(*half, VISIBLE, 20)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("position", "wrong", "message"),
    [
        (0, PREDICTED[:, :1], r"predicted is float32\[4, 1\]: give float\[K, 2\]"),
        (1, TARGET[:3], r"target is float32\[3, 2\]: give float\[4, 2\]"),
        (2, TARGET[:, 0], r"visible is float32\[4\]: give bool\[4\]"),
        (3, TARGET[:, 0], r"normalizer is float32\[4\]: give number\[\]"),
    ],
)
def test_wrong_arguments_are_named(position, wrong, message):
    arguments = [PREDICTED, TARGET, VISIBLE, 1.0]
    arguments[position] = wrong
    with pytest.raises(AssertionError, match=message):
        normalized_landmark_error(*arguments)
