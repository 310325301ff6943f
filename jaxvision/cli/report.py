"""Tables, figures and pictures of an evaluation, for people."""

import csv
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxvision.cli.kinds import Built, Kind, Shown
from jaxvision.cli.kinds.kind import PICTURES
from jaxvision.cli.setup import kind_of, measured_on, spread_examples
from jaxvision.core.files import replacing
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
    """Shows the tables of an evaluation, and writes its files into a folder.

    Args:
      config: of the run.
      built: its task and transforms.
      variables: that were evaluated.
      evaluation: of all records.
      records: what was evaluated.
      folder: for the files, made if it is not there; None: there are none.
      split: of the records.
    """

    def shown() -> Shown:
        measured = measured_on(config, records)
        examples = spread_examples(measured, built.eval_transform, PICTURES)
        return Shown(
            built.task.class_names, evaluation, records, built.task, variables, examples=examples
        )

    names = built.task.class_names
    report_of(kind_of(config), names, evaluation, shown, folder=folder, split=split)


def report_of(
    kind: Kind,
    class_names: Sequence[str],
    evaluation: Evaluation,
    shown: Callable[[], Shown],
    *,
    folder: pathlib.Path | None,
    split: str,
) -> None:
    """As `report`, of a kind and what was found.

    Args:
      kind: of the task.
      class_names: of what was evaluated.
      evaluation: of all records.
      shown: gives what pictures are made from; called if there are any.
      folder: as for `report`.
      split: of the records.
    """
    if kind.table is not None:
        log(kind.table(evaluation.tables, class_names))
    if folder is None:
        log("give --out=FOLDER for tables and pictures")
        return
    folder.mkdir(parents=True, exist_ok=True)

    def file(name: str, suffix: str) -> pathlib.Path:
        return folder / f"{name}_{file_name(split)}.{suffix}"

    if kind.figures is not None:
        draw_figures(kind, evaluation, class_names, file)
    if kind.pictures is None:
        return
    what = shown()
    for name, rows in (kind.csv(what) if kind.csv is not None else {}).items():
        write_csv(file(name, "csv"), rows)
        log(f"table: {file(name, 'csv')}")
    if kind.write is not None and what.task is not None:
        kind.write(what, file(kind.written, "json"))
        log(f"{kind.written}: {file(kind.written, 'json')}")
    _write_page(file(kind.page, "png"), kind.pictures(what), kind.page)


def draw_figures(
    kind: Kind,
    evaluation: Evaluation,
    class_names: Sequence[str],
    file: Callable[[str, str], pathlib.Path],
) -> None:
    """Draws the figures of an evaluation; `file` gives the place of a name and a suffix."""
    for name, figure in kind.figures(evaluation.tables, class_names).items():
        save_picture(figure, file(name, "png"))


def write_csv(path: pathlib.Path, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows as a CSV file; an interrupted call leaves no partial file."""
    with replacing(path) as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def _write_page(path: pathlib.Path, rows: Sequence[Mapping[str, np.ndarray]], name: str) -> None:
    if not rows:
        log(f"no pictures of {name}: there are none")
        path.unlink(missing_ok=True)  # that of an earlier evaluation
        return
    captions, pictures = zip(*(cell for row in rows for cell in row.items()), strict=True)
    # Four of a kind beside each other, two pairs, or one row of three.
    across = {1: 4, 2: 4, 3: 3}[len(rows[0])]
    write_picture(path, picture_grid(pictures, columns=across, captions=captions))
    log(f"pictures of {name}: {path}")


def save_picture(figure: Any, file: pathlib.Path) -> None:
    """Writes a figure of matplotlib, and tells where it is."""
    with replacing(file, "wb") as stream:
        figure.savefig(stream, format="png", dpi=120)
    log(f"picture: {file}")


def file_name(split: str) -> str:
    """A split's name as a part of a file's name, without "/"."""
    return split.replace("/", "_")
