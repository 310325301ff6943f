"""Registries: tables of named functions and classes.

Users need not register their own functions: "file.py:function" or "package.module:function" names
a function that is in no table.
"""

import difflib
import importlib
import importlib.util
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

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


def find_function(
    table: Mapping[str, Callable[..., Any]], name: str, kind: str
) -> Callable[..., Any]:
    """Returns the function with a name, from the registry or from the user's code.

    Args:
      table: the registry.
      name: name of an entry, or "file.py:function" with the path of a file, or
        "package.module:function".
      kind: kind of the entries, for the message.
    Raises:
      InputError: there is no such function; the message lists similar names.
    """
    if not isinstance(name, str):
        raise InputError(f"{kind} is {name!r}: give its name")
    where, colon, function = name.rpartition(":")
    if not colon:
        return lookup(table, name, kind)
    module = _load_file(where, name, kind) if where.endswith(".py") else _load(where, name, kind)
    known = {key: value for key, value in vars(module).items() if callable(value)}
    return lookup(known, function, f"{kind} of {where}")


def _load_file(path: str, name: str, kind: str) -> Any:
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"{kind} {name!r}: there is no file {file.absolute()}")
    # Dataclasses and pickle look the module up by its name, which must not be that of another one.
    spec = importlib.util.spec_from_file_location(re.sub(r"\W", "_", str(file.resolve())), file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load(module: str, name: str, kind: str) -> Any:
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"{kind} {name!r}: give 'file.py:function' or 'package.module:function'")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"{kind} {name!r}: {error}") from error
