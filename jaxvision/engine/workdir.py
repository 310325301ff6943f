"""The folder of a run: run.json, and whether a resumed run is the same one."""

import contextlib
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import filelock
import jax

from jaxvision.core import InputError, Inputs, OptionError, Task, one_line, reason_of
from jaxvision.core.describe import JSON, code_of, describe, differences, flat
from jaxvision.core.files import parse_json, read_text, replace_text
from jaxvision.engine.history import Best
from jaxvision.engine.phases import Phase

RUN = "run.json"
FORMAT = 1
"""The version of run.json that this version writes and reads."""

_TABLES = {"core": {"Inputs": Inputs}}


def versions() -> dict[str, str]:
    """The versions of the libraries that say what a traced step means."""
    package = sys.modules[__package__.partition(".")[0]]
    return {"jaxvision": package.__version__, "jax": jax.__version__}


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are neither None nor empty."""
    return {name: x for name, x in fields.items() if x is not None and x not in ((), [], {}, "")}


def describe_task(task: Task) -> dict[str, JSON]:
    """The fields of a task in plain JSON, without those that are None or empty.

    A field that is still the object in `task.origin` has the description there; of any other the
    name and a digest of its source are given.
    """
    described = {}
    for field in dataclasses.fields(task):
        value = getattr(task, field.name)
        if field.name in ("kind", "origin") or value is None:
            continue
        origin = task.origin.get(field.name)
        same = origin is not None and origin[0] is value
        described[field.name] = origin[1] if same else describe(value, _TABLES)
    return _present(described)


def describe_fit(
    phases: Sequence[Phase],
    *,
    steps: int,
    batch_size: int,
    seed: int,
    best: Best | None,
    ema_decay: float,
    accumulate: int = 1,
    eval_every: int | None,
) -> dict[str, JSON]:
    """What of a training's options its results depend on, in plain JSON."""
    each = [
        _present(
            {
                "steps": phase.steps,
                "only": list(phase.only),
                "freeze": list(phase.freeze),
                "lr_multipliers": [list(pair) for pair in phase.lr_multipliers],
            }
        )
        for phase in phases
    ]
    return _present(
        {
            "steps": steps,
            "batch_size": batch_size,
            "seed": seed,
            "best": None if best is None else dataclasses.asdict(best),
            "ema_decay": ema_decay,
            "accumulate": None if accumulate == 1 else accumulate,
            "eval_every": eval_every,
            "phases": [] if each == [{}] else each,
        }
    )


def as_json(name: str, value: Any) -> JSON:
    """A value as it comes back from a file: tuples are lists.

    Raises:
      OptionError: it is no plain JSON.
    """
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise OptionError(name, f"{name} is no plain JSON: {error}") from error


def describe_run(
    task: Task,
    fit: dict[str, JSON],
    *,
    options: Mapping[str, JSON],
    step_digest: Sequence[str],
    data_start: JSON,
    command_line: Mapping[str, JSON] | None,
) -> dict[str, JSON]:
    """The contents of run.json.

    Args:
      task: what is trained.
      fit: from `describe_fit`.
      options: what the user wants to be recorded and compared besides.
      step_digest: of each phase.
      data_start: the state of the training data before the first step.
      command_line: the options of the command line, which are kept and not compared.
    """
    description = describe_task(task)
    run = {
        "format": FORMAT,
        "versions": versions(),
        "kind": task.kind,
        "task": description,
        "fit": fit,
        "options": options,
        "code": code_of(description),
        "step_digest": list(step_digest),
        "data_start": data_start,
    }
    return run if command_line is None else {**run, "config": command_line}


def read_run(workdir: str | pathlib.Path) -> dict[str, JSON]:
    """Reads the description of the run in a folder; changes nothing on disk.

    Returns:
      The contents of run.json: "format", "versions", "kind", "task", "fit", "options", "code",
      "step_digest", "data_start", "config" of a run from the command line, and "extended" (a list)
      of one that got more steps.
    Raises:
      InputError: there is no such folder, no run in it, or run.json is damaged or of another
        version.
    """
    path = pathlib.Path(workdir).expanduser() / RUN
    if not path.is_file():
        raise InputError(f"no run in {path.parent}: it has no {RUN}; train one there first")
    try:
        run = parse_json(read_text(path))
        if not isinstance(run, dict) or "format" not in run:
            raise ValueError("it has no format")
        if run["format"] == FORMAT:
            _check_parts(run)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({reason_of(error)}): restore it or use another workdir"
        ) from error
    if run["format"] != FORMAT:
        raise InputError(
            f"{path} has format {one_line(repr(run['format']))}, and this version of jaxvision "
            f"reads {FORMAT}: use another version, or another workdir"
        )
    return run


_PARTS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("versions", "task", "fit", "options", "code"), (dict,)),
    "kind": (str,),
    "step_digest": (list,),
    "data_start": (dict, list, str, int, float, bool, type(None)),
}
_FURTHER_PARTS = {"config": (dict, type(None)), "extended": (list,)}
_NUMBERS = {"steps": (int,), "batch_size": (int,)}
_FURTHER_NUMBERS = {
    "seed": (int,),
    "ema_decay": (int, float),
    "accumulate": (int,),
    "eval_every": (int,),
}
_MOST_NESTED = 50
_NOT_RESTORED = ("task.loss", "task.augment")


def _check_parts(run: Mapping[str, JSON]) -> None:
    """Raises ValueError or TypeError if the description of a run lacks a part or has a wrong one.

    The task is checked when it is built, and all that is compared with another run by comparing.
    """
    _check_nested(run)
    _check_types(run, _PARTS, _FURTHER_PARTS)
    _check_types(run["fit"], _NUMBERS, _FURTHER_NUMBERS)
    for texts in (run["versions"], run["code"], dict(enumerate(run["step_digest"]))):
        _check_types(texts, dict.fromkeys(texts, (str,)))
    names = run["task"].get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"task.class_names is {one_line(repr(names), 100)}")
    best_of(run)


_Types = Mapping[Any, tuple[type, ...]]


def _check_types(parts: Mapping[Any, JSON], types: _Types, further: _Types | None = None) -> None:
    """Raises ValueError if a part is missing, unless it is a further one, or has another type."""
    for name, wanted in {**types, **(further or {})}.items():
        if name not in parts and name in types:
            raise ValueError(f"it has no {name}")
        if name in parts and type(parts[name]) not in wanted:
            raise ValueError(f"{name} is {one_line(repr(parts[name]), 100)}")


def _check_nested(value: JSON) -> None:
    """Raises ValueError if lists and objects are nested so deeply that no function could go in."""
    layer = [value]
    for _ in range(_MOST_NESTED):
        inner = [x.values() if isinstance(x, dict) else x for x in layer]
        layer = [y for x in inner for y in x if isinstance(y, dict | list)]
        if not layer:
            return
    raise ValueError("it is nested too deeply")


def best_of(run: Mapping[str, JSON]) -> Best | None:
    """Which evaluation is best in a run, from its description."""
    best = run["fit"].get("best")
    return None if best is None else Best(**best)


def check_same_task(run: Mapping[str, JSON], saved: Mapping[str, JSON], where: str) -> None:
    """Raises InputError if run.json describes another task than a checkpoint of the run.

    Args:
      run: from `read_run`.
      saved: the description that the checkpoint has; {} if it has none.
      where: names the folder of the run.
    """
    parts = ("kind", "task")
    if all(part in saved for part in parts):
        leaves = [_compared(x, parts) for x in (saved, run)]
        changed = differences(
            *(
                {path: x for path, x in part.items() if not path.startswith(_NOT_RESTORED)}
                for part in leaves
            )
        )
        if changed:
            raise InputError(
                f"{RUN} of {where} describes another task than its checkpoints "
                f"({one_line('; '.join(changed))}): restore it"
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
            f"another process trains in {workdir}: wait for it or use another workdir"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write the run to {workdir} ({error.strerror}): use another workdir"
        ) from error


def claim(
    workdir: pathlib.Path,
    run: dict[str, JSON],
    *,
    started: bool,
    writes: bool,
    extend: bool,
    log: Callable[[str], None],
) -> None:
    """Makes a folder the one of this run, or finds that it is.

    Args:
      workdir: the folder.
      run: from `describe_run`.
      started: whether the folder has checkpoints. One without (a run that failed at its first
        step, say) is taken over.
      writes: whether this process writes.
      extend: whether the run may have got more steps.
      log: shows a line to the user.
    Raises:
      InputError: the folder has another run (the message lists the differences), or checkpoints
        without a description.
    """
    path = workdir / RUN
    if not started:
        if writes:
            replace_text(path, json.dumps(run, indent=2))
        return
    if not path.exists():
        raise InputError(
            f"{workdir} has checkpoints, but no {RUN}: restore it or use another workdir"
        )
    old = read_run(workdir)
    grows = extend and old["fit"]["steps"] < run["fit"]["steps"]
    changed = _changes(old, run, grows=grows, log=log)
    if changed:
        only_steps = all(change.startswith("fit.steps:") for change in changed)
        hint = " (extend=True lets steps grow)" if only_steps and not extend else ""
        raise InputError(
            f"{workdir} has another run ({'; '.join(changed)}): use the same options or another "
            f"workdir{hint}"
        )
    if grows:
        log(f"the run grows from {old['fit']['steps']} to {run['fit']['steps']} steps")
        if writes:
            earlier = {key: old[key] for key in ("versions", "fit", "step_digest")}
            new = {**run, "extended": [*old.get("extended", []), earlier]}
            replace_text(path, json.dumps(new, indent=2))


def _compared(run: Mapping[str, JSON], names: Sequence[str]) -> dict[str, JSON]:
    """The leaves of parts of a run that have to be the same, by their paths.

    The digests of sources are compared as "code". Options that are None are left out: a run that
    was begun before there was such an option resumes. One begun before an option with another
    default does not.
    """
    parts = flat({name: run[name] for name in names})
    return {
        path: x for path, x in parts.items() if path.split(".")[-1] != "sha256" and x is not None
    }


def _changes(
    old: dict[str, JSON], new: dict[str, JSON], *, grows: bool, log: Callable[[str], None]
) -> list[str]:
    """What differs between two runs, in words."""
    parts = ("kind", "task", "fit", "options")
    before, after = (_compared(run, parts) for run in (old, new))
    if grows:
        del before["fit.steps"], after["fit.steps"]
    changed = differences(before, after)
    changed += [
        f"the code of {name} is another"
        for name in sorted(old["code"].keys() & new["code"].keys())
        if old["code"][name] != new["code"][name]
    ]
    was, now = (" and ".join(f"{k} {v}" for k, v in run["versions"].items()) for run in (old, new))
    if was != now:
        log(f"the run was started by {was}, this is {now}: the training step is not compared")
    elif not grows and old["step_digest"] != new["step_digest"] and not changed:
        changed.append(
            "the training step: it computes something else, by another optimizer, learning rate "
            "or function"
        )
    return changed
