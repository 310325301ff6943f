"""Folders of a user's own, in any of the forms that the readers know, as a config names them."""

import itertools
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from jaxvision.core import InputError, lookup
from jaxvision.data.sources.annotated import AnnotatedImages, Listing
from jaxvision.data.sources.coco import read_coco
from jaxvision.data.sources.source import data_folder, own_split
from jaxvision.data.sources.voc import read_voc
from jaxvision.data.sources.yolo_txt import read_yolo
from jaxvision.data.transforms.detection import check_box_count

log = logging.getLogger(__name__)

COCO_LAYOUTS = (
    ("annotations/instances_{split}.json", "{split}"),
    ("annotations/{split}.json", "images/{split}"),
    ("annotations/{split}.json", "images"),
    ("{split}/_annotations.coco.json", "{split}"),
    ("{split}.json", "images"),
)
"""Where the annotations and the images of a split may be, below a folder in COCO's form."""


def _voc(folder: pathlib.Path, split: str, data: Any) -> Listing:
    names = data.class_names or None
    return read_voc(folder, split, class_names=names, first_pixel=data.first_pixel)


def _coco_places(folder: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """File and images by each of `COCO_LAYOUTS`."""
    for file, images in COCO_LAYOUTS:
        yield folder / file.format(split=split), folder / images.format(split=split)


def _has_coco(file: pathlib.Path, images: pathlib.Path) -> bool:
    return file.is_file() and images.is_dir()


def _coco(folder: pathlib.Path, split: str, data: Any) -> Listing:
    for file, images in _coco_places(folder, split):
        if _has_coco(file, images):
            return read_coco(file, images, masks=data.masks)
    tried = "".join(f"\n  {file} with {images}" for file, images in _coco_places(folder, split))
    raise InputError(
        f"no split {split!r} of COCO's form in {folder}: name the folder and the split so that "
        f"there is one of{tried}"
    )


def _yolo(folder: pathlib.Path, split: str, data: Any) -> Listing:
    return read_yolo(folder, split, class_names=data.class_names or None)


FORMS: dict[str, Callable[[pathlib.Path, str, Any], Listing]] = {
    "voc": _voc,
    "coco": _coco,
    "yolo": _yolo,
}
"""Name -> (folder, split, config.data) -> Listing."""


def find_form(folder: pathlib.Path, split: str) -> str:
    """The form that a folder is in, by the names of what is in it.

    Args:
      folder: of the data.
      split: as for `list_folder`.
    Returns:
      a key of `FORMS`.
    Raises:
      InputError: none fits, or several do.
    """
    part, name = next(_parts(folder, split))
    fits = {
        "voc": (part / "Annotations").is_dir() and (part / "ImageSets").is_dir(),
        "coco": any(_has_coco(*place) for place in _coco_places(part, name)),
        "yolo": (part / "labels").is_dir() or (part / f"{name}.txt").is_file(),
    }
    found = [form for form, fit in fits.items() if fit]
    if len(found) != 1:
        what = f"fits several forms ({', '.join(found)})" if found else "fits no form"
        raise InputError(
            f"{part} {what} for the split {name!r}: check folder and split, or give --form, one "
            f"of {', '.join(FORMS)}"
        )
    return found[0]


def _parts(folder: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, str]]:
    """Folder and name of each part of a split."""
    for part in split.split("+"):
        below, _, name = part.strip().rpartition("/")
        yield folder / below, name


def list_folder(data: Any, split: str) -> Listing:
    """What a folder has, with all that is wrong with it.

    Args:
      data: config with `source` (a key of `FORMS`), `dir`, `class_names` (empty: those that the
        data names), `first_pixel` and `masks`.
      split: its name, or several parts, "VOC2007/trainval+VOC2012/trainval": what is before the
        last slash is a folder below `dir`.
    Raises:
      InputError: there is no such folder or split, or its parts have other classes.
    """
    read = lookup(FORMS, data.source, "config.data.source")
    folder = data_folder(data)
    listings = [read(*part, data) for part in _parts(folder, split)]
    first = listings[0]
    for listing in listings[1:]:
        if listing.class_names != first.class_names:
            raise InputError(
                f"the parts of {split} have other classes ({', '.join(first.class_names)}; "
                f"{', '.join(listing.class_names)}): give config.data.class_names"
            )
    return Listing(
        tuple(itertools.chain.from_iterable(listing.annotations for listing in listings)),
        first.class_names,
        tuple(itertools.chain.from_iterable(listing.problems for listing in listings)),
    )


def open_folder(data: Any, split: str) -> AnnotatedImages:
    """The records of a split of a folder.

    Args:
      data: as for `list_folder`, and `train_split`, `test_split`, `drop_bad` and `max_boxes`.
      split: "train" and "test" stand for the config's `train_split` and `test_split`; any other
        name is the folder's own.
    Raises:
      InputError: as `list_folder`; or there are bad records, and they are not to be dropped; or
        a record has more boxes than `max_boxes`.
    """
    split = own_split(data, split)
    name = f"{data.dir} {split}"
    source = AnnotatedImages(list_folder(data, split), name=name, drop_bad=data.drop_bad)
    if source.dropped:
        log.warning(
            "%s: %d records; others are left out, for %d problems (`jaxvision check-data` lists "
            "them)",
            name,
            len(source),
            len(source.dropped),
        )
    counts = source.box_counts()
    if counts:
        most = max(counts)
        check_box_count(most, data.max_boxes, source.where(counts.index(most)))
    return source
