"""Descriptions of the parts of a run in plain JSON, and functions that restore the parts.

A description has two purposes: to find the differences between two runs, and to build the named
parts of a run again. Nothing in a description is imported: its names are looked up in tables that
the caller gives. The forms:

    None, True, 3, 0.5, "bilinear"            the value itself
    [...]                                     a tuple or list; restored as a tuple
    {"mapping": {...}}                        a mapping with string keys
    {"number": "nan"}                         a float that JSON cannot represent
    {"dtype": "bfloat16"}                     a dtype
    {"array": [...], "dtype": "float32"}      a small array; a large one has its shape and sha256
    {"name": "relu"}                          an entry of a table
    {"name": "batch_norm", "epsilon": 0.001}  a `functools.partial` of a function in a table
    {"name": "resnet18", "num_classes": 3}    an instance, made by a constructor in a table
    {"constructor": "resnet18", ...}          such a constructor itself, optionally with keywords
    {"object": "my_file:loss", "sha256": ...} any other object, with its fields or keywords

A constructor is a dataclass, a Flax module, a named tuple, or a `functools.partial` of one. The
description of an instance has only the fields that differ from the closest entry. They are in
"fields" if one of their names is a word of this format. "arguments" has positional arguments.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.core.errors import InputError, one_line, reason_of
from jaxvision.core.registry import close_names

JSON = Any
"""None, bool, int, float, str, or a list or a dict with string keys of such values."""

Tables = Mapping[str, Mapping[str, Any]]
"""Name of a table ("models", "norms", ...) -> name -> function, class or constructor."""

_WORDS = {"name", "constructor", "object", "sha256", "fields", "arguments"}
# Libraries are identified by their versions, so that no digest of their source is needed.
_LIBRARIES = {"jaxvision", "jax", "jaxlib", "flax", "optax", "numpy", "functools", "builtins"}
_LARGEST_ARRAY = 64  # number of elements up to which an array is written out
_MISSING = object()


def describe(x: Any, tables: Tables) -> JSON:
    """Describes a value in plain JSON; see the forms above.

    Args:
      x: any value.
      tables: the named objects. A name that is in two tables is written as "table/name".
    """
    if x is None or isinstance(x, bool | int | str):
        return x
    if isinstance(x, np.bool_ | np.integer):
        return x.item()
    if isinstance(x, float | np.floating):
        return float(x) if math.isfinite(x) else {"number": str(float(x))}
    if _is_dtype(x):
        return {"dtype": jnp.dtype(x).name}
    if isinstance(x, np.ndarray | jax.Array):
        return _describe_array(x)
    name = _name_of(x, tables)
    if name is not None:
        return {"constructor" if _class_of(x) else "name": name}
    if isinstance(x, functools.partial):
        return _describe_partial(x, tables)
    if _is_record(x):
        return _describe_record(x, tables)
    if isinstance(x, tuple | list):
        return [describe(value, tables) for value in x]
    if isinstance(x, Mapping) and all(isinstance(key, str) for key in x):
        return {"mapping": {key: describe(value, tables) for key, value in x.items()}}
    return _describe_object(x)


def restore(description: JSON, tables: Tables) -> Any:
    """Builds the value that a description describes, using only the entries of tables.

    Args:
      description: the result of `describe`.
      tables: the tables given to `describe`, or tables that have at least the names used.
    Raises:
      InputError: a part has no name in the tables, or the description is malformed; the message
        names the part.
    """
    return _restore(description, tables, "")


def flat(description: JSON) -> dict[str, JSON]:
    """Returns the leaves of nested JSON by their paths.

    Args:
      description: nested dicts and lists.
    Returns:
      "a.b" -> value. A list counts as one value, unless it contains a dict: then its elements have
      paths such as "augment.0.name".
    """
    return dict(_leaves(description, ""))


def differences(old: JSON, new: JSON) -> list[str]:
    """Returns the differences of two descriptions, as "batch_size: 64 -> 32", sorted by path."""
    before, after = flat(old), flat(new)
    return [
        f"{path}: {_shown(before, path)} -> {_shown(after, path)}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path, _MISSING) != after.get(path, _MISSING)
    ]


def code_of(description: JSON) -> dict[str, str]:
    """Returns the user's own functions and classes in a description: name -> sha256 of the source.

    Objects without a digest are left out: those of libraries, and those without a known source.
    """
    found: dict[str, str] = {}
    if isinstance(description, dict):
        if isinstance(description.get("object"), str) and description.get("sha256"):
            found[description["object"]] = description["sha256"]
        for value in description.values():
            found |= code_of(value)
    elif isinstance(description, list):
        for value in description:
            found |= code_of(value)
    return found


def _shown(values: dict[str, JSON], path: str) -> str:
    return json.dumps(values[path]) if path in values else "(absent)"


def _leaves(value: JSON, path: str) -> Iterator[tuple[str, JSON]]:
    parts: dict[str, JSON] = {}
    if isinstance(value, dict):
        parts = value
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        parts = {str(number): part for number, part in enumerate(value)}
    if not parts:
        yield path, value
    for key, part in parts.items():
        yield from _leaves(part, f"{path}.{key}" if path else key)


# Describing


def _is_dtype(x: Any) -> bool:
    if isinstance(x, type):
        return issubclass(x, np.generic) or isinstance(getattr(x, "dtype", None), np.dtype)
    return isinstance(x, np.dtype)


def _describe_array(x: Any) -> JSON:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    x = np.asarray(x)
    if x.size > _LARGEST_ARRAY:
        digest = hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()
        return {"array": digest, "shape": list(x.shape), "dtype": x.dtype.name}
    numbers = x if x.dtype.kind in "biu" else x.astype(np.float64)
    return {"array": describe(numbers.tolist(), {}), "dtype": x.dtype.name}


def _is_record(x: Any) -> bool:
    """Returns whether a value is an instance of a dataclass, a Flax module or a named tuple."""
    return not isinstance(x, type) and bool(_fields(type(x)))


def _fields(cls: type) -> dict[str, Any]:
    """Returns the default of each field, in the order of the constructor; {} for other classes."""
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return {name: cls._field_defaults.get(name, _MISSING) for name in cls._fields}
    if not dataclasses.is_dataclass(cls):
        return {}
    known = {}
    for field in dataclasses.fields(cls):
        if not field.init or (issubclass(cls, nn.Module) and field.name in ("parent", "name")):
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        known[field.name] = _MISSING if default is dataclasses.MISSING else default
    return known


def _class_of(entry: Any) -> type | None:
    """Returns the class whose instances a constructor makes; None for other values."""
    while isinstance(entry, functools.partial):
        entry = entry.func
    return entry if isinstance(entry, type) else None


def _given(constructor: Any) -> dict[str, Any]:
    """Returns the value of each field if the constructor is called without arguments."""
    cls = _class_of(constructor)
    values = _fields(cls)
    if isinstance(constructor, functools.partial):
        values |= dict(zip(values, constructor.args, strict=False)) | constructor.keywords
    return values


def _name_of(x: Any, tables: Tables) -> str | None:
    """Returns the name of the entry that is the value; None if there is none."""
    for table, entries in tables.items():
        for name, entry in entries.items():
            if entry is x or (isinstance(x, functools.partial) and _same(entry, x)):
                return _written(table, name, tables)
    return None


def _written(table: str, name: str, tables: Tables) -> str:
    clash = sum(name in entries for entries in tables.values()) > 1
    return f"{table}/{name}" if clash else name


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if one is _MISSING or other is _MISSING:
        return False
    if isinstance(one, functools.partial) and isinstance(other, functools.partial):
        parts = ((x.func, x.args, x.keywords) for x in (one, other))
        return all(_same(a, b) for a, b in zip(*parts, strict=True))
    if _is_dtype(one) and _is_dtype(other):
        return jnp.dtype(one) == jnp.dtype(other)
    if isinstance(one, np.ndarray | jax.Array) or isinstance(other, np.ndarray | jax.Array):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    if _is_record(one) or _is_record(other):
        if type(one) is not type(other):
            return False
        return all(_same(getattr(one, name), getattr(other, name)) for name in _fields(type(one)))
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


def _closest(
    cls: type, values: Mapping[str, Any], tables: Tables
) -> tuple[str, dict[str, Any]] | None:
    """Returns the constructor of a class that needs the fewest further fields, and these fields."""
    best: tuple[str, dict[str, Any]] | None = None
    for table, entries in tables.items():
        for name, entry in entries.items():
            if _class_of(entry) is not cls:
                continue
            given = _given(entry)
            differing = {
                field: value for field, value in values.items() if not _same(value, given[field])
            }
            if any(value is _MISSING for value in differing.values()):
                continue  # this constructor sets a field that has no value here
            if best is None or len(differing) < len(best[1]):
                best = _written(table, name, tables), differing
    return best


def _with_fields(
    start: dict[str, JSON], fields: Mapping[str, Any], arguments: Sequence[Any], tables: Tables
) -> dict[str, JSON]:
    described = {name: describe(value, tables) for name, value in fields.items()}
    rest = {"arguments": describe(tuple(arguments), tables)} if arguments else {}
    if described.keys() & _WORDS:
        described = {"fields": described}
    return {**start, **rest, **described}


def _describe_record(x: Any, tables: Tables) -> JSON:
    values = {name: getattr(x, name) for name in _fields(type(x))}
    found = _closest(type(x), values, tables)
    if found is not None:
        return _with_fields({"name": found[0]}, found[1], (), tables)
    return _with_fields(_describe_object(x), values, (), tables)


def _describe_partial(x: functools.partial, tables: Tables) -> JSON:
    cls = _class_of(x)
    if cls is not None and _fields(cls):
        found = _closest(cls, _given(x), tables)
        if found is not None:
            return _with_fields({"constructor": found[0]}, found[1], (), tables)
    best: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None
    for table, entries in tables.items() if cls is None else ():
        for name, entry in entries.items():
            if not callable(entry):
                continue
            given = entry if isinstance(entry, functools.partial) else functools.partial(entry)
            count = len(given.args)
            if not callable(entry) or given.func is not x.func or not count <= len(x.args):
                continue
            if not (
                given.keywords.keys() <= x.keywords.keys() and _same(x.args[:count], given.args)
            ):
                continue
            differing = {
                key: value
                for key, value in x.keywords.items()
                if not _same(value, given.keywords.get(key, _MISSING))
            }
            if best is None or len(differing) < len(best[2]):
                best = _written(table, name, tables), x.args[count:], differing
    if best is not None:
        return _with_fields({"name": best[0]}, best[2], best[1], tables)
    return _with_fields(_describe_object(x.func), x.keywords, x.args, tables)


def _describe_object(x: Any) -> dict[str, JSON]:
    owner = getattr(x, "__self__", None)
    x = inspect.unwrap(x) if callable(x) else x
    named = x if hasattr(x, "__qualname__") and hasattr(x, "__module__") else type(x)
    module = named.__module__ or ""
    digest = None
    if module.partition(".")[0] not in _LIBRARIES:
        try:
            digest = hashlib.sha256(inspect.getsource(named).encode()).hexdigest()
        except (OSError, TypeError):
            digest = None
    # The name of a module that the command line loads is the path of its file.
    spec = getattr(sys.modules.get(module), "__spec__", None)
    origin = getattr(spec, "origin", None)
    if origin and re.sub(r"\W", "_", origin) == module:
        module = re.split(r"[/\\]", origin)[-1]
    result = {"object": f"{module}:{named.__qualname__}", "sha256": digest}
    if owner is not None and not inspect.ismodule(owner) and _is_record(owner):
        result["self"] = describe(owner, {})
    return result


# Restoring


def _restore(value: JSON, tables: Tables, path: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return tuple(_restore(part, tables, f"{path}[{i}]") for i, part in enumerate(value))
    if not isinstance(value, dict):
        raise InputError(f"{path or 'the description'} is malformed: {one_line(repr(value))}")
    try:
        return _restore_dict(value, tables, path)
    except InputError:
        raise
    except Exception as error:  # a constructor may raise anything for fields that cannot be
        raise InputError(
            f"{path or 'the description'} cannot be restored: {reason_of(error)}"
        ) from error


def _restore_dict(value: dict[str, JSON], tables: Tables, path: str) -> Any:
    place = path or "the described object"
    if "object" in value:
        raise InputError(f"{place} is {value['object']}, which has no name: give the object itself")
    if "number" in value:
        return float(value["number"])
    if "mapping" in value:
        parts = value["mapping"].items()
        return {key: _restore(part, tables, f"{path}.{key}".lstrip(".")) for key, part in parts}
    if "array" in value:
        if not isinstance(value["array"], list) and "shape" in value:
            raise InputError(f"{place} is an array of {value['shape']}: give the object itself")
        return np.array(_restore(value["array"], tables, path), jnp.dtype(value["dtype"]))
    if "dtype" in value:
        dtype = jnp.dtype(value["dtype"])
        return getattr(jnp, dtype.name, dtype)
    for word in ("name", "constructor"):
        if word in value:
            entry = _entry(value[word], tables, place)
            break
    else:
        raise InputError(f"{place} has neither a name nor a value: {json.dumps(value)[:200]}")
    fields = value.get("fields", {key: value[key] for key in value if key not in _WORDS})
    keywords = {
        key: _restore(part, tables, f"{path}.{key}".lstrip(".")) for key, part in fields.items()
    }
    arguments = _restore(value.get("arguments", []), tables, path)
    if word == "name" and _class_of(entry):
        return entry(*arguments, **keywords)
    return functools.partial(entry, *arguments, **keywords) if arguments or keywords else entry


def _entry(name: str, tables: Tables, place: str) -> Any:
    if not isinstance(name, str):
        raise InputError(f"{place} has the name {one_line(repr(name))}: give a text")
    found = [entries[name] for entries in tables.values() if name in entries]
    table, slash, rest = name.partition("/")
    if slash and rest in tables.get(table, {}):
        found.append(tables[table][rest])
    if len(found) > 1:
        both = [f"{table}/{name}" for table, entries in tables.items() if name in entries]
        raise InputError(f"{place}: {name!r} is in several tables: give {' or '.join(both)}")
    if not found:
        known = [known for entries in tables.values() for known in entries]
        hint = close_names(name, known)
        raise InputError(f"{place}: unknown name {one_line(repr(name))}: {one_line(hint, 600)}")
    return found[0]
