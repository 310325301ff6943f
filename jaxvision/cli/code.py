"""Functions and classes by name: of the library's tables, or of the user's own code.

Code of the user's own runs only if its name comes from the command line or from the user's own
config file. A name that a run folder holds is refused, unless its file is trusted by --trust-code.
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
      trusted: files whose code may run; None: every file and module that is named.
      origin: what holds the names, for messages, such as "the run in runs/mine".
    """

    def __init__(self, trusted: Sequence[str | pathlib.Path] | None = None, *, origin: str = ""):
        self._trusted = None if trusted is None else {_file(path).resolve() for path in trusted}
        self._origin = origin

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
        self._check(where, name, kind)
        load = _load_file if where.endswith(".py") else _load_module
        module = load(where, name, kind)
        known = {key: value for key, value in vars(module).items() if callable(value)}
        return lookup(known, function, f"{kind} of {where}")

    def _check(self, where: str, name: str, kind: str) -> None:
        if self._trusted is None:
            return
        if not where.endswith(".py") or _file(where).resolve() not in self._trusted:
            fix = f"--trust-code={where}" if where.endswith(".py") else "its file's path instead"
            raise InputError(
                f"{self._origin} names {name!r} as its {kind}, which is code that would run: give "
                f"{fix} if you trust it"
            )


def is_own(name: Any) -> bool:
    """Whether a name is that of the user's own code."""
    return isinstance(name, str) and ":" in name


def _file(path: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(path).expanduser()


def _load_file(path: str, name: str, kind: str) -> Any:
    file = _file(path)
    if not file.is_file():
        raise InputError(f"{kind} {name!r}: there is no file {file.absolute()}")
    # Dataclasses look their module up by its name, which must not be that of another module.
    module_name = re.sub(r"\W", "_", str(file.resolve()))
    if module_name in sys.modules:
        return sys.modules[module_name]
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
