"""Totals and weights: masked, added up, divided once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import divide, mean_ratio, sum_terms
from jaxvision.testing import check_op


@pytest.mark.parametrize(
    ("total", "weight", "mean"),
    [
        (3.0, 2.0, 1.5),
        (2.0, 0.5, 4.0),
        (1e-6, 1e-6, 1.0),
        (0.0, 3.0, 0.0),
        (0.0, 0.0, 0.0),
        (7.0, 0.0, 7.0),
    ],
)
def test_divide(transform, total, weight, mean):
    actual = transform(divide)(jnp.float32(total), jnp.float32(weight))
    np.testing.assert_allclose(actual, mean, rtol=1e-6)


def test_divide_does_not_floor_a_weight_of_a_half_to_one():
    assert divide(jnp.float32(0.5), jnp.float32(0.5)) == 1


def test_divide_takes_numpy_numbers_and_arrays_too():
    means = divide(np.float64([3, 0, 2]), np.float64([2, 0, 0.5]))
    assert isinstance(means, np.ndarray)
    np.testing.assert_array_equal(means, [1.5, 0, 4])
    assert divide(np.float32(1), np.float32(0.5)) == 2


def test_divide_by_no_weight_has_a_finite_gradient():
    gradient = jax.grad(divide)(jnp.float32(0), jnp.float32(0))
    assert np.isfinite(gradient)


def _slow_sum_terms(terms, mask):
    return {
        name: tuple(np.array(sum(float(x[i]) for i in range(len(mask)) if mask[i])) for x in pair)
        for name, pair in terms.items()
    }


def _terms(rng, size):
    return {
        name: (
            rng.normal(size=size).astype("f4"),
            rng.uniform(size=size).astype("f4"),
        )
        for name in ("box", "class")
    }


def test_sum_terms_equals_the_reference():
    terms = _terms(np.random.default_rng(0), 6)
    mask = np.array([True, False, True, True, False, True])
    check_op(sum_terms, _slow_sum_terms, terms, mask)


@pytest.mark.parametrize("junk", [1e30, np.inf, np.nan])
def test_filler_counts_nothing_whatever_it_holds(transform, junk):
    terms = {"a": (np.float32([1, junk, 2]), np.float32([1, junk, 0.5]))}
    total, weight = transform(sum_terms)(terms, np.array([True, False, True]))["a"]
    assert (total, weight) == (3, 1.5)


def test_a_batch_of_filler_gives_zero():
    terms = {"a": (np.float32([7, 8]), np.float32([1, 1]))}
    total, weight = sum_terms(terms, np.array([False, False]))["a"]
    assert (total, weight, divide(total, weight)) == (0, 0, 0)


def test_sums_over_devices_equal_the_whole_batch_under_uneven_masks():
    rng = np.random.default_rng(1)
    terms = _terms(rng, 16)
    mask = np.arange(16) < 5  # all of device 0, a quarter of device 1, nothing of the others
    whole = {name: divide(*pair) for name, pair in sum_terms(terms, mask).items()}

    def shard(x):
        return x.reshape(4, 4)

    def mean(terms, mask):
        sums = jax.lax.psum(sum_terms(terms, mask), "batch")
        return {name: divide(*pair) for name, pair in sums.items()}

    sharded = jax.pmap(mean, axis_name="batch")(jax.tree.map(shard, terms), shard(mask))
    for name in terms:
        np.testing.assert_allclose(sharded[name], np.full(4, whole[name]), rtol=1e-5)


def test_the_mean_ratio_is_over_the_classes_that_have_a_weight(transform):
    total, weight = np.float32([3, 0, 1, 0]), np.float32([4, 2, 2, 0])
    np.testing.assert_allclose(transform(mean_ratio)(total, weight), (0.75 + 0 + 0.5) / 3)
    assert mean_ratio(np.float64(1), np.float64(0.5)) == 2
    assert mean_ratio(np.zeros(3), np.zeros(3)) == 0


def test_terms_may_have_an_entry_for_each_class():
    total, weight = np.float32([[1, 2], [3, 4], [9, 9]]), np.float32([[1, 1], [1, 0], [9, 9]])
    sums = sum_terms({"iou": (total, weight)}, np.array([True, True, False]))
    np.testing.assert_array_equal(sums["iou"][0], [4, 6])
    np.testing.assert_array_equal(sums["iou"][1], [2, 1])


def test_entries_of_a_small_weight_count_in_full():
    assert mean_ratio(np.float64([0.1, 0.3]), np.float64([0.2, 0.4])) == pytest.approx(0.625)


@pytest.mark.parametrize(
    ("total", "weight"), [((3, 4), (3,)), ((3,), ()), ((2,), (2,)), ((), ())], ids=str
)
def test_a_total_and_a_weight_of_other_shapes_are_refused(total, weight):
    with pytest.raises(AssertionError, match=r"^iou of 3 examples has totals \("):
        sum_terms({"iou": (np.zeros(total), np.zeros(weight))}, np.ones(3, bool))
