"""Tables and pictures of an evaluation, for people."""

import pathlib
from typing import Any

from jaxvision.cli.kinds import Built, Shown
from jaxvision.cli.kinds.kind import PICTURES
from jaxvision.cli.setup import kind_of, measured_on, spread_examples
from jaxvision.data import Source
from jaxvision.engine import Evaluation, log
from jaxvision.predict import picture_grid, write_picture


def report(
    config: Any,
    built: Built,
    variables: Any,
    evaluation: Evaluation,
    records: Source,
    *,
    folder: pathlib.Path | None,
    split: str,
) -> None:
    """Shows the table of an evaluation, and writes its pictures into a folder.

    Args:
      config: of the run.
      built: its task and transforms.
      variables: that were evaluated.
      evaluation: of all records.
      records: what was evaluated.
      folder: for the pictures, made if it is not there; None: there are none.
      split: of the records.
    """
    kind = kind_of(config)
    if kind.table is not None:
        log(kind.table(evaluation.tables, built.task.class_names))
    if kind.pictures is None:
        return
    if folder is None:
        log("give --out=FOLDER for pictures of predictions")
        return
    folder.mkdir(parents=True, exist_ok=True)
    examples = spread_examples(measured_on(config, records), built.eval_transform, PICTURES)
    rows = kind.pictures(Shown(built.task, variables, evaluation, records, examples))
    file = folder / f"predictions_{file_name(split)}.png"
    captions, pictures = zip(*(cell for row in rows for cell in row.items()), strict=True)
    across = {2: 4, 3: 3}[len(rows[0])]  # two pairs beside each other, or three of a kind
    write_picture(file, picture_grid(pictures, columns=across, captions=captions))
    log(f"pictures of predictions: {file}")


def file_name(split: str) -> str:
    """A split's name as a part of a file's name, without "/"."""
    return split.replace("/", "_")
