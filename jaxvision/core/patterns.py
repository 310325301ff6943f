"""Patterns that choose among the names of variables.

A variable's name is its path: "conv1/kernel", "backbone/layer1_0_conv1/kernel". A pattern, in which
* stands for any characters, ? for one and [12] for one of several, chooses a variable if it matches
its whole name or a beginning of it that ends at a "/": "conv1", "layer[12]*", "backbone".
"""

import fnmatch
import itertools
from collections.abc import Iterable, Sequence

from jaxvision.core.errors import OptionError
from jaxvision.core.registry import close_names


def name_matches(name: str, pattern: str) -> bool:
    """Whether a pattern chooses the variable of a name."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in _beginnings(name))


def names_matching(names: Iterable[str], patterns: Sequence[str], *, what: str) -> set[str]:
    """The names that one of several patterns chooses.

    Args:
      names: of variables.
      patterns: see above.
      what: name of the option that has the patterns, such as "freeze".
    Raises:
      OptionError: a pattern chooses nothing, or the patterns are no sequence of strings; the
        message names the option and close names.
    """
    names = list(names)
    if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
        raise OptionError(
            what, f"{what} is {patterns!r}: give a tuple of patterns, as ('conv1', 'bn1')"
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
