"""Which cases of a test are default ones."""

import pytest


def slow_but(cases, quick):
    """Parameters of which only the quick ones are default tests; the others are slow ones.

    Args:
      cases: values of a parameter, or tuples of those of several.
      quick: some of them.
    """
    cases = list(cases)
    unknown = [case for case in quick if case not in cases]
    assert not unknown, unknown
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if case in quick else pytest.mark.slow,
        )
        for case in cases
    ]
