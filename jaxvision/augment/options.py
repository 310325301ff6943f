"""Checks of options that more than one augmentation has."""

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
    """Raises OptionError if an option is no whole number, or is out of the range of `check_range`.

    Args:
      name: of the option.
      value: what was given.
      bounds: of `check_range`.
    """
    if isinstance(value, bool) or value != value or int(value) != value:
        raise OptionError(name, f"{name} is {value}: give a whole number")
    check_range(name, value, **bounds)


def check_limits(name: str, limits: Any, **bounds: float) -> tuple[float, float]:
    """The two limits between which a number is drawn.

    Args:
      name: of the option.
      limits: what was given: the least and the largest number.
      bounds: of `check_range`; both numbers must keep them.
    Returns:
      The limits as a tuple.
    Raises:
      OptionError: they are not two numbers, or one is out of range, or the first is larger.
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
    """An exchange of points: the point k becomes the point swap[k], and the other way round.

    Args:
      swap: for each point the one that it becomes in the mirror: itself, or another one, which then
        becomes it; () exchanges nothing.
    Returns:
      The exchange as a tuple.
    Raises:
      OptionError: it is no exchange.
    """
    numbers = tuple(swap)
    back = {becomes: point for point, becomes in enumerate(numbers)}
    if any(back.get(point) != becomes for point, becomes in enumerate(numbers)):
        raise OptionError(
            "swap",
            f"swap is {numbers}: give for each point the number, from 0 on, of the point that it "
            "becomes in the mirror, and which becomes it: (1, 0, 2) for two eyes and a nose",
        )
    return numbers


def check_rule(least_visible: float, least_side: float) -> None:
    """Raises OptionError if the options of the rule for boxes are out of range."""
    check_range("least_visible", least_visible, least=0, most=1)
    check_range("least_side", least_side, least=0)
