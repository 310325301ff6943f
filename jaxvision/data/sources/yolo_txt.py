"""YOLO's text files: a file for each image, with a line for each object."""

import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxvision.core import InputError, OptionError, one_line, reason_of
from jaxvision.core.files import first_twice, read_text
from jaxvision.data.sources.annotated import Annotation, Listing, Problem
from jaxvision.data.sources.images import ImageError, image_size, images_below
from jaxvision.data.sources.source import lines_of, number_in
from jaxvision.ops import Polygons

log = logging.getLogger(__name__)


def read_yolo(
    folder: pathlib.Path,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    masks: bool = False,
) -> Listing:
    """Reads the annotations of a split.

    A line is "class x y width height": the class's number, and the centre and size of the box as
    fractions of the upright image's width and height. Or it is "class x1 y1 x2 y2 x3 y3 ...": the
    corners of a polygon, at least three, around which the box is. An image without objects has an
    empty file.

    Args:
      folder: with {split}.txt, a line with an image's path for each, relative to the folder (given
        again, it is read as often); or with images/{split}/. The labels of images/.../NAME.jpg are
        in labels/.../NAME.txt.
      split: "train", "val", ...
      class_names: of the numbers; None: the lines of the folder's classes.txt or obj.names.
      masks: give the polygons as masks too.
    Returns:
      annotations in the list's order, or sorted by the images' names. Where a line of an image has
      a box, the image's masks are None.
    Raises:
      InputError: there are no images; a list cannot be read; or the file of class names has a line
        twice.
      OptionError: there are no class names.
    """
    folder = pathlib.Path(folder)
    images = _images(folder, split)
    names = tuple(_class_names(folder) if class_names is None else class_names)
    annotations, problems = [], []
    for image in images:
        read = _read(image, _label_file(folder, image), len(names), masks=masks)
        if isinstance(read, Annotation):
            annotations.append(read)
        else:
            problems += read
    problems += _without_image(folder, split, images)
    return Listing(tuple(annotations), names, tuple(problems))


def _without_image(
    folder: pathlib.Path, split: str, images: Sequence[pathlib.Path]
) -> list[Problem]:
    """Finds annotations in the split's folder whose image is missing."""
    if (folder / f"{split}.txt").is_file():
        return []  # a list chooses among the images
    known = {_label_file(folder, image) for image in images}
    labels = sorted((folder / "labels" / split).rglob("*.txt"))
    return [
        Problem(str(file), "there is no image to this annotation")
        for file in labels
        if file not in known
    ]


def _images(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
    file, images = folder / f"{split}.txt", folder / "images" / split
    if file.is_file():
        lines = lines_of(file)
        repeated = len(lines) - len(set(lines))
        if repeated:
            log.warning(
                "%s repeats %d of its %d lines: an image is read as often as it is named",
                *(file, repeated, len(lines)),
            )
        found = [folder / line for line in lines]
    else:
        found = images_below(images)
    if not found:
        raise InputError(f"no split {split!r}: there are no images in {images}, and no list {file}")
    return found


def _class_names(folder: pathlib.Path) -> list[str]:
    files = [folder / "classes.txt", folder / "obj.names"]
    for file in files:
        if file.is_file():
            names = lines_of(file)
            twice = first_twice(names)
            if twice is not None:
                raise InputError(f"{file} has the class {one_line(twice)} twice: give each once")
            return names
    raise OptionError(
        "class_names",
        f"class_names is not given, and the folder has none: give them, or write {files[0]} with a "
        "line for each",
    )


def _label_file(folder: pathlib.Path, image: pathlib.Path) -> pathlib.Path:
    """Returns the text file of an image.

    The last "images" in its path below the folder becomes "labels"; without one the text file is
    beside the image.
    """
    below = image.is_relative_to(folder)
    parts = list(image.relative_to(folder).parts if below else image.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
    path = pathlib.Path(*parts)
    return (folder / path if below else path).with_suffix(".txt")


def _read(
    image: pathlib.Path, file: pathlib.Path, num_classes: int, *, masks: bool
) -> Annotation | list[Problem]:
    """Returns a file's annotation, or all that is wrong with it."""
    if not os.path.isfile(image):
        return [Problem(str(image), "there is no such image")]
    try:
        height, width = image_size(image)
    except ImageError as error:
        return [Problem(str(image), f"the image cannot be read ({error.reason})")]
    try:
        lines = read_text(file).splitlines()
    except FileNotFoundError:
        reason = f"the annotation {file} is missing: write an empty file if it has no objects"
        return [Problem(str(image), reason)]
    except (OSError, ValueError) as error:
        return [Problem(str(file), f"the annotation cannot be read ({reason_of(error)})")]
    problems, labels, boxes, polygons = [], [], [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            label, corners = _object(line, (height, width))
        except ValueError:
            problems.append(
                Problem(
                    where,
                    f"is {one_line(line, 100)!r}: give 'class x y width height', or 'class x1 y1 "
                    "x2 y2 x3 y3 ...' with at least three corners, in numbers",
                )
            )
            continue
        if label not in range(num_classes):
            problems.append(
                Problem(where, f"unknown class {label:g}: there are 0 to {num_classes - 1}")
            )
            continue
        labels.append(int(label))
        is_box = len(corners) == 2
        ends = corners if is_box else (corners.min(axis=0), corners.max(axis=0))
        boxes.append(np.concatenate(ends))
        if masks and not is_box:
            try:
                polygons.append(Polygons((corners,)))
            except InputError as error:
                problems.append(Problem(where, f"the polygon cannot be used: {error}"))
    if problems:
        return problems
    return Annotation(
        image=image,
        where=str(file),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        crowd=np.zeros(len(labels), bool),
        difficult=np.zeros(len(labels), bool),
        masks=tuple(polygons) if masks and len(polygons) == len(labels) else None,
    )


def _object(line: str, size: tuple[int, int]) -> tuple[float, np.ndarray]:
    """Returns the class of a line, and the corners of its polygon, or the two of its box.

    Args:
      line: of a file.
      size: (height, width) of the image.
    Returns:
      the number of the class, and f64[P, 2], (x, y) in pixels.
    Raises:
      ValueError: it has another form.
    """
    label, *numbers = map(number_in, line.split())
    if len(numbers) == 4:
        x, y, w, h = numbers
        numbers = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    elif len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(line)
    return label, np.array(numbers).reshape(-1, 2) * np.array([size[::-1]])
