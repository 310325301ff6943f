"""Options that are integers."""

import numpy as np
import pytest

from jaxvision.ops.static import integer, pair


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, (3, 3)), ((1, 2), (1, 2)), ([1, 2], (1, 2)), (np.int64(4), (4, 4)), (0, (0, 0))],
)
def test_one_integer_or_two(value, expected):
    actual = pair("size", value, least=0)
    assert actual == expected
    assert all(type(x) is int for x in actual)


@pytest.mark.parametrize("value", [-1, (1, -1), (1, 2, 3), (), 1.0, (1, 2.0), "12", None, True])
def test_what_is_neither_is_named(value):
    with pytest.raises(ValueError, match=r"size is .*: give one integer of at least 0, or a pair"):
        pair("size", value, least=0)


@pytest.mark.parametrize("value", [0, 1.0, "1", None, True, (1, 1)])
def test_what_is_no_positive_integer_is_named(value):
    with pytest.raises(ValueError, match=r"groups is .*: give an integer"):
        integer("groups", value)
    assert integer("groups", np.int32(2)) == 2
