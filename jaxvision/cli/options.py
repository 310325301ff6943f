"""Options: dataclasses on one side, groups of a config on the other."""

import contextlib
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxvision.core import OptionError, under


@contextlib.contextmanager
def option_paths(group: str, /, **names: str) -> Iterator[None]:
    """Puts the path of a group before an option's error; see `jaxvision.core.under`.

    Args:
      group: path of the group, such as "config.data".
      **names: name of an option in the library -> its key in the group, where they differ.
    """
    with under(group):
        try:
            yield
        except OptionError as error:
            if error.option not in names:
                raise
            raise _renamed(error, names[error.option]) from error


@contextlib.contextmanager
def flag_errors(**names: str) -> Iterator[None]:
    """Makes the error of an option name the flag that it was given by.

    Args:
      **names: name of an option in the library -> name of the flag, where they differ.
    """
    try:
        yield
    except OptionError as error:
        flag = f"--{names.get(error.option, error.option)}"
        renamed = _renamed(error, flag)
        message = str(renamed)
        raise OptionError(
            flag, message if message.startswith(flag) else f"{flag}: {message}"
        ) from error


def _renamed(error: OptionError, name: str) -> OptionError:
    """The same error under another name of its option, also where its message begins with that."""
    message = str(error)
    if message.startswith(error.option):
        message = name + message.removeprefix(error.option)
    return OptionError(name, message)


def documentation(options: Any) -> dict[str, str]:
    """Field -> its line in "Attributes:" of a dataclass, base classes included; or in "Args:"."""
    if not isinstance(options, type):
        return _attributes(inspect.getdoc(options) or "")
    lines: dict[str, str] = {}
    for base in reversed(options.__mro__):
        if dataclasses.is_dataclass(base):
            lines |= _attributes(inspect.getdoc(base) or "")
    return lines


def _attributes(doc: str) -> dict[str, str]:
    section = re.search(r"^(?:Attributes|Args):\n((?:(?:  .*)?\n?)*)", doc, re.MULTILINE)
    found: dict[str, str] = {}
    name = None
    for line in section[1].splitlines() if section else ():
        if start := re.match(r"  (\w+): (.*)", line):
            name, found[start[1]] = start[1], start[2]
        elif line.strip() and name:
            found[name] = f"{found[name]} {line.strip()}"
    return found


def group_of(options: type, defaults: Mapping[str, Any] | None = None) -> ConfigDict:
    """A group of a config with the fields of a dataclass; a field that is one too is a group in it.

    Args:
      options: the dataclass; each field has a default.
      defaults: other values of some fields.
    """
    group, hints = ConfigDict(), typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        if dataclasses.is_dataclass(hints[field.name]):
            group[field.name] = group_of(hints[field.name])
            continue
        value = (defaults or {}).get(field.name, field.default)
        if value is None:
            value = config_dict.placeholder(plain_type(hints[field.name]))
        group[field.name] = value
    return group


def keys_of(options: type, prefix: str = "") -> dict[str, str]:
    """Key of a group -> what it means, nested groups included.

    Args:
      options: the dataclass of the group.
      prefix: of the keys, such as "optimizer."
    """
    keys, meaning, hints = {}, documentation(options), typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        if dataclasses.is_dataclass(hints[field.name]):
            keys |= keys_of(hints[field.name], f"{prefix}{field.name}.")
        else:
            keys[f"{prefix}{field.name}"] = meaning.get(field.name, "")
    return keys


def plain_type(hint: Any) -> type:
    """The type of the values of a field that may be None."""
    kinds = [part for part in typing.get_args(hint) if part is not types.NoneType]
    plain = kinds[0] if kinds else hint
    return typing.get_origin(plain) or plain


def read_group(options: type, group: Any, path: str) -> Any:
    """The dataclass of a group of a config.

    Args:
      options: the dataclass.
      group: of the config; keys beyond the fields are left alone.
      path: of the group, such as "config.detect", which errors of its options begin with.
    Raises:
      InputError: an option is out of range.
    """
    hints, values = typing.get_type_hints(options), {}
    for field in dataclasses.fields(options):
        value, kind = group[field.name], hints[field.name]
        if dataclasses.is_dataclass(kind):
            values[field.name] = read_group(kind, value, f"{path}.{field.name}")
        else:
            values[field.name] = _plain(value)
    with under(path):
        return options(**values)


def plain(group: Any) -> dict[str, Any]:
    """A group with free keys as a plain dict."""
    return {key: _plain(value) for key, value in group.items()}


def _plain(value: Any) -> Any:
    """A value of a config, its groups as dicts and its lists as tuples."""
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(part) for part in value)
    return value
