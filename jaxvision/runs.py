"""Runs: a folder that training left, opened again for evaluation and prediction."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxvision.core import InputError, Task, one_line
from jaxvision.engine import read_run, restore_weights
from jaxvision.tasks import RESTORE


class Run(NamedTuple):
    """A run that was loaded.

    Attributes:
      task: for evaluation and prediction; its loss is None unless the task was given.
      variables: of the network: the exponential moving average (EMA) if there is one.
      class_names: of the labels.
      step: of the checkpoint.
      history: of the evaluations up to it.
      options: what the user had recorded.
    """

    task: Task
    variables: Any
    class_names: tuple[str, ...]
    step: int
    history: list[dict[str, Any]]
    options: dict[str, Any]


def load_run(
    workdir: str | pathlib.Path,
    *,
    task: Task | None = None,
    step: int | str = "best",
    decode: Mapping[str, float] | None = None,
) -> Run:
    """Loads a run: its task, built from what run.json names, and its weights.

    Nothing that the run's folder names is imported: only what has a name in the library is built.
    The loss, the augmentation and the optimizer are not built, so that a run with a loss of your
    own loads without its code.

    Args:
      workdir: folder of the run.
      task: of the run, if its network or its decoding has no name in the library.
      step: "best", "latest" or the step of a checkpoint.
      decode: options of a detector's decoding that are changed, such as {"score_threshold": 0.3}.
    Raises:
      InputError: there is no run, no such checkpoint, or a part of the task has no name.
    """
    folder = pathlib.Path(workdir).expanduser()
    saved, given = read_run(folder), task is not None
    if not given:
        task = _task_of(saved, folder, decode or {})
    elif decode:
        raise InputError("decode changes a task that is built from the run: leave out the task")
    weights = restore_weights(folder, step=step, same_task=not given)
    return Run(
        task,
        weights.variables,
        task.class_names,
        weights.step,
        weights.history,
        saved.get("options", {}),
    )


def _task_of(saved: Mapping[str, Any], folder: pathlib.Path, decode: Mapping[str, float]) -> Task:
    parts, kind = dict(saved["task"]), saved.get("kind", "")
    if kind not in RESTORE:
        raise InputError(
            f"the run in {folder} is for {kind or 'a task of your own'}, which has no name in the "
            "library: give load_run(..., task=...)"
        )
    if decode and kind != "detection":
        raise InputError(f"decode is for detection: the run in {folder} is for {kind}")
    parts["class_names"] = tuple(parts.get("class_names", ()))
    try:
        return RESTORE[kind](parts, **({"decode": decode} if decode else {}))
    except Exception as error:  # a constructor may raise anything for options that cannot be
        raise InputError(
            f"the task of the run in {folder} cannot be built from its description: "
            f"{one_line(str(error) or type(error).__name__, 600)}: give load_run(..., task=...)"
        ) from error
