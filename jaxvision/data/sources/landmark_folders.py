"""Folders of images, with a table of their landmarks for each split."""

import csv
import io
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.core import InputError, Record, one_line, reason_of
from jaxvision.core.files import read_text
from jaxvision.data.sources.checks import check_class_names
from jaxvision.data.sources.images import image_size, images_below, read_image
from jaxvision.data.sources.source import as_path, number_in, refuse

Point = tuple[float, float]


class _Line(NamedTuple):
    """A line of the table.

    Attributes:
      image: the image's file.
      points: (x, y) of each landmark in pixels of the image, None for an absent one.
      where: names the line in messages.
      size: (height, width) of the image.
    """

    image: pathlib.Path
    points: tuple[Point | None, ...]
    where: str
    size: tuple[int, int]


class LandmarkFolder:
    """A source over a folder of images and a table of their landmarks for each split.

    The table landmarks/SPLIT.csv begins with the line image,NAME_x,NAME_y,NAME2_x,NAME2_y,... Each
    other line has an image's path below images/SPLIT, and for each landmark x and y in pixels of
    the upright image, whose left and upper edges are at 0; of an absent one both cells are empty.

    Args:
      path: of a folder that has images/SPLIT and landmarks/SPLIT.csv.
      split: "train", "val", ...
      class_names: of the landmarks, which the table must have in this order; None: any.

    Attributes:
      class_names: of the landmarks.
    Raises:
      InputError: there is no such table, a line is wrong, an image cannot be read or has no line;
        lists the first problems.
      OptionError: the table has other landmarks than `class_names`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        class_names: Sequence[str] | None = None,
    ):
        folder = as_path(path)
        images, file = folder / "images" / split, folder / "landmarks" / f"{split}.csv"
        self.class_names, rows = _table(file, split)
        check_class_names(self.class_names, class_names or (), what=str(file))
        lines: list[_Line] = []
        problems: list[str] = []
        named: dict[str, str] = {}  # image -> the line that has it
        for (name, *cells), where in rows:
            try:
                if name in named:
                    raise InputError(f"image {name} has a line already, {named[name]}")
                named[name] = where
                points, size = _points(cells, self.class_names), image_size(images / name)
                lines.append(_Line(images / name, points, where, size))
                _check_inside(lines[-1], self.class_names)
            except InputError as error:
                problems.append(f"{where}: {error}")
        with_lines = {images / name for name in named}
        problems += [
            f"{image} has no line in {file}"
            for image in images_below(images)
            if image not in with_lines
        ]
        refuse(f"{folder} {split}", problems)
        self._lines = tuple(lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3], "points" f64[K, 2] (xy, in its pixels), "visible"
        bool[K] and "size" (H, W)."""
        return {"image": read_image(self._lines[index].image), **self.target(index)}

    def where(self, index: int) -> str:
        return self._lines[index].where

    def target(self, index: int) -> Record:
        line = self._lines[index]
        return {
            "points": np.array([point or (0, 0) for point in line.points], np.float64),
            "visible": np.array([point is not None for point in line.points]),
            "size": line.size,
        }


def _table(file: pathlib.Path, split: str) -> tuple[tuple[str, ...], list[tuple[list[str], str]]]:
    """Returns the landmarks of a table, and the cells and the place of each line."""
    try:
        text = read_text(file)
    except OSError as error:
        raise InputError(f"no split {split!r}: {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{file} is not a table: store it as CSV, in UTF-8 ({error})") from error
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        names = _names(next(reader, []), f"{file}:1")
        return names, [(cells, f"{file}:{reader.line_num}") for cells in reader if cells]
    except csv.Error as error:
        raise InputError(
            f"{file} is not a table: store it as CSV, in UTF-8 ({reason_of(error)})"
        ) from error


def _names(header: Sequence[str], where: str) -> tuple[str, ...]:
    """Returns the landmarks of the table's first line."""
    names = [cell.removesuffix("_x") for cell in header[1::2]]
    wanted = ["image", *(f"{name}_{axis}" for name in names for axis in "xy")]
    if list(header) != wanted or not all(names) or not len(set(names)) == len(names) > 0:
        raise InputError(
            f"{where}: the first line is {one_line(','.join(header))!r}: give "
            "image,NAME_x,NAME_y,... with another name for each landmark"
        )
    return tuple(names)


def _points(cells: Sequence[str], names: Sequence[str]) -> tuple[Point | None, ...]:
    """Returns the points of a line."""
    if len(cells) != 2 * len(names):
        raise InputError(f"has {1 + len(cells)} cells, not {1 + 2 * len(names)} as the first line")
    points: list[Point | None] = []
    for name, x, y in zip(names, cells[::2], cells[1::2], strict=True):
        if not x.strip() and not y.strip():
            points.append(None)
            continue
        try:
            points.append((number_in(x.strip()), number_in(y.strip())))
        except ValueError as error:
            raise InputError(
                f"{one_line(name)} is at ({one_line(x)!r}, {one_line(y)!r}): give two numbers, or "
                "two empty cells"
            ) from error
    return tuple(points)


def _check_inside(line: _Line, names: Sequence[str]) -> None:
    height, width = line.size
    for name, point in zip(names, line.points, strict=True):
        if point is not None and not (0 <= point[0] <= width and 0 <= point[1] <= height):
            raise InputError(
                f"{name} is at ({point[0]:g}, {point[1]:g}), outside {line.image} of "
                f"{width} x {height} pixels"
            )
