"""Top-k accuracy: against the reference, with ties and soft targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import metrics
from tests.reference import metrics as reference

# As one program: operation by operation everything is compiled by itself.
top_k_accuracy = jax.jit(metrics.top_k_accuracy, static_argnames="k")


@pytest.mark.parametrize(("label", "k"), [(1, 1), (0, 1), (4, 2), (3, 2), (3, 3), (2, 5)])
def test_top_k_equals_the_reference(label, k):
    logits = np.float32([0.3, 2.0, -1.0, 0.4, 1.0])
    expected = reference.top_k_accuracy(logits, np.int32(label), k=k)
    assert top_k_accuracy(logits, np.int32(label), k=k) == expected


@pytest.mark.parametrize(
    ("k", "hits"), [(1, [0, 1, 0, 0, 0]), (2, [0, 1, 0, 1, 0]), (4, [1, 1, 0, 1, 1])]
)
def test_equal_logits_rank_by_the_lower_class_first(k, hits):
    logits = np.float32([1, 2, 0, 2, 2])
    accuracy = jax.vmap(lambda label: top_k_accuracy(logits, label, k=k))
    actual, weights = jax.jit(accuracy)(np.arange(5))
    np.testing.assert_array_equal(actual, hits)
    np.testing.assert_array_equal(weights, np.ones(5))


@pytest.mark.parametrize(("k", "dtype"), [(1, jnp.float32), (3, jnp.bfloat16)])
def test_many_ties_equal_the_reference(k, dtype):
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 3, (64, 7))
    labels = rng.integers(0, 7, 64)
    over_rows = jax.jit(jax.vmap(lambda x, y: top_k_accuracy(x, y, k=k)))
    hits, weights = over_rows(jnp.asarray(logits, dtype), labels)
    expected = [reference.top_k_accuracy(x, y, k=k)[0] for x, y in zip(logits, labels, strict=True)]
    np.testing.assert_array_equal(hits, expected)
    np.testing.assert_array_equal(weights, np.ones(64))
    assert 0 < sum(expected) < 64


@pytest.mark.parametrize(
    "target",
    [[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]],
    ids=["largest 1", "tie of 0 and 2", "tie of 1 and 2", "one-hot 2"],
)
@pytest.mark.parametrize("k", [1, 2])
def test_a_distribution_means_its_largest_class(target, k):
    logits = np.float32([0.0, 3.0, 1.0])
    expected = reference.top_k_accuracy(logits, np.float32(target), k=k)
    assert top_k_accuracy(logits, np.float32(target), k=k) == expected


def test_of_two_equally_likely_targets_the_lower_class_is_meant():
    assert top_k_accuracy(np.float32([0, 3, 1]), np.float32([0, 0.5, 0.5])) == (1, 1)
    assert top_k_accuracy(np.float32([0, 1, 3]), np.float32([0, 0.5, 0.5])) == (0, 1)


def test_zeros_of_both_signs_are_equal():
    assert top_k_accuracy(np.float32([-0.0, 0.0]), np.int32(0)) == (1, 1)
    assert top_k_accuracy(np.float32([-0.0, 0.0]), np.int32(1)) == (0, 1)


@pytest.mark.parametrize("k", [1, 2])
def test_a_broken_network_is_never_right(k):
    for label in range(-1, 4):
        assert top_k_accuracy(np.float32([np.nan] * 3), np.int32(label), k=k) == (0, 1)
    assert top_k_accuracy(np.float32([np.nan, 1, 0]), np.int32(1), k=k) == (k - 1, 1)


def test_results_are_float32_whatever_goes_in():
    results = top_k_accuracy(jnp.zeros(3, jnp.bfloat16), np.uint8(0))
    assert [x.dtype for x in results] == [jnp.float32, jnp.float32]


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (np.zeros((2, 3), "f4"), np.int32(0), r"logits is float32\[2, 3\]: give float\[K\]"),
        (np.zeros(3, "i4"), np.int32(0), r"logits is int32\[3\]: give float\[K\]"),
        (np.zeros(3, "f4"), np.zeros(4, "f4"), r"target is float32\[4\]: give float\[3\]"),
        (np.zeros(3, "f4"), np.float32(0), r"target is float32\[\]: give int\[\]"),
    ],
    ids=["batch", "no floats", "length", "float class"],
)
def test_wrong_shapes_and_types_are_named(logits, target, message):
    with pytest.raises(AssertionError, match=message):
        top_k_accuracy(logits, target)


@pytest.mark.parametrize("k", [0, 4])
def test_more_guesses_than_classes_and_none_are_errors(k):
    with pytest.raises(ValueError, match=f"k is {k}: give at least 1 and at most 3"):
        top_k_accuracy(np.zeros(3, "f4"), np.int32(0), k=k)
