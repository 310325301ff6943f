"""Functions and classes by name: from the library's tables, or from the user's own code.

The user's own code runs only if its name comes from the command line or from the user's own config
file. A name from a run's folder is refused, unless --trust-code names its file or module.
"""

import importlib
import importlib.util
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxvision.core import InputError, lookup


class Code:
    """Finds what a config names.

    Args:
      trusted: files and modules whose code may run; None: all that are named.
      origin: what holds the names, for messages, such as "the run in runs/mine".
    """

    def __init__(self, trusted: Sequence[str | pathlib.Path] | None = None, *, origin: str = ""):
        self._trusted = None if trusted is None else tuple(map(str, trusted))
        self._origin = origin
        self._files: dict[str, Any] = {}

    def find(self, table: Mapping[str, Any], name: Any, kind: str) -> Callable[..., Any]:
        """The function or class that is called `name`.

        Args:
          table: of the library.
          name: a key of it, or "file.py:function" (a path), or "package.module:function".
          kind: what the table holds, for messages.
        Raises:
          InputError: there is none, or it is code that is not trusted.
        """
        if not isinstance(name, str):
            raise InputError(f"{kind} is {name!r}: give its name")
        where, colon, function = name.rpartition(":")
        if not colon:
            return lookup(table, name, kind)
        where = self._trusted_part(where, name, kind)
        load = self._file if where.endswith(".py") else _load_module
        module = load(where, name, kind)
        known = {key: value for key, value in vars(module).items() if callable(value)}
        return lookup(known, function, f"{kind} of {where}")

    def _trusted_part(self, where: str, name: str, kind: str) -> str:
        """The file or module to load for the one that a name has before its colon.

        A relative path may be that of a trusted file from another working directory.
        """
        if self._trusted is None or where in self._trusted:
            return where
        if where.endswith(".py"):
            path = _expanded(where)
            for given in self._trusted:
                file = _expanded(given).resolve()
                moved = not path.is_absolute() and file.parts[-len(path.parts) :] == path.parts
                if given.endswith(".py") and (moved or file == path.resolve()):
                    return str(file)
        raise InputError(
            f"{self._origin} names {name!r} as its {kind}, which is code that would run: give "
            f"--trust-code={where} if you trust it"
        )

    def _file(self, path: str, name: str, kind: str) -> Any:
        """The module of a file, which runs once, however many parts are taken from it."""
        if path not in self._files:
            self._files[path] = _load_file(path, name, kind)
        return self._files[path]


def is_own(name: Any) -> bool:
    """Whether a name is that of the user's own code."""
    return isinstance(name, str) and ":" in name


def _expanded(path: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(path).expanduser()


def _load_file(path: str, name: str, kind: str) -> Any:
    file = _expanded(path)
    if not file.is_file():
        raise InputError(f"{kind} {name!r}: there is no file {file.absolute()}")
    # Dataclasses look their module up by its name, which must not be that of another module.
    module_name = re.sub(r"\W", "_", str(file.resolve()))
    spec = importlib.util.spec_from_file_location(module_name, file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _load_module(module: str, name: str, kind: str) -> Any:
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"{kind} {name!r}: give 'file.py:function' or 'package.module:function'")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"{kind} {name!r}: {error}") from error
