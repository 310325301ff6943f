"""Registries: tables of named functions and classes, and hints for unknown names."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from jaxvision.core.errors import InputError

T = TypeVar("T")


def merge(*tables: Mapping[str, T]) -> dict[str, T]:
    """Merges several tables into one.

    Raises:
      ValueError: a name is in two tables.
    """
    merged: dict[str, T] = {}
    for table in tables:
        clash = merged.keys() & table.keys()
        if clash:
            raise ValueError(f"registered twice: {', '.join(sorted(clash))}")
        merged.update(table)
    return merged


def close_names(name: str, known: Iterable[str]) -> str:
    """Returns a hint for an unknown name: the similar names, or all names if none is similar."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    return f"known: {', '.join(known)}"


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Returns the entry of a table with a name.

    Args:
      table: the registry.
      name: name of the entry.
      kind: kind of the entries, for the message ("model", "task", ...).
    Raises:
      InputError: there is no such entry; the message lists similar names.
    """
    if name not in table:
        raise InputError(f"unknown {kind} {name!r}: {close_names(name, table)}")
    return table[name]
