"""Checks of options that several augmentations share."""

from collections.abc import Sequence
from typing import Any

from jaxvision.core import OptionError, check_range

BOUNDS = {
    "least": "at least",
    "more_than": "more than",
    "most": "at most",
    "less_than": "less than",
}


def check_whole(name: str, value: Any, **bounds: float) -> None:
    """Raises OptionError if an option is not a whole number or is out of range.

    Args:
      name: name of the option.
      value: its value.
      bounds: bounds of `check_range`.
    """
    if isinstance(value, bool) or value != value or int(value) != value:
        raise OptionError(name, f"{name} is {value}: give a whole number")
    check_range(name, value, **bounds)


def check_limits(name: str, limits: Any, **bounds: float) -> tuple[float, float]:
    """Checks the two limits between which a number is drawn, and returns them.

    Args:
      name: name of the option.
      limits: its value: the least and the largest number.
      bounds: bounds of `check_range` for both numbers.
    Returns:
      the limits as a tuple.
    Raises:
      OptionError: limits is not two numbers, a number is out of range, or the first is larger.
    """
    allowed = " and ".join(f"{BOUNDS[bound]} {value}" for bound, value in bounds.items())
    wrong = OptionError(
        name,
        f"{name} is {limits!r}: give two numbers that are {allowed}, the smaller one first",
    )
    try:
        least, most = limits
        for limit in (least, most):
            check_range(name, limit, **bounds)
    except (TypeError, ValueError) as error:
        raise wrong from error
    if not least <= most:
        raise wrong
    return least, most


def check_swap(swap: Sequence[int]) -> tuple[int, ...]:
    """Checks the option `swap`, the mirrored counterparts of points, and returns it.

    Args:
      swap: for each point the index of its mirrored counterpart, which is the point itself, or
        another point whose counterpart is this one; () exchanges nothing.
    Returns:
      the option as a tuple.
    Raises:
      OptionError: swap does not exchange points in pairs.
    """
    numbers = tuple(swap)
    back = {becomes: point for point, becomes in enumerate(numbers)}
    if any(back.get(point) != becomes for point, becomes in enumerate(numbers)):
        raise OptionError(
            "swap",
            f"swap is {numbers}: give for each point the index of its mirrored counterpart, such "
            "as (1, 0, 2) for two eyes and a nose",
        )
    return numbers


def check_fill(fill: float | Sequence[float]) -> float | tuple[float, ...]:
    """Checks the option `fill`, one value or one for each channel, and returns it.

    Raises:
      OptionError: a value is not in 0..255.
    """
    several = isinstance(fill, Sequence)
    for value in fill if several else [fill]:
        check_range("fill", value, least=0, most=255)
    return tuple(fill) if several else fill


def check_rule(least_visible: float, least_side: float) -> None:
    """Raises OptionError if the options of `clip_and_drop` are out of range."""
    check_range("least_visible", least_visible, least=0, most=1)
    check_range("least_side", least_side, least=0)
