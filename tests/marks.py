"""Which cases of a test are default ones, which slow and which long."""

import pytest


def slow_but(cases, quick):
    """Parameters of which only the quick ones are default tests; the others are slow ones.

    Args:
      cases: values of a parameter, or tuples of those of several.
      quick: some of them.
    """
    return _marked(cases, quick, cases)


def long_but(cases, quick, slow=()):
    """Parameters of which the quick ones are default tests, some are slow, and the others long.

    Args:
      cases: values of a parameter, or tuples of those of several.
      quick: some of them.
      slow: others of them.
    """
    return _marked(cases, quick, slow)


def _marked(cases, quick, slow):
    cases = list(cases)
    unknown = [case for case in [*quick, *slow] if case not in cases]
    assert not unknown, unknown

    def marks(case):
        if case in quick:
            return ()
        return pytest.mark.slow if case in slow else pytest.mark.long

    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks(case))
        for case in cases
    ]
