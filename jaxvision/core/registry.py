"""Registries are literal tables: merged with an error on a clash, looked up with a hint."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from jaxvision.core.errors import InputError

T = TypeVar("T")


def merge(*tables: Mapping[str, T]) -> dict[str, T]:
    """One table out of several.

    Raises:
      ValueError: a name stands in two tables.
    """
    merged: dict[str, T] = {}
    for table in tables:
        clash = merged.keys() & table.keys()
        if clash:
            raise ValueError(f"registered twice: {', '.join(sorted(clash))}")
        merged.update(table)
    return merged


def close_names(name: str, known: Iterable[str]) -> str:
    """The hint for a wrong name: the close ones, or all where none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    return f"known: {', '.join(known)}"


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """The entry called `name`.

    Args:
      table: the registry.
      name: what is looked for.
      kind: what the table holds, for the message ("model", "task", ...).
    Raises:
      InputError: there is none; the message lists the close names.
    """
    if name not in table:
        raise InputError(f"unknown {kind} {name!r}: {close_names(name, table)}")
    return table[name]
