"""Command-line flags: those of absl, and one for each key of a config."""

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxvision.cli.config import (
    documented_keys,
    find_config,
    load_config,
    shipped_configs,
    summary,
)
from jaxvision.core import InputError, close_names


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


def define_processes(values: flags.FlagValues) -> None:
    """Defines the flags of several processes."""
    flags.DEFINE_boolean(
        "distributed",
        False,
        "several processes, found from the cluster's environment (TPU pods, SLURM, ...)",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "several processes by hand: host:port of the first one",
        flag_values=values,
    )
    flags.DEFINE_integer("num_processes", None, "with it: how many", flag_values=values)
    flags.DEFINE_integer("process_id", None, "with it: which one this is", flag_values=values)


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


def join_processes(values: flags.FlagValues) -> None:
    """Starts JAX's distributed service if the flags ask for it.

    Raises:
      InputError: only some of the three flags of several processes by hand.
    """
    by_hand = (values.coordinator_address, values.num_processes, values.process_id)
    if not values.distributed and 0 < by_hand.count(None) < len(by_hand):
        raise InputError(
            "several processes by hand need all of --coordinator_address=HOST:PORT, "
            "--num_processes and --process_id"
        )
    if not (values.coordinator_address or values.distributed):
        return
    # The collectives of CPU devices talk on file descriptor 1; stdout is for the result alone.
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if values.coordinator_address:
        jax.distributed.initialize(
            values.coordinator_address, values.num_processes, values.process_id
        )
    else:
        jax.distributed.initialize()


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


def define_config(values: flags.FlagValues, name: str, argv: list[str]) -> None:
    """Makes the keys of the config with this name flags, as `define_keys`.

    Raises:
      InputError: no such config, or an argument names a key that it does not have.
    """
    define_keys(values, load_config(find_config(name)), argv)


def define_keys(values: flags.FlagValues, config: ConfigDict, argv: list[str]) -> None:
    """Makes the keys of a config flags: --config.optimizer.learning_rate=0.1.

    Raises:
      InputError: an argument names a key that the config does not have.
    """
    for item in argv:
        match = re.match(r"--?(?:no)?config\.([^=]*)(?:=(.*))?", item, re.DOTALL)
        if match:
            _check_key(config, *match.groups())
    config_flags.DEFINE_config_dict(
        "config",
        config,
        "file in configs/, or the name of a shipped one:\n"
        + "\n".join(f"      {name}: {summary(path)}" for name, path in shipped_configs().items())
        + "\n  and its keys, with their values there:\n"
        + "\n".join(_describe_keys(config)),
        flag_values=values,
        lock_config=True,
        sys_argv=argv,
    )


def _describe_keys(config: ConfigDict) -> Iterator[str]:
    comments = documented_keys(config.task)

    def describe(group: ConfigDict, prefix: str) -> Iterator[str]:
        for key in group:
            name = prefix + key
            comment = f"  ({comments[name]})" if comments.get(name) else ""
            value = group[key]
            if isinstance(value, ConfigDict):
                yield from describe(value, f"{name}.")
            else:
                yield f"      --config.{name}={value}{comment}"

    yield from describe(config, "")


def _check_key(config: ConfigDict, key: str, value: str | None) -> None:
    here: Any = config
    for part in key.split("."):
        if not isinstance(here, ConfigDict) or part not in here:
            known = here.keys() if isinstance(here, ConfigDict) else ()
            hint = close_names(part, known) if known else "it has no keys of its own"
            raise InputError(f"unknown config key {key!r} (at {part!r}): {hint}")
        here = here[part]
    # A whole group can be given as a literal, {'name': 'resnet20', ...}.
    if isinstance(here, ConfigDict) and not (value or "").lstrip().startswith("{"):
        first = next(iter(here.keys()))
        raise InputError(f"config key {key!r} is a group: set its keys, such as {key}.{first}")
