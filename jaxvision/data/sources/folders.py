"""Folders of images with boxes, in each of the forms that there is a reader for."""

import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

from jaxvision.core import InputError, OptionError, lookup
from jaxvision.data.sources.annotated import AnnotatedImages, Listing
from jaxvision.data.sources.coco import read_coco
from jaxvision.data.sources.instances import read_instances
from jaxvision.data.sources.source import as_path
from jaxvision.data.sources.voc import read_voc
from jaxvision.data.sources.yolo_txt import read_yolo

COCO_LAYOUTS = (
    ("annotations/instances_{split}.json", "{split}"),
    ("annotations/{split}.json", "images/{split}"),
    ("annotations/{split}.json", "images"),
    ("{split}/_annotations.coco.json", "{split}"),
    ("{split}.json", "images"),
)
"""Where the annotations and the images of a split may be, below a folder in COCO's form."""
_KEYPOINT_LAYOUTS = (("annotations/person_keypoints_{split}.json", "{split}"), *COCO_LAYOUTS)


def _voc(
    folder: pathlib.Path,
    split: str,
    *,
    class_names: Sequence[str] | None,
    first_pixel: int,
    masks: bool,
    keypoints: bool,
) -> Listing:
    return read_voc(folder, split, class_names=class_names, first_pixel=first_pixel)


def _coco_places(
    folder: pathlib.Path, split: str, *, keypoints: bool
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Yields the file and the images by each of `COCO_LAYOUTS`; COCO's file of keypoints first."""
    for file, images in _KEYPOINT_LAYOUTS if keypoints else COCO_LAYOUTS:
        yield folder / file.format(split=split), folder / images.format(split=split)


def _has_coco(file: pathlib.Path, images: pathlib.Path) -> bool:
    return file.is_file() and images.is_dir()


def _coco(
    folder: pathlib.Path,
    split: str,
    *,
    class_names: Sequence[str] | None,
    first_pixel: int,
    masks: bool,
    keypoints: bool,
) -> Listing:
    places = list(_coco_places(folder, split, keypoints=keypoints))
    for file, images in places:
        if _has_coco(file, images):
            return read_coco(file, images, masks=masks, keypoints=keypoints)
    tried = "".join(f"\n  {file} with {images}" for file, images in places)
    raise InputError(
        f"no split {split!r} of COCO's form in {folder}: name the folder and the split so that "
        f"there is one of{tried}"
    )


def _yolo(
    folder: pathlib.Path,
    split: str,
    *,
    class_names: Sequence[str] | None,
    first_pixel: int,
    masks: bool,
    keypoints: bool,
) -> Listing:
    return read_yolo(folder, split, class_names=class_names, masks=masks)


def _instances(
    folder: pathlib.Path,
    split: str,
    *,
    class_names: Sequence[str] | None,
    first_pixel: int,
    masks: bool,
    keypoints: bool,
) -> Listing:
    return read_instances(folder, split, class_names=class_names, masks=masks)


FORMS: dict[str, Callable[..., Listing]] = {
    "voc": _voc,
    "coco": _coco,
    "yolo": _yolo,
    "instances": _instances,
}
"""Name -> (folder, split, *, class_names, first_pixel, masks, keypoints) -> Listing."""


def find_form(path: str | os.PathLike[str], split: str) -> str:
    """Finds the form that a folder is in, by the names of what is in it.

    Args:
      path: of the folder.
      split: as for `list_folder`.
    Returns:
      a key of `FORMS`.
    Raises:
      OptionError: no form fits, or several do.
    """
    part, name = next(_parts(as_path(path), split))
    fits = {
        "voc": (part / "Annotations").is_dir() and (part / "ImageSets").is_dir(),
        "coco": any(_has_coco(*place) for place in _coco_places(part, name, keypoints=True)),
        "yolo": (part / "labels").is_dir() or (part / f"{name}.txt").is_file(),
        "instances": (part / "instances").is_dir(),
    }
    found = [form for form, fit in fits.items() if fit]
    if len(found) != 1:
        what = f"fits several forms ({', '.join(found)})" if found else "fits no form"
        raise OptionError(
            "form",
            f"form is not given, and {part} {what} for the split {name!r}: check folder and split, "
            f"or give one of {', '.join(FORMS)}",
        )
    return found[0]


def _parts(folder: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, str]]:
    """Yields the folder and the name of each part of a split."""
    for part in split.split("+"):
        below, _, name = part.strip().rpartition("/")
        yield folder / below, name


def list_folder(
    path: str | os.PathLike[str],
    form: str | None,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    first_pixel: int = 1,
    masks: bool = False,
    keypoints: bool = False,
) -> Listing:
    """Lists what a folder has, with all that is wrong with it.

    Args:
      path: of the folder.
      form: a key of `FORMS`; None: the one that `find_form` finds.
      split: its name, or several parts, "VOC2007/trainval+VOC2012/trainval": what is before the
        last slash is a folder below `path`.
      class_names: of the labels, in their order (all but coco, which has its own); None or ():
        those that the data names.
      first_pixel: what the files call the first pixel (voc).
      masks: read the objects' masks too (all but voc).
      keypoints: read the objects' keypoints too (coco).
    Raises:
      InputError: there is no such folder or split.
      OptionError: the form is unknown or cannot be found, or the parts have different classes.
    """
    folder = as_path(path)
    read = lookup(FORMS, find_form(folder, split) if form is None else form, "form")
    options = {
        "class_names": class_names or None,
        "first_pixel": first_pixel,
        "masks": masks,
        "keypoints": keypoints,
    }
    listings = [read(*part, **options) for part in _parts(folder, split)]
    first = listings[0]
    for listing in listings[1:]:
        if listing.class_names != first.class_names:
            raise OptionError(
                "class_names",
                f"class_names is not given, and the parts of {split} have different classes "
                f"({', '.join(first.class_names)}; {', '.join(listing.class_names)}): give the "
                "names of all",
            )
        if listing.skeleton != first.skeleton:
            raise InputError(
                f"the parts of {split} have different keypoints: use them one at a time"
            )
    ids = {listing.category_ids for listing in listings}
    return Listing(
        tuple(itertools.chain.from_iterable(listing.annotations for listing in listings)),
        first.class_names,
        tuple(itertools.chain.from_iterable(listing.problems for listing in listings)),
        first.skeleton,
        first.category_ids if len(ids) == 1 else None,
    )


class VocFolder(AnnotatedImages):
    """A source over a folder in Pascal VOC's form: Annotations, JPEGImages and ImageSets/Main.

    Args:
      path: of the folder.
      split: names ImageSets/Main/SPLIT.txt; or several parts, as for `list_folder`.
      class_names: of the labels, in their order; None: all that occur in the folder's annotations,
        sorted.
      drop_bad: leave out records with problems, and warn, instead of refusing them.
      first_pixel: what the files call the first pixel, 1 in VOC.

    Attributes and errors are those of `AnnotatedImages` and `list_folder`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        class_names: Sequence[str] | None = None,
        drop_bad: bool = False,
        first_pixel: int = 1,
    ):
        listing = list_folder(path, "voc", split, class_names=class_names, first_pixel=first_pixel)
        super().__init__(listing, name=f"{path} {split}", drop_bad=drop_bad)


class CocoFolder(AnnotatedImages):
    """A source over a folder in COCO's form, with its files by one of `COCO_LAYOUTS`.

    Args:
      path: of the folder.
      split: as in the files' names, such as "train2017"; or several parts, as for `list_folder`.
      masks: read the objects' masks too, which need far more memory than all else.
      keypoints: read the objects' keypoints too, from annotations/person_keypoints_SPLIT.json if
        there is such a file.
      drop_bad: leave out records with problems, and warn, instead of refusing them.

    Attributes and errors are those of `AnnotatedImages` and `list_folder`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        masks: bool = False,
        keypoints: bool = False,
        drop_bad: bool = False,
    ):
        listing = list_folder(path, "coco", split, masks=masks, keypoints=keypoints)
        super().__init__(listing, name=f"{path} {split}", drop_bad=drop_bad)


class YoloFolder(AnnotatedImages):
    """A source over a folder of YOLO's text files, as `read_yolo` describes it.

    Args:
      path: of the folder.
      split: "train", "val", ...; or several parts, as for `list_folder`.
      class_names: of the numbers 0, 1, ...; None: the lines of the folder's classes.txt or
        obj.names.
      masks: read polygons as masks too.
      drop_bad: leave out records with problems, and warn, instead of refusing them.

    Attributes and errors are those of `AnnotatedImages` and `list_folder`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        class_names: Sequence[str] | None = None,
        masks: bool = False,
        drop_bad: bool = False,
    ):
        listing = list_folder(path, "yolo", split, class_names=class_names, masks=masks)
        super().__init__(listing, name=f"{path} {split}", drop_bad=drop_bad)


class InstanceFolder(AnnotatedImages):
    """A source over a folder of images and label images of objects, see `read_instances`.

    Args:
      path: of the folder.
      split: "train", "val", ...; or several parts, as for `list_folder`.
      class_names: of the labels, in their order; None: the lines of the folder's classes.txt, or
        one class, "object".
      masks: give the objects' masks, not just their boxes.
      drop_bad: leave out records with problems, and warn, instead of refusing them.

    Attributes and errors are those of `AnnotatedImages` and `list_folder`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        class_names: Sequence[str] | None = None,
        masks: bool = True,
        drop_bad: bool = False,
    ):
        listing = list_folder(path, "instances", split, class_names=class_names, masks=masks)
        super().__init__(listing, name=f"{path} {split}", drop_bad=drop_bad)
