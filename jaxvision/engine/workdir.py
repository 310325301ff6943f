"""The folder of a run: its config, and what may not be mixed into it."""

import contextlib
import json
import pathlib
from typing import Any

import filelock

from jaxvision.core import InputError
from jaxvision.core.files import replace_text

CONFIG = "config.json"


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_json(config: dict[str, Any]) -> dict[str, Any]:
    """A config as it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(config))


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What two configs differ in, as "key: old -> new"."""
    old, new = _flat(old), _flat(new)
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent)
    ]


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The config of the run in a folder.

    Raises:
      InputError: no such folder, no run in it, or its config is damaged.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise InputError(f"no run in {workdir}: it has no {CONFIG}; train one there first")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged ({error}): restore it or use another --workdir") from (
            error
        )


def lock(workdir: pathlib.Path) -> contextlib.AbstractContextManager:
    """Locks a folder until the context is left or the process dies; makes it if it is not there.

    Raises:
      InputError: another process has it, or it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(workdir / ".lock", blocking=False).acquire()
    except filelock.Timeout as error:
        raise InputError(
            f"another process trains in {workdir}: wait for it or use another --workdir"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write the run to {workdir} ({error.strerror}): use another --workdir"
        ) from error


def claim(
    workdir: pathlib.Path,
    config: dict[str, Any],
    *,
    defaults: dict[str, Any],
    started: bool,
    writes: bool,
) -> None:
    """Makes a folder the one of this run, or finds that it is.

    Args:
      workdir: the folder.
      config: of the run, plain JSON.
      defaults: values of keys that the config of an older version may lack.
      started: whether the folder has checkpoints. One without (a run that failed at its first
        step, say) is taken over.
      writes: whether this process writes.
    Raises:
      InputError: the folder has a run with another config (shows the difference), or one without
        its config.
    """
    config = as_json(config)
    path = workdir / CONFIG
    if started:
        if not path.exists():
            raise InputError(
                f"{workdir} has checkpoints, but no {CONFIG}: restore it or use another --workdir"
            )
        old = {**_flat(as_json(defaults)), **_flat(read_config(workdir))}
        changed = difference(old, config)
        if changed:
            raise InputError(
                f"{workdir} has a run with another config ({'; '.join(changed)}): "
                "use its config or another --workdir"
            )
    elif writes:
        replace_text(path, json.dumps(config, indent=2))
