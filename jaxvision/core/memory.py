"""Whether arrays fit into the memory of the machine, before they are made."""

import os
import pathlib

from jaxvision.core.errors import InputError, OptionError

_UNKNOWN = 2**63


def machine_memory() -> int:
    """Returns the bytes of memory of this machine; more than any array has if it is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # a system without these figures
        return _UNKNOWN


def free_memory() -> int:
    """Returns the bytes that are free; where the system does not say, those of the machine."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return machine_memory()


def in_gigabytes(count: float) -> str:
    """Returns a number of bytes as text, such as "37.3 GB"."""
    return f"{count / 1e9:,.3g} GB" if count < 1e12 else f"{count / 1e9:,.0f} GB"


def check_memory(option: str, value: object, count: int, what: str) -> None:
    """Raises OptionError if arrays do not fit into the memory of this machine.

    Args:
      option: name of the option that makes them large.
      value: its value.
      count: bytes of the arrays.
      what: the arrays, as the subject of a sentence: "an image of it takes".
    """
    memory = machine_memory()
    if count > memory:
        raise OptionError(
            option,
            f"{option} is {value}: {what} {in_gigabytes(count)}, and this machine has "
            f"{in_gigabytes(memory)} of memory: give less",
        )


def check_free(path: pathlib.Path, count: int) -> None:
    """Raises InputError if the arrays of a file do not fit into the memory that is free.

    Args:
      path: of the file, for the message.
      count: bytes of the arrays.
    """
    free = free_memory()
    if count > free:
        raise InputError(
            f"{path} needs {in_gigabytes(count)} of memory, and {in_gigabytes(free)} is free: end "
            "other programs, or use a machine with more memory"
        )
