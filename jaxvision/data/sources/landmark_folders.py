"""Folders of images and, in a table for each split, where their landmarks are."""

import csv
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision.core import InputError
from jaxvision.data.sources.images import image_size, images_below, read_image
from jaxvision.data.sources.source import Record, data_folder, own_split, refuse

Point = tuple[float, float]


@dataclass(frozen=True)
class LandmarkedImage:
    """A line of the table.

    Attributes:
      image: the image's file.
      points: (x, y) of each landmark in pixels of the image, None for an absent one.
      where: names the line in messages.
    """

    image: pathlib.Path
    points: tuple[Point | None, ...]
    where: str


@dataclass(frozen=True)
class LandmarkedImages:
    """A source over the lines of a table.

    Attributes:
      class_names: of the landmarks.
      lines: all of them.
    """

    class_names: tuple[str, ...]
    lines: tuple[LandmarkedImage, ...]

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Record:
        """A record: "image" u8[H, W, 3], "points" f64[K, 2] (xy) and "visible" bool[K]."""
        line = self.lines[index]
        return {
            "image": read_image(line.image),
            "points": np.array([point or (0, 0) for point in line.points], np.float64),
            "visible": np.array([point is not None for point in line.points]),
        }

    def where(self, index: int) -> str:
        return self.lines[index].where


def open_landmark_folder(data: Any, split: str) -> LandmarkedImages:
    """The records of a split of a folder.

    The table landmarks/SPLIT.csv begins with the line image,NAME_x,NAME_y,NAME2_x,NAME2_y,... Each
    other line has an image's path below images/SPLIT, and for each landmark x and y in pixels of
    the upright image, whose left and upper edges are at 0; of an absent one both cells are empty.

    Args:
      data: config with `dir`, a folder that has images/SPLIT and landmarks/SPLIT.csv, and
        `train_split` and `test_split`.
      split: "train" and "test" stand for the config's; any other name is the folder's own.
    Raises:
      InputError: there is no such table, a line is wrong, an image cannot be read or has no line;
        lists the first problems.
    """
    folder, split = data_folder(data), own_split(data, split)
    images, file = folder / "images" / split, folder / "landmarks" / f"{split}.csv"
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            names = _names(next(reader, []), f"{file}:1")
            rows = [(cells, f"{file}:{reader.line_num}") for cells in reader if cells]
    except OSError as error:
        raise InputError(f"no split {split!r}: {file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is no table: store it as CSV, in UTF-8 ({error})") from error
    lines: list[LandmarkedImage] = []
    problems: list[str] = []
    named: dict[str, str] = {}  # image -> the line that has it
    for (name, *cells), where in rows:
        try:
            if name in named:
                raise InputError(f"image {name} has a line already, {named[name]}")
            named[name] = where
            lines.append(LandmarkedImage(images / name, _points(cells, names), where))
            _check_inside(lines[-1], names)
        except InputError as error:
            problems.append(f"{where}: {error}")
    with_lines = {images / name for name in named}
    problems += [f"{p} has no line in {file}" for p in images_below(images) if p not in with_lines]
    refuse(f"{folder} {split}", problems)
    return LandmarkedImages(names, tuple(lines))


def _names(header: Sequence[str], where: str) -> tuple[str, ...]:
    """The landmarks of the table's first line."""
    names = [cell.removesuffix("_x") for cell in header[1::2]]
    wanted = ["image", *(f"{name}_{axis}" for name in names for axis in "xy")]
    if list(header) != wanted or not all(names) or not len(set(names)) == len(names) > 0:
        raise InputError(
            f"{where}: the first line is {','.join(header)!r}: give image,NAME_x,NAME_y,... with "
            "another name for each landmark"
        )
    return tuple(names)


def _points(cells: Sequence[str], names: Sequence[str]) -> tuple[Point | None, ...]:
    """The numbers of a line."""
    if len(cells) != 2 * len(names):
        raise InputError(f"has {1 + len(cells)} cells, not {1 + 2 * len(names)} as the first line")
    points: list[Point | None] = []
    for name, x, y in zip(names, cells[::2], cells[1::2], strict=True):
        if not x.strip() and not y.strip():
            points.append(None)
            continue
        try:
            points.append((float(x), float(y)))
        except ValueError as error:
            raise InputError(
                f"{name} is at ({x!r}, {y!r}): give two numbers, or two empty cells"
            ) from error
    return tuple(points)


def _check_inside(line: LandmarkedImage, names: Sequence[str]) -> None:
    height, width = image_size(line.image)
    for name, point in zip(names, line.points, strict=True):
        if point is not None and not (0 <= point[0] <= width and 0 <= point[1] <= height):
            raise InputError(
                f"{name} is at ({point[0]:g}, {point[1]:g}), outside {line.image} of "
                f"{width} x {height} pixels"
            )
