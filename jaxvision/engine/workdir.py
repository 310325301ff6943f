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

from jaxvision.core import InputError, Inputs, OptionError, Task
from jaxvision.core.describe import JSON, code_of, describe, differences, flat
from jaxvision.core.files import replace_text
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
        run = json.loads(path.read_text())
        known = run["format"] == FORMAT
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}): restore it or use another workdir") from (
            error
        )
    if not known:
        raise InputError(
            f"{path} has format {run['format']}, and this version of jaxvision reads {FORMAT}: use "
            "another version, or another workdir"
        )
    return run


def best_of(run: Mapping[str, JSON]) -> Best | None:
    """Which evaluation is best in a run, from its description."""
    best = run["fit"].get("best")
    return None if best is None else Best(**best)


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


def _changes(
    old: dict[str, JSON], new: dict[str, JSON], *, grows: bool, log: Callable[[str], None]
) -> list[str]:
    """What differs between two runs, in words."""

    def compared(run: dict[str, JSON]) -> dict[str, JSON]:
        parts = flat({name: run[name] for name in ("kind", "task", "fit", "options")})
        # The digests of sources are compared as "code".
        # A run of an earlier version lacks later options, which are None where nothing is given.
        parts = {
            path: x
            for path, x in parts.items()
            if path.split(".")[-1] != "sha256" and x is not None
        }
        if grows:
            parts.pop("fit.steps")
        return parts

    changed = differences(compared(old), compared(new))
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
