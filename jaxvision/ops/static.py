"""Options that are numbers known before tracing."""

import operator
from collections.abc import Sequence


def pair(name: str, value: int | Sequence[int], *, least: int = 1) -> tuple[int, int]:
    """(vertical, horizontal) of an option that is given as one integer or as two.

    Raises:
      ValueError: neither, or an integer under `least`; the option is named.
    """
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    try:
        first, second = map(operator.index, both)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}: give one integer or a pair") from None
    if min(first, second) < least:
        raise ValueError(f"{name} is {value!r}: give integers of at least {least}")
    return first, second


def check_positive(name: str, numbers: Sequence[float], count: int | None = None) -> None:
    """Raises ValueError, naming the option, if a number is not positive.

    Args:
      name: of the option.
      numbers: what was given.
      count: how many there should be; None for any number.
    """
    if count is not None and len(numbers) != count:
        raise ValueError(f"{name} has {len(numbers)} numbers: give {count}")
    if not all(number > 0 for number in numbers):
        raise ValueError(f"{name} is {numbers!r}: give positive numbers")
