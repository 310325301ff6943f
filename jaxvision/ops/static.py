"""Checks of options that are numbers known before tracing."""

import operator
from collections.abc import Sequence


def integer(name: str, value: int, *, least: int = 1) -> int:
    """Returns an option as an integer.

    Raises:
      ValueError: the value is not an integer or is less than `least`; the message names the option.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}: give an integer") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} is {value!r}: give an integer of at least {least}")
    return number


def pair(name: str, value: int | Sequence[int], *, least: int = 1) -> tuple[int, int]:
    """Returns (vertical, horizontal) of an option that is one integer for both, or a pair.

    Raises:
      ValueError: the value is neither, or a number is less than `least`; the message names the
        option.
    """
    both = value if isinstance(value, list | tuple) else (value, value)
    try:
        first, second = both
        return integer(name, first, least=least), integer(name, second, least=least)
    except ValueError:
        raise ValueError(
            f"{name} is {value!r}: give one integer of at least {least}, or a pair"
        ) from None


def check_positive(name: str, numbers: Sequence[float], count: int | None = None) -> None:
    """Raises ValueError, naming the option, if a number is not positive.

    Args:
      name: name of the option.
      numbers: its value.
      count: the required length; None allows any length.
    """
    if count is not None and len(numbers) != count:
        raise ValueError(f"{name} has {len(numbers)} numbers: give {count}")
    if not all(number > 0 for number in numbers):
        raise ValueError(f"{name} is {numbers!r}: give positive numbers")
