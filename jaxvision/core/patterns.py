"""Patterns that select variables by name.

The name of a variable is its path: "conv1/kernel", "backbone/layer1_0_conv1/kernel". In a pattern *
stands for any characters, ? for one character, and [12] for one of the characters listed. A pattern
selects a variable if it matches its whole name or a part from the beginning to a "/": "conv1",
"layer[12]*", "backbone".
"""

import fnmatch
import itertools
from collections.abc import Iterable, Sequence

from jaxvision.core.errors import OptionError
from jaxvision.core.registry import close_names


def name_matches(name: str, pattern: str) -> bool:
    """Returns whether a pattern selects the variable with a name."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in _beginnings(name))


def names_matching(names: Iterable[str], patterns: Sequence[str], *, what: str) -> set[str]:
    """Returns the names that at least one of several patterns selects.

    Args:
      names: names of variables.
      patterns: patterns, as described above.
      what: name of the option that has the patterns, such as "freeze".
    Raises:
      OptionError: a pattern selects nothing, or patterns is not a sequence of strings; the message
        names the option and similar names.
    """
    names = list(names)
    if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
        raise OptionError(
            what, f"{what} is {patterns!r}: give a tuple of patterns, such as ('conv1', 'bn1')"
        )
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if name_matches(name, pattern)}
        if not matching:
            layers = {name.rpartition("/")[0] or name for name in names}
            raise OptionError(
                what, f"{what}: {pattern!r} matches nothing: {close_names(pattern, layers)}"
            )
        found |= matching
    return found


def _beginnings(name: str) -> Iterable[str]:
    return itertools.accumulate(name.split("/"), lambda whole, part: f"{whole}/{part}")
