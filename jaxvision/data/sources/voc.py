"""Pascal VOC's folders: Annotations/*.xml, JPEGImages/*, ImageSets/Main/*.txt."""

import math
import os
import pathlib
import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import defusedxml
import numpy as np
from defusedxml import ElementTree

from jaxvision.core import InputError, listed, one_line, reason_of
from jaxvision.core.files import check_regular, first_twice, read_text
from jaxvision.data.sources.annotated import Annotation, Listing, Problem
from jaxvision.data.sources.source import number_in

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_ERRORS = (
    *(OSError, ValueError, LookupError),  # the latter two for encodings
    *(ElementTree.ParseError, defusedxml.DefusedXmlException),
)
"""The errors of reading an XML file."""
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG")


def read_voc(
    folder: pathlib.Path,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    first_pixel: int = 1,
) -> Listing:
    """Reads the annotations of a split.

    Args:
      folder: that has Annotations, JPEGImages and ImageSets.
      split: names ImageSets/Main/{split}.txt, see `read_names`.
      class_names: of the labels, in their order; None: all that occur in the folder's annotations,
        sorted, the same for each split.
      first_pixel: what the files call the first pixel, 1 in VOC. A box includes its last pixel.
    Returns:
      annotations in the split's order. `difficult` is False where a file does not give it.
    Raises:
      InputError: there is no such folder or split.
    """
    folder = pathlib.Path(folder)
    names = read_names(folder, "Main", split, annotation="Annotations/{}.xml")
    if class_names is None:
        class_names = _class_names(folder)
    annotations, problems = [], []
    for name in names:
        file = folder / "Annotations" / f"{name}.xml"
        read = _read(file, _image_file(folder, name), tuple(class_names), first_pixel)
        if isinstance(read, Annotation):
            annotations.append(read)
        else:
            problems += read
    return Listing(tuple(annotations), tuple(class_names), tuple(problems))


def read_names(folder: pathlib.Path, kind: str, split: str, *, annotation: str) -> list[str]:
    """Reads the images' names of a split.

    A line has the name of an image, and in the lists of one class also -1, 0 or 1. Names may have
    spaces.

    Args:
      folder: in VOC's form.
      kind: of the lists: "Main" or "Segmentation", a folder in ImageSets.
      split: names ImageSets/{kind}/{split}.txt.
      annotation: the file of a name's annotation, below the folder.
    Raises:
      InputError: there is no such split, its list cannot be read, or names an image twice.
    """
    file = folder / "ImageSets" / kind / f"{split}.txt"
    try:
        lines = read_text(file).splitlines()
    except OSError as error:
        known = sorted(path.stem for path in file.parent.glob("*.txt"))
        hint = f"there are {listed(known)}" if known else "is this a folder in VOC's form?"
        raise InputError(
            f"no split {split!r}: {file} cannot be read ({error.strerror}): {hint}"
        ) from error
    except ValueError as error:
        raise InputError(f"{file} cannot be read ({error}): store it in UTF-8") from error
    names = []
    for line in filter(None, map(str.strip, lines)):
        in_class = re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line)
        whole = in_class is None or os.path.isfile(folder / annotation.format(line))
        names.append(line if whole else in_class[1])
    twice = first_twice(names)
    if twice is not None:
        raise InputError(f"{file} names {one_line(twice)} twice: give each image once")
    return names


def _image_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    images = folder / "JPEGImages"
    files = [images / f"{name}{suffix}" for suffix in _SUFFIXES]
    return next(filter(os.path.isfile, files), files[0])


def _class_names(folder: pathlib.Path) -> tuple[str, ...]:
    names = set()
    for file in (folder / "Annotations").glob("*.xml"):
        try:
            root = _parse(file)
        except _ERRORS:
            continue  # a problem of the record, if it is in the split
        names |= {_texts(element, "name")[0] for element in root.iter("object")} - {None}
    return tuple(sorted(names))


def _parse(file: pathlib.Path) -> Element:
    check_regular(file)
    return ElementTree.parse(file, forbid_dtd=True).getroot()


def _texts(element: Element, path: str) -> list[str | None]:
    """Returns the text of each element at a path, [None] if there is none; None is for blanks."""
    return [(found.text or "").strip() or None for found in element.findall(path)] or [None]


def _read(
    file: pathlib.Path, image: pathlib.Path, class_names: tuple[str, ...], first_pixel: int
) -> Annotation | list[Problem]:
    """Returns a file's annotation, or all that is wrong with it."""
    where = str(file)
    try:
        root = _parse(file)
    except FileNotFoundError:
        return [Problem(where, "there is no such annotation")]
    except _ERRORS as error:
        return [Problem(where, f"the annotation cannot be read ({reason_of(error)})")]
    if root.tag != "annotation":
        return [Problem(where, f"its root is {one_line(root.tag, 50)!r}: it must be 'annotation'")]
    problems, boxes, labels, difficult = [], [], [], []

    def text(element: Element, path: str, what: str) -> str | None:
        first, *others = _texts(element, path)
        if others:
            problems.append(Problem(where, f"{what}{path} is given {1 + len(others)} times"))
        return first

    def number(element: Element, path: str, what: str = "") -> float:
        given = text(element, path, what)
        try:
            return number_in(given or "")
        except ValueError:
            problems.append(Problem(where, f"{what}{path} is {given!r}: give a number"))
            return math.nan

    for index, element in enumerate(root.iter("object"), start=1):
        what = f"object {index}: "
        name = text(element, "name", what)
        if name not in class_names:
            known = listed(class_names)
            problems.append(Problem(where, f"{what}unknown class {name!r}: known are {known}"))
            continue
        x1, y1, x2, y2 = (
            number(element, f"bndbox/{side}", what) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        start, end = first_pixel, first_pixel - 1
        boxes.append((x1 - start, y1 - start, x2 - end, y2 - end))
        labels.append(class_names.index(name))
        hard = text(element, "difficult", what)
        if hard not in (None, "0", "1"):
            problems.append(Problem(where, f"{what}difficult is {hard!r}: give 0 or 1"))
        difficult.append(hard == "1")
    size = None
    if root.find("size") is not None:
        height, width = (number(root, f"size/{side}") for side in ("height", "width"))
        size = (height, width) if height and width else None  # some tools write 0
        if size and any(math.isfinite(x) and not x.is_integer() for x in size):
            problems.append(Problem(where, f"size is {width:g} x {height:g}: give whole pixels"))
    if problems:
        return problems
    return Annotation(
        image=image,
        where=where,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        crowd=np.zeros(len(labels), bool),
        difficult=np.array(difficult, bool),
        size=size and (int(size[0]), int(size[1])),
    )
