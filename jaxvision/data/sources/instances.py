"""Images with label images of their objects: each pixel has the number of its object."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxvision.core import InputError, one_line, reason_of
from jaxvision.core.files import read_text
from jaxvision.data.sources.annotated import Annotation, Listing, Problem
from jaxvision.data.sources.images import ImageError, images_below, opened
from jaxvision.data.sources.source import lines_of
from jaxvision.ops import RunLengths, encode_mask, mask_to_box

ONE_CLASS = ("object",)
"""The class names of a folder that names none."""


def read_instances(
    folder: pathlib.Path,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    masks: bool = True,
) -> Listing:
    """Reads the objects of a split from label images, one beside each image.

    The label image of images/SPLIT/NAME.jpg is instances/SPLIT/NAME.png, grey or palette of 8 bits,
    or grey of 16 bits. 0 is the background; every other number is an object, and numbers may be
    left out. The classes of the objects are in instances/SPLIT/NAME.txt, with a line "number class"
    for each object, where class is one of the class names. Without this file all objects have the
    only class. Boxes are around the objects' pixels. To read the data of Penn-Fudan, whose label
    images are of this form, move PNGImages/*.png to images/SPLIT and PedMasks/NAME_mask.png to
    instances/SPLIT/NAME.png.

    Args:
      folder: with images/SPLIT and instances/SPLIT.
      split: "train", "val", ...
      class_names: of the labels, in their order; None: the lines of the folder's classes.txt, or
        `ONE_CLASS` without such a file.
      masks: give the objects' masks, not just their boxes.
    Returns:
      annotations sorted by the images' names; objects in the order of their numbers.
    Raises:
      InputError: there are no images.
    """
    folder = pathlib.Path(folder)
    images = folder / "images" / split
    found = images_below(images)
    if not found:
        raise InputError(f"no split {split!r}: there are no images in {images}")
    names = tuple(class_names or _class_names(folder))
    annotations, problems = [], []
    for image in found:
        file = (folder / "instances" / split / image.relative_to(images)).with_suffix(".png")
        try:
            annotations.append(_read(image, file, names, masks=masks))
        except InputError as error:
            reason = error.reason if isinstance(error, ImageError) else str(error)
            problems.append(Problem(str(file), reason))
    return Listing(tuple(annotations), names, tuple(problems))


def _class_names(folder: pathlib.Path) -> Sequence[str]:
    file = folder / "classes.txt"
    return lines_of(file) if file.is_file() else ONE_CLASS


def _read(
    image: pathlib.Path, file: pathlib.Path, class_names: Sequence[str], *, masks: bool
) -> Annotation:
    """Reads the objects of an image; raises InputError if they cannot be used."""
    if not os.path.isfile(file):
        raise InputError("is missing: write a label image of zeros if there are no objects")
    with opened(file) as label_image:
        numbers = _numbers_of(label_image)
    objects = {
        number: encode_mask(numbers == number) for number in np.unique(numbers).tolist() if number
    }
    labels = _labels(file.with_suffix(".txt"), objects, class_names)
    return Annotation(
        image=image,
        where=str(file),
        boxes=np.array([mask_to_box(mask) for mask in objects.values()]).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        crowd=np.zeros(len(labels), bool),
        difficult=np.zeros(len(labels), bool),
        size=numbers.shape,
        masks=tuple(objects.values()) if masks else None,
    )


def _numbers_of(image: Image.Image) -> np.ndarray:
    if image.mode not in ("1", "L", "P", "I;16", "I;16B", "I"):
        raise ValueError(
            f"a label image of mode {image.mode}: store it as palette or grey, of 8 or 16 bits"
        )
    return np.asarray(image).astype(np.int64)


def _labels(
    file: pathlib.Path, objects: dict[int, RunLengths], class_names: Sequence[str]
) -> list[int]:
    """Returns the label of each object, from the text file of an image if there is one."""
    if not file.is_file():
        if len(class_names) > 1 and objects:
            raise InputError(
                f"there is no {file.name} beside it, and there are {len(class_names)} classes: "
                "write a line 'number class' for each object"
            )
        return [0] * len(objects)
    try:
        lines = read_text(file).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{file.name} beside it cannot be read ({reason_of(error)})") from error
    labels: dict[int, int] = {}
    for count, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file.name} beside it, line {count},"
        number, _, name = line.strip().partition(" ")
        if not number.isdecimal() or not name.strip():
            raise InputError(f"{where} is {one_line(line, 100)!r}: give 'number class'")
        if name.strip() not in class_names:
            raise InputError(
                f"{where} has the unknown class {one_line(name.strip(), 100)!r}: the classes are "
                f"{', '.join(class_names)}"
            )
        if int(number) not in objects:
            raise InputError(f"{where} has the object {number}, of which there is no pixel")
        if int(number) in labels:
            raise InputError(f"{where} has the object {number} again: give each once")
        labels[int(number)] = class_names.index(name.strip())
    missing = [number for number in objects if number not in labels]
    if missing:
        raise InputError(f"{file.name} beside it has no line for the object {missing[0]}: add it")
    return [labels[number] for number in objects]
