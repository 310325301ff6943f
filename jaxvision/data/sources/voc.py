"""Pascal VOC's folders: Annotations/*.xml, JPEGImages/*, ImageSets/Main/*.txt."""

import pathlib
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import defusedxml
import numpy as np
from defusedxml import ElementTree

from jaxvision.core import InputError
from jaxvision.data.sources.annotated import Annotation, Listing, Problem

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
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
      split: names ImageSets/Main/{split}.txt, a line with an image's name for each.
      class_names: of the labels, in their order; None: all that occur in the folder's annotations,
        sorted, the same for each split.
      first_pixel: what the files call the first pixel, 1 in VOC. A box includes its last pixel.
    Returns:
      annotations in the split's order. `difficult` is False where a file does not give it.
    Raises:
      InputError: there is no such folder or split.
    """
    folder = pathlib.Path(folder)
    names = _names(folder, split)
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


def _names(folder: pathlib.Path, split: str) -> list[str]:
    file = folder / "ImageSets" / "Main" / f"{split}.txt"
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        known = sorted(path.stem for path in file.parent.glob("*.txt"))
        hint = f"there are {', '.join(known)}" if known else "is this a folder in VOC's form?"
        raise InputError(
            f"no split {split!r}: {file} cannot be read ({error.strerror}): {hint}"
        ) from error
    # A file of one class has a second column.
    names = [line.split()[0] for line in lines if line.strip()]
    twice = {name for name in names if names.count(name) > 1} if len({*names}) < len(names) else ()
    if twice:
        raise InputError(f"{file} names {min(twice)} twice: give each image once")
    return names


def _image_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    images = folder / "JPEGImages"
    files = [images / f"{name}{suffix}" for suffix in _SUFFIXES]
    return next((file for file in files if file.is_file()), files[0])


def _class_names(folder: pathlib.Path) -> tuple[str, ...]:
    names = set()
    for file in (folder / "Annotations").glob("*.xml"):
        try:
            root = _parse(file)
        except (OSError, ElementTree.ParseError, defusedxml.DefusedXmlException):
            continue  # a problem of the record, if it is in the split
        names |= {_text(element, "name") for element in root.iter("object")} - {None}
    return tuple(sorted(names))


def _parse(file: pathlib.Path) -> Element:
    return ElementTree.parse(file, forbid_dtd=True).getroot()


def _text(element: Element, path: str) -> str | None:
    found = element.findtext(path)
    return found.strip() if found and found.strip() else None


def _read(
    file: pathlib.Path, image: pathlib.Path, class_names: tuple[str, ...], first_pixel: int
) -> Annotation | list[Problem]:
    """Returns a file's annotation, or all that is wrong with it."""
    where = str(file)
    try:
        root = _parse(file)
    except FileNotFoundError:
        return [Problem(where, "there is no such annotation")]
    except (OSError, ElementTree.ParseError, defusedxml.DefusedXmlException) as error:
        return [Problem(where, f"the annotation cannot be read ({error})")]
    problems, boxes, labels, difficult = [], [], [], []

    def number(element: Element, path: str, what: str) -> float:
        text = _text(element, path)
        try:
            return float(text)
        except (TypeError, ValueError):
            problems.append(Problem(where, f"{what} {path} is {text!r}: give a number"))
            return float("nan")

    for index, element in enumerate(root.iter("object"), start=1):
        what = f"object {index}:"
        name = _text(element, "name")
        if name not in class_names:
            known = ", ".join(class_names)
            problems.append(Problem(where, f"{what} unknown class {name!r}: known are {known}"))
            continue
        x1, y1, x2, y2 = (
            number(element, f"bndbox/{side}", what) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        start, end = first_pixel, first_pixel - 1
        boxes.append((x1 - start, y1 - start, x2 - end, y2 - end))
        labels.append(class_names.index(name))
        difficult.append(_text(element, "difficult") not in (None, "0"))
    size = None
    if root.find("size") is not None:
        height, width = (number(root, f"size/{side}", "") for side in ("height", "width"))
        size = (height, width) if height and width else None  # some tools write 0
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
