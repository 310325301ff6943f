"""Errors in the user's input: each message is short and says what is wrong and how to fix it."""

import contextlib
import itertools
import operator
import re
from collections.abc import Collection, Iterable, Iterator


class InputError(ValueError):
    """Raised if a file, a record or an option cannot be used.

    The message is one line that names the input and says how to fix it, or one such line for each
    of several inputs. The command line prints it without a traceback.
    """


class OptionError(InputError):
    """Raised if an option cannot be used.

    The message begins with the name of the option, without the place where it was given. A caller
    that knows the place can put a path before it, see `under`.

    Attributes:
      option: name of the option, such as "score_threshold".
    """

    def __init__(self, option: str, message: str):
        super().__init__(message)
        self.option = option


@contextlib.contextmanager
def under(path: str) -> Iterator[None]:
    """Puts a path before the option that an OptionError names.

    Args:
      path: path of the group that has the option, such as "loss" or "task.detect": "gamma is
        -1: give at least 0" becomes "loss.gamma is -1: give at least 0".
    """
    try:
        yield
    except OptionError as error:
        message = str(error)
        starts = re.fullmatch(r"[\w.]+", error.option) and message.startswith(error.option)
        joined = f"{path}.{message}" if starts else f"{path}: {message}"
        raise OptionError(f"{path}.{error.option}", joined) from error


@contextlib.contextmanager
def option_errors(option: str) -> Iterator[None]:
    """Converts an error that a function raises for its arguments to an OptionError.

    Args:
      option: name of the option that gave the function or its arguments, such as "loss".
    """
    try:
        with under(option):
            yield
    except OptionError:
        raise
    except (TypeError, ValueError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OptionError(option, f"{option}: {reason}") from error


def listed(names: Collection[str], *, most: int = 8, more: str = "more") -> str:
    """Returns the first names as text, and the number of those left out, such as "and 3 more"."""
    shown = ", ".join(itertools.islice(names, most))
    return f"{shown} and {len(names) - most} {more}" if len(names) > most else shown


def one_line(text: str, most: int = 300) -> str:
    """Returns a text as one line of at most so many characters; a longer one is cut in the middle.

    For what a damaged file may hold, so that no message grows with the damage.
    """
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    kept = (most - 5) // 2
    return f"{text[:kept]} ... {text[-kept:]}"


def reason_of(error: Exception) -> str:
    """Returns what an error says as one line, see `one_line`; its type if it says nothing."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return one_line(said, 200)


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raises OptionError, naming the option, unless its value is one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise OptionError(name, f"{name} is {value!r}: choose one of {', '.join(choices)}")


def check_range(
    name: str,
    value: float,
    *,
    least: float | None = None,
    most: float | None = None,
    more_than: float | None = None,
    less_than: float | None = None,
) -> None:
    """Raises OptionError if an option is out of range (or NaN).

    Args:
      name: name of the option.
      value: its value.
      least: the smallest value allowed.
      most: the largest value allowed.
      more_than: exclusive lower bound.
      less_than: exclusive upper bound.
    """
    bounds = {
        "at least": (least, operator.ge),
        "more than": (more_than, operator.gt),
        "at most": (most, operator.le),
        "less than": (less_than, operator.lt),
    }
    stated = {text: given for text, given in bounds.items() if given[0] is not None}
    try:
        fits = all(holds(value, bound) for bound, holds in stated.values())
    except TypeError:  # no number
        fits, value = False, repr(value)
    if not fits:
        allowed = " and ".join(f"{text} {bound}" for text, (bound, _) in stated.items())
        raise OptionError(name, f"{name} is {value}: give {allowed}")


def check_divisible(batch_size: int, count: int, what: str) -> None:
    """Raises InputError, naming the next sizes that fit, if a batch cannot be divided evenly.

    Args:
      batch_size: size of the global batch.
      count: number of parts.
      what: name of the parts, for the message: "devices" or "processes".
    """
    if batch_size < 1 or batch_size % count:
        below = max(0, batch_size - batch_size % count)
        near = " or ".join(str(size) for size in (below, below + count) if size)
        raise InputError(
            f"batch size {batch_size} is not divisible by the {count} {what}: use {near}"
        )
