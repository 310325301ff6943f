"""Command-line flags: those of absl, and one for each key of a config."""

import ast
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxvision.cli.config import (
    documented_keys,
    find_config,
    load_config,
    shipped_configs,
    summary,
)
from jaxvision.cli.fields import chosen_names, default_of, fields_of, meaning_of, shown
from jaxvision.cli.processes import define_processes
from jaxvision.core import InputError, close_names

_FLAG = re.compile(r"--?(?:no)?config\.([^=]*)(?:=(.*))?", re.DOTALL)


class HelpAsked(Exception):  # noqa: N818, it is no error
    """--help was given; the message is the help."""


def common_flags() -> flags.FlagValues:
    """Flags of every command: --workdir, and those of several processes."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "workdir", None, "folder of the run; train's default is runs/NAME", flag_values=values
    )
    define_processes(values)
    return values


def define_trust(values: flags.FlagValues) -> None:
    """Defines --trust_code, of the commands that open a run."""
    flags.DEFINE_list(
        "trust_code",
        [],
        "files (or modules) of code of your own that the run names and that may run, such as "
        "my_model.py",
        flag_values=values,
    )


def define_data(values: flags.FlagValues) -> None:
    """Defines --data and --source, of the commands that read the data of a run."""
    flags.DEFINE_string(
        "data", None, "folder of the run's data, if it is another by now", flag_values=values
    )
    flags.DEFINE_string(
        "source",
        None,
        "form of --data, as config.data.source; that of the run, or found out, if left out",
        flag_values=values,
    )


def define_resize(values: flags.FlagValues) -> None:
    """Defines --resize, of the commands that choose a detector with third-party weights."""
    flags.DEFINE_enum(
        "resize",
        None,
        ["stretch", "letterbox"],
        "how images get the size of a detector's input, as config.data.resize; as its description "
        "or its config says if left out",
        flag_values=values,
    )


def set_resize(config: ConfigDict, resize: str | None) -> None:
    """Makes the resizing of a config that of --resize, if it is given.

    Raises:
      InputError: the task of the config resizes otherwise.
    """
    if not resize:
        return
    if config.task != "detection":
        raise InputError(f"--resize is for detection, but the config is for {config.task}")
    config.data.resize = resize


def parse(values: flags.FlagValues, argv: list[str], usage: str) -> None:
    """Parses the arguments into the flags, and refuses others; as `parse_with_rest`."""
    refuse_rest(parse_with_rest(values, argv, usage))


def refuse_rest(rest: list[str]) -> None:
    """Raises InputError if there are arguments that are no flags."""
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}: flags look like --name=value")


def parse_with_rest(values: flags.FlagValues, argv: list[str], usage: str) -> list[str]:
    """Parses the arguments into the flags.

    Args:
      values: the flags.
      argv: arguments, the program's name first.
      usage: text of --help; the flags are listed after it, with the defaults that they have.
    Returns:
      the arguments that are no flags.
    Raises:
      HelpAsked: for --help.
      InputError: unknown flag or bad value.
    """
    if {"--help", "-h", "-help", "--helpfull"} & set(argv):
        # Neither the keys of a config nor the short names of flags.
        names = [name for name in values if "." not in name and values[name].name == name]
        listed = "\n".join(_describe_flag(values[name]) for name in names)
        raise HelpAsked(f"{usage.strip()}\n\nFlags:\n{listed}")
    try:
        return values([_with_underscores(item) for item in argv])[1:]
    except flags.UnrecognizedFlagError as error:
        raise InputError(f"{error} (--help lists the flags)") from error
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from error


def _describe_flag(flag: flags.Flag) -> str:
    """A line of --help; a config's flag lists the values of its keys itself."""
    default = None if isinstance(flag.default, ConfigDict) else flag.default_as_str  # in quotes
    has_default = default not in (None, "''", "'false'")
    shown = f" (default: {default[1:-1]})" if has_default else ""
    return f"  --{flag.name}: {flag.help}{shown}"


def _with_underscores(item: str) -> str:
    """--to-torch is --to_torch."""
    match = re.fullmatch(r"--(\w[\w-]*)((?:=.*)?)", item, re.DOTALL)
    return f"--{match[1].replace('-', '_')}{match[2]}" if match else item


def take_config(argv: list[str], default: str) -> tuple[str, list[str]]:
    """Takes --config=NAME out of the arguments: (NAME or the default, the rest)."""
    rest, name, items = [], default, iter(argv)
    for item in items:
        match = re.fullmatch(r"--?config(?:=(.*))?", item, re.DOTALL)
        if match is None:
            rest.append(item)
        elif match[1] is not None:
            name = match[1]
        else:
            name = next(items, "")
    return name, rest


def value_of(argv: list[str], name: str) -> str | None:
    """The value that the arguments give a flag, before they are parsed; None if there is none."""
    found, items = None, iter(argv)
    for item in items:
        match = re.fullmatch(rf"--?{name}(?:=(.*))?", item, re.DOTALL)
        if match:
            found = match[1] if match[1] is not None else next(items, "")
    return found


def define_config(values: flags.FlagValues, name: str, argv: list[str]) -> ConfigDict:
    """Makes the keys of the config with this name flags, as `define_keys`.

    Returns:
      A copy of the config as its file gives it.
    Raises:
      InputError: no such config, or an argument names a key that it does not have.
    """
    return define_keys(values, load_config(find_config(name)), argv)


def define_keys(values: flags.FlagValues, config: ConfigDict, argv: list[str]) -> ConfigDict:
    """Makes the keys of a config flags: --config.optimizer.learning_rate=0.1.

    Returns:
      A copy of the config as it was given.
    Raises:
      InputError: an argument names a key that the config does not have.
    """
    copy_of_file = config.copy_and_resolve_references()
    given = given_keys(argv)
    names = _names(config, given)
    for key, value in given:
        _check_key(config, key, value, names)
    shipped = "\n".join(f"      {x}: {summary(path)}" for x, path in shipped_configs().items())
    try:
        config_flags.DEFINE_config_dict(
            "config",
            config,
            f"file in configs/, or the name of a shipped one:\n{shipped}\n"
            "  and its keys, with their values there:\n" + "\n".join(_describe_keys(config, names)),
            flag_values=values,
            lock_config=True,
            sys_argv=argv,
        )
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from error
    return copy_of_file


def given_keys(argv: list[str]) -> list[tuple[str, str | None]]:
    """The keys of a config that arguments name, with their values."""
    return [match.groups() for match in map(_FLAG.match, argv) if match]


def _names(config: ConfigDict, given: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """Group -> the name of its network or function, in the config or by a flag."""
    groups = {key: value for key, value in config.items() if isinstance(value, ConfigDict)}
    names = {key: group.get("name", "") for key, group in groups.items()}
    for key, value in given:
        group, _, last = key.rpartition(".")
        if last == "name" and group in names:
            names[group] = value or ""
        elif key in names and _is_literal(value):
            with contextlib.suppress(SyntaxError, ValueError, AttributeError):
                names[key] = ast.literal_eval(value).get("name", names[key])
    return chosen_names(names)


def _describe_keys(config: ConfigDict, names: Mapping[str, str]) -> Iterator[str]:
    comments = documented_keys(config.task)

    def line(name: str, value: str, comment: str | None) -> str:
        return f"      --config.{name}={value}{f'  ({comment})' if comment else ''}"

    def describe(group: ConfigDict, prefix: str) -> Iterator[str]:
        path = prefix.removesuffix(".")
        fields = fields_of(config, path, names.get(path, ""))
        meanings = meaning_of(config, path, names[path]) if fields else {}
        for key in group:
            name = prefix + key
            value = group[key]
            if isinstance(value, ConfigDict):
                yield from describe(value, f"{name}.")
            else:
                yield line(name, value, comments.get(name) or meanings.get(key))
        for key in (key for key in fields if key not in group):
            yield line(prefix + key, shown(fields[key].default), meanings.get(key))

    yield from describe(config, "")


def _check_key(config: ConfigDict, key: str, value: str | None, names: Mapping[str, str]) -> None:
    """Checks that a config has a key; adds it, if it is a field of what its group names.

    Raises:
      InputError: there is no such key.
    """
    group, _, last = key.rpartition(".")
    fields = {}
    if isinstance(config.get(group), ConfigDict) and last not in config[group]:
        fields = fields_of(config, group, names.get(group, ""))
        if last in fields:
            config[group][last] = default_of(fields[last])
    here: Any = config
    for part in key.split("."):
        if not isinstance(here, ConfigDict) or part not in here:
            known = {**here, **fields} if isinstance(here, ConfigDict) else ()
            hint = close_names(part, known) if known else "it has no keys of its own"
            raise InputError(f"unknown config key {key!r} (at {part!r}): {hint}")
        here = here[part]
    # A whole group can be given as a literal, {'name': 'resnet20', ...}.
    if isinstance(here, ConfigDict) and not _is_literal(value):
        first = next(iter(here.keys()))
        raise InputError(f"config key {key!r} is a group: set its keys, such as {key}.{first}")


def _is_literal(value: str | None) -> bool:
    return (value or "").lstrip().startswith("{")
