"""Images with boxes: what the readers of annotations give, how it is checked, and its source.

A reader (`read_voc`, `read_coco`, `read_yolo`, `read_instances`) goes through the annotations once
and gives a `Listing`: what it could read, and a `Problem` for each record that it could not.
`AnnotatedImages` is the source over it; it refuses problems, or drops those records if `drop_bad`
is set.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.core import InputError, Record
from jaxvision.data.sources.boxes import box_problems, clip_boxes
from jaxvision.data.sources.images import ImageError, image_size, read_image
from jaxvision.data.sources.skeletons import Skeleton
from jaxvision.data.sources.source import number_of, refuse
from jaxvision.ops import (
    Polygons,
    RunLengths,
    encode_polygons,
    mask_area,
    polygons_have_pixels,
)

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """An image and its objects.

    Attributes:
      image: the image's file.
      where: names the annotation in messages: its file, and its place there.
      boxes: f64[G, 4], xyxy, pixels of the upright image; a pixel's left edge is x, its right edge
        x + 1.
      labels: i64[G], indices into the listing's class names.
      crowd: bool[G], regions of many objects (COCO).
      difficult: bool[G], objects that evaluation ignores (VOC).
      area: f64[G], square pixels, by which COCO sorts objects; None: that of the masks or boxes.
      size: (height, width) of the image in the annotation; None: it gives none.
      masks: the mask of each object as the annotation gives it (see `to_run_lengths`); None: it
        does not give all of them, or they were not read.
      keypoints: f64[G, K, 3], xy, pixels as those of boxes, and visibility: 0 for absent ones (at
        (0, 0)), 1 for hidden ones, 2 for visible ones. None: they were not read.
      identity: id of the image (COCO); None: it has none.
    """

    image: pathlib.Path
    where: str
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    area: np.ndarray | None = None
    size: tuple[int, int] | None = None
    masks: tuple[RunLengths | Polygons, ...] | None = None
    keypoints: np.ndarray | None = None
    identity: int | str | None = None


def to_run_lengths(mask: RunLengths | Polygons, size: tuple[int, int]) -> RunLengths:
    """Returns the run-lengths of an annotation's mask.

    Args:
      mask: of one object.
      size: (height, width) of the image.
    Returns:
      what was given, if it is run-lengths; else those of the polygons' mask.
    """
    return encode_polygons(mask, size) if isinstance(mask, Polygons) else mask


class Problem(NamedTuple):
    """A record that cannot be used: where it is, and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """What a reader found.

    Attributes:
      annotations: one for each image that could be read.
      class_names: of the labels.
      problems: of the records that could not be read.
      skeleton: of the objects' keypoints; None: they have none, or without names.
      category_ids: of each class (COCO); None: there are none.
    """

    annotations: tuple[Annotation, ...]
    class_names: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    skeleton: Skeleton | None = None
    category_ids: tuple[int | str, ...] | None = None


def find_problems(annotation: Annotation, *, decode: bool = False) -> Iterator[Problem]:
    """Finds what is wrong with an image, its boxes or its masks.

    A box must have its corners in order and an area, and must lie within the image. Half a pixel
    beyond it is taken for rounding, in every form of annotations, and `AnnotatedImages` cuts it
    off. Run-lengths must be those of a mask of the image's size, and every mask must have a pixel.

    Args:
      annotation: of the image.
      decode: read the whole image, not just its header; slow, but finds damage further on.
    """
    if not os.path.isfile(annotation.image):
        yield Problem(annotation.where, f"there is no image {annotation.image}")
        return
    try:
        size = read_image(annotation.image).shape[:2] if decode else image_size(annotation.image)
    except ImageError as error:
        yield Problem(str(annotation.image), f"the image cannot be read ({error.reason})")
        return
    has = "the image {2} has {1} x {0}".format(*size, annotation.image)
    if annotation.size not in (None, size):
        said = "{1} x {0}".format(*annotation.size)
        yield Problem(annotation.where, f"says {said} pixels, but {has}, upright")
    for reason in box_problems(annotation.boxes, size):
        yield Problem(annotation.where, reason)
    for number, mask in enumerate(annotation.masks or (), start=1):
        if isinstance(mask, RunLengths) and mask.size != size:
            said = "{1} x {0}".format(*mask.size)
            yield Problem(annotation.where, f"mask {number} has {said} pixels, but {has}")
        elif isinstance(mask, RunLengths) and not mask_area(mask):
            yield Problem(annotation.where, f"mask {number} is empty: give it a pixel at least")
    yield from _empty_polygons(annotation, size)


def _empty_polygons(annotation: Annotation, size: tuple[int, int]) -> Iterator[Problem]:
    masks = enumerate(annotation.masks or (), start=1)
    polygons = {number: mask for number, mask in masks if isinstance(mask, Polygons)}
    have = polygons_have_pixels([*polygons.values()], size)
    for number, has_pixel in zip(polygons, have, strict=True):
        if not has_pixel:
            yield Problem(
                annotation.where,
                f"mask {number} is empty, as its polygons are outside the image or thinner than a "
                "pixel: correct them, or leave the object out",
            )


def sort_out(
    annotations: Iterable[Annotation], *, decode: bool = False
) -> tuple[list[Annotation], list[Problem]]:
    """Separates the annotations without problems from the problems of the others.

    Args:
      annotations: all of them.
      decode: as for `find_problems`.
    """
    sound, problems = [], []
    for annotation in annotations:
        found = list(find_problems(annotation, decode=decode))
        problems += found
        if not found:
            sound.append(annotation)
    return sound, problems


class AnnotatedImages:
    """A source over a listing.

    Args:
      listing: from a reader.
      drop_bad: leave out records with problems, and warn, instead of refusing them.
      name: of the data, for messages.

    Attributes:
      class_names: of the labels.
      skeleton: of the objects' keypoints, as in `Listing`.
      category_ids: of the classes, as in `Listing`.
      dropped: the problems of the records that were left out.
    Raises:
      InputError: there are problems, and they are not to be dropped; lists the first of them.
    """

    def __init__(self, listing: Listing, *, name: str, drop_bad: bool = False):
        kept, found = sort_out(listing.annotations)
        problems = [*listing.problems, *found]
        if not drop_bad:
            advice = "correct them, or leave those records out with drop_bad=True"
            refuse(name, problems, advice=advice)
        if problems:
            log.warning(
                "%s: %d records; others are left out, for %d problems (`jaxvision check-data` "
                "lists them)",
                name,
                len(kept),
                len(problems),
            )
        self.class_names = listing.class_names
        self.skeleton = listing.skeleton
        self.category_ids = listing.category_ids
        self.dropped = tuple(problems)
        self._annotations = tuple(kept)
        self._ids = _image_ids(kept)

    def __len__(self) -> int:
        return len(self._annotations)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3], its "size" (H, W), "boxes" in it, and "labels",
        "crowd", "difficult", "area", "masks" and "keypoints" as in `Annotation`."""
        annotation = self._annotations[index]
        try:
            image = read_image(annotation.image)
        except ImageError as error:
            raise InputError(f"{error}; `jaxvision check-data` finds all such images") from error
        return {"image": image, **_target(annotation, image.shape[:2])}

    def where(self, index: int) -> str:
        return self._annotations[index].where

    def target(self, index: int) -> Record:
        """Returns the record without "image"; reads the image's header at most."""
        annotation = self._annotations[index]
        return _target(annotation, annotation.size or image_size(annotation.image))

    def image_file(self, index: int) -> pathlib.Path:
        """The file of a record's image."""
        return self._annotations[index].image

    def image_id(self, index: int) -> int | str:
        """What an image is called in COCO's form of results, see `image_id_of`.

        It is its id in COCO's form, otherwise the name of its file without the suffix: a number if
        the names of all images are numbers ("000000000139.jpg" is 139). Where the names are not
        unique, they are preceded by those of the folders.
        """
        return self._ids[index]

    @property
    def box_counts(self) -> list[int]:
        """How many boxes each record has; no image is read."""
        return [len(annotation.boxes) for annotation in self._annotations]


def _image_ids(annotations: Sequence[Annotation]) -> list[int | str]:
    """Unique names of the images, see `AnnotatedImages.image_id`."""
    ids = [annotation.identity for annotation in annotations]
    if None not in ids and len(set(ids)) == len(ids):
        return ids
    files = [annotation.image.with_suffix("") for annotation in annotations]
    ids = [file.name for file in files]
    numbers = [number_of(name) for name in ids]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return numbers
    if len(set(ids)) == len(ids):
        return ids
    files = [pathlib.Path(os.path.abspath(file)) for file in files]
    above = os.path.commonpath([file.parent for file in files])
    ids = [file.relative_to(above).as_posix() for file in files]
    if len(set(ids)) == len(ids):
        return ids
    # Of images that differ in their suffix alone, or that are listed twice.
    return [f"{identity}#{number}" for number, identity in enumerate(ids)]


def _target(annotation: Annotation, size: tuple[int, int]) -> Record:
    return {
        "boxes": clip_boxes(annotation.boxes, size),
        "labels": annotation.labels,
        "crowd": annotation.crowd,
        "difficult": annotation.difficult,
        "area": annotation.area,
        "masks": annotation.masks,
        "keypoints": annotation.keypoints,
        "size": size,
    }
