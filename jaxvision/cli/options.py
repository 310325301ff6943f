"""Options as dataclasses on one side, and as groups of a config on the other."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxvision.core import under


def documentation(options: type) -> dict[str, str]:
    """Field -> its line in the section "Attributes:" of a dataclass, base classes included."""
    lines: dict[str, str] = {}
    for base in reversed(options.__mro__):
        if dataclasses.is_dataclass(base):
            lines |= _attributes(inspect.getdoc(base) or "")
    return lines


def _attributes(doc: str) -> dict[str, str]:
    section = re.search(r"^Attributes:\n((?:(?:  .*)?\n?)*)", doc, re.MULTILINE)
    found: dict[str, str] = {}
    name = None
    for line in section[1].splitlines() if section else ():
        if start := re.match(r"  (\w+): (.*)", line):
            name, found[start[1]] = start[1], start[2]
        elif line.strip() and name:
            found[name] = f"{found[name]} {line.strip()}"
    return found


def group_of(options: type, defaults: Mapping[str, Any] | None = None) -> ConfigDict:
    """A group of a config with the fields of a dataclass.

    Args:
      options: the dataclass; each field has a default.
      defaults: other values of some fields.
    """
    group, hints = ConfigDict(), typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        value = (defaults or {}).get(field.name, field.default)
        if value is None:
            value = config_dict.placeholder(_plain_type(hints[field.name]))
        group[field.name] = value
    return group


def _plain_type(hint: Any) -> type:
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
    with under(path):
        return options(**{f.name: _plain(group[f.name]) for f in dataclasses.fields(options)})


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
