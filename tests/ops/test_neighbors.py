"""Nearest neighbors: by hand, against a search pair by pair, and where rows are equal."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxvision.ops import NEIGHBOR_METRICS, majority_vote, nearest_neighbors
from tests.ops.compiled import Case, check_cases, compiled
from tests.reference.ops import neighbors as reference

_search = compiled(nearest_neighbors)


def rows(seed, count=7, dimensions=3):
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype("f4")


def test_by_hand():
    index = np.float32([[1, 0], [0, 2], [-3, 0], [4, 4]])
    query = np.float32([[2, 0]])
    distances, found = _search(query, index, k=4, metric="l2")
    assert found.tolist() == [[0, 1, 3, 2]]
    np.testing.assert_allclose(distances, [[1, 8**0.5, 20**0.5, 5]], rtol=1e-6)
    distances, found = _search(query, index, k=4)
    assert found.tolist() == [[0, 3, 1, 2]]
    np.testing.assert_allclose(distances, [[0, 1 - 0.5**0.5, 1, 2]], atol=1e-6)


def test_equals_the_reference():
    pair, arrays = (nearest_neighbors, reference.nearest_neighbors), (rows(0, 5), rows(1, 8))
    cases = {}
    for metric, block in (("cosine", 3), ("l2", 1024)):
        how = {"k": 4, "metric": metric, "block": block}
        cases[str(how)] = Case(*pair, arrays, how)
    check_cases(cases)


@pytest.mark.slow
@pytest.mark.parametrize("metric", NEIGHBOR_METRICS)
def test_any_block_equals_the_reference(metric):
    pair, arrays = (nearest_neighbors, reference.nearest_neighbors), (rows(2, 9), rows(3, 8))
    cases = {}
    for block in (2, 9):
        how = {"k": 8, "metric": metric, "block": block}
        cases[str(how)] = Case(*pair, arrays, how)
    check_cases(cases)


@pytest.mark.parametrize("block", [2, 11])
def test_of_equal_distances_the_lower_index_comes_first(block):
    points = np.random.default_rng(5).integers(-1, 2, (11, 2)).astype("f4")  # exact
    distances, found = _search(points, points, k=5, metric="l2", block=block)
    expected, numbers = reference.nearest_neighbors(points, points, k=5, metric="l2")
    np.testing.assert_array_equal(found, numbers)
    np.testing.assert_allclose(distances, expected, atol=1e-6)


def test_equal_rows_are_not_apart_however_long_they_are():
    index = 1e4 + rows(4, 6)
    distances, found = _search(index[[3]], index, k=2, metric="l2", block=4)
    assert found[0, 0] == 3
    assert distances[0, 0] == 0
    lengths = np.float32([1e-20, 1, 1e18])[:, None]
    distances, found = _search(index[:1], lengths * index[:1], k=3, metric="cosine", block=4)
    assert sorted(found[0].tolist()) == [0, 1, 2]
    np.testing.assert_allclose(distances, np.zeros((1, 3)), atol=1e-6)


def test_a_row_of_zeros_is_1_away_in_cosine():
    index = np.float32([[0, 0], [1, 1]])
    distances, found = _search(index, index, k=2, metric="cosine", block=4)
    np.testing.assert_allclose(distances, [[1, 1], [0, 1]], atol=1e-6)
    assert found.tolist() == [[0, 1], [1, 0]]


def test_no_queries_have_no_neighbors():
    distances, found = _search(rows(0, 0), rows(1), k=2)
    assert distances.shape == found.shape == (0, 2)


def test_what_is_in_memory_does_not_grow_with_both_sides():
    queries, index = (jax.ShapeDtypeStruct((count, 4), jnp.float32) for count in (4096, 8192))
    run = jax.jit(partial(nearest_neighbors, k=2, block=64))
    needed = run.lower(queries, index).compile().memory_analysis().temp_size_in_bytes
    assert needed < 4096 * 8192 * 4 / 50


def test_few_queries_cost_little():
    def flops(count):
        shapes = [jax.ShapeDtypeStruct((rows, 16), jnp.float32) for rows in (count, 512)]
        lowered = jax.jit(partial(nearest_neighbors, k=2)).lower(*shapes)
        return lowered.cost_analysis()["flops"]

    assert flops(1) < flops(256) / 20


@pytest.mark.slow
def test_half_precision_is_computed_in_float32():
    half = rows(0).astype(jnp.bfloat16)
    single = half.astype("f4")
    chex.assert_trees_all_equal(_search(half, half, k=2), _search(single, single, k=2))


@pytest.mark.slow
def test_the_gradient_is_finite_at_itself_and_at_zeros():
    points = rows(0)
    points[2] = 0

    @jax.jit
    def slopes(x):
        def total(x, metric):
            return nearest_neighbors(x, x, k=2, metric=metric, block=4)[0].sum()

        return [jax.grad(total)(x, metric) for metric in NEIGHBOR_METRICS]

    for slope in slopes(points):
        assert np.isfinite(slope).all()
        assert np.abs(slope).max() > 0.01


@pytest.mark.slow
def test_the_gradient_is_that_of_finite_differences():
    """In cosine; in l2 the table of derivatives has it."""
    with jax.enable_x64():
        queries, index = (rows(seed).astype("f8") for seed in (0, 1))
        run = jax.jit(lambda q, x: nearest_neighbors(q, x, k=2, metric="cosine")[0])
        check_grads(run, (queries, index), order=1, modes=["rev"])


def test_a_vote():
    labels = np.array([[3, 1, 1, 3, 2], [0, 5, 5, 2, 2], [4, 1, 2, 3, 0]])
    random = np.random.default_rng(0).integers(0, 4, (3, 20, 6)).astype("i4")
    by_hand, votes = jax.jit(lambda *arrays: [majority_vote(x) for x in arrays])(labels, random)
    assert by_hand.tolist() == [3, 5, 4]
    np.testing.assert_array_equal(votes, reference.majority_vote(random))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"k": 8}, "k is 8: give at most 7"),
        ({"k": 0}, "k is 0"),
        ({"k": 1, "metric": "l3"}, "metric is 'l3': choose one of cosine, l2"),
        ({"k": 1, "block": 0}, "block is 0"),
    ],
)
def test_options_out_of_range_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        nearest_neighbors(rows(0), rows(1), **how)


def test_no_neighbor_has_no_vote():
    with pytest.raises(AssertionError, match="give a neighbor"):
        majority_vote(np.zeros((3, 0), "i4"))
