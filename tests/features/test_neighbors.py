"""Neighbors in features: against sorting, and without a row itself."""

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.features import find_neighbors


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def test_neighbors_are_the_nearest_rows():
    queries, index = rows(4), rows(9, seed=1)
    distances, found = find_neighbors(queries, index, k=3, metric="l2")
    all_distances = np.linalg.norm(queries[:, None] - index[None], axis=-1)
    np.testing.assert_array_equal(found, all_distances.argsort(axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(all_distances, axis=1)[:, :3], rtol=1e-5)


def test_no_row_is_its_own_neighbor():
    x = rows(7)
    distances, found = find_neighbors(x, x, k=6, leave_out_self=True)
    assert distances.shape == found.shape == (7, 6)
    for number, row in enumerate(found):
        assert sorted([number, *row]) == list(range(7))
    _, more = find_neighbors(x, x, k=7)
    np.testing.assert_array_equal(found, [[n for n in r if n != i] for i, r in enumerate(more)])


def test_equal_rows_are_neighbors_of_each_other():
    """Where as many others are as near, a row may not be among its own neighbors."""
    x = np.ones((6, 2), np.float32)
    distances, found = find_neighbors(x, x, k=2, leave_out_self=True)
    assert found.shape == (6, 2)
    assert not (found == np.arange(6)[:, None]).any()
    np.testing.assert_allclose(distances, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "^k is 0: give at least 1 and at most 5$"),
        ({"k": 6}, "^k is 6: give at least 1 and at most 5$"),
        ({"k": 5, "leave_out_self": True}, "^k is 5: give at least 1 and at most 4$"),
        ({"k": 1, "metric": "cosin"}, "^unknown metric 'cosin': did you mean 'cosine'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        find_neighbors(rows(5), rows(5), **options)
